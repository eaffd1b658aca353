"""What Triton's example `ensemble_image_client` does: files go to a model of BYTES as they are, in one batch.

Takes the service's address, a model and files of pictures.
"""

import json
import sys

import numpy as np
import tritonclient.http as triton

url, model, *files = sys.argv[1:]
client = triton.InferenceServerClient(url.removeprefix("http://"))
metadata, config = client.get_model_metadata(model), client.get_model_config(model)
assert len(metadata["inputs"]) == len(metadata["outputs"]) == 1
assert config["max_batch_size"] >= len(files)

data = [np.fromfile(file, np.uint8) for file in files]
batch = np.array([[one.tobytes()] for one in data], np.object_)
asked = triton.InferInput(metadata["inputs"][0]["name"], batch.shape, "BYTES")
asked.set_data_from_numpy(batch)
wanted = triton.InferRequestedOutput(metadata["outputs"][0]["name"], class_count=1)
answer = client.infer(model, [asked], outputs=[wanted])
rows = answer.as_numpy(metadata["outputs"][0]["name"])
assert len(rows) == len(files)
print(json.dumps([[element.decode().split(":") for element in row] for row in rows]))
