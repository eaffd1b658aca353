"""What Triton's example `image_client` does: find out what a model takes, make that of a picture, ask for classes.

Takes the service's address, a model and a file of pixels (H, W, 3) of the model's size, as NumPy writes them.
"""

import json
import sys

import numpy as np
import tritonclient.http as triton

url, model, file = sys.argv[1:]
client = triton.InferenceServerClient(url.removeprefix("http://"))
metadata, config = client.get_model_metadata(model), client.get_model_config(model)

(taken,), (given,) = metadata["inputs"], metadata["outputs"]
(configured,), (scored,) = config["input"], config["output"]
assert config["max_batch_size"] > 0
assert given["datatype"] == "FP32"
assert len([size for size in given["shape"][1:] if size > 1]) == 1  # a vector for each picture
assert len(taken["shape"]) == 4
assert configured["format"] == "FORMAT_NCHW"
_, channels, height, width = taken["shape"]

pixels = np.load(file)
assert pixels.shape == (height, width, channels)
scaled = (pixels.astype(np.float32) / 127.5 - 1) * 2  # (x / 255 - 0.5) / 0.25, the model's own
batch = np.stack([scaled.transpose(2, 0, 1)] * 2)

asked = triton.InferInput(taken["name"], batch.shape, taken["datatype"])
asked.set_data_from_numpy(batch)
wanted = triton.InferRequestedOutput(given["name"], class_count=3)
answer = client.infer(model, [asked], request_id="1", outputs=[wanted])
rows = answer.as_numpy(given["name"])
print(json.dumps([[element.decode().split(":") for element in row] for row in rows]))
