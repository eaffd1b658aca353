"""Triton's client over HTTP: everything that it can ask, in binary and in JSON, compressed both ways.

Takes the service's address, a model and a file of a picture.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

url, model, picture = sys.argv[1:]
client = triton.InferenceServerClient(url.removeprefix("http://"))
face = f"{model}-explain"


def image(binary):
    given = triton.InferInput("image", [1, 1], "BYTES")
    return given.set_data_from_numpy(np.array([[Path(picture).read_bytes()]], np.object_), binary_data=binary)


def asked(binary, names=("map", "scores", "overlay"), **options):
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
    return client.infer(face, [image(True)], outputs=wanted, parameters={"target": "star"}, **options)


def refusal(call):
    try:
        call()
    except InferenceServerException as error:
        return error.message(), error.status()
    return None


binary, text = asked(True, request_id="mine"), asked(False)
arrays = {f"{name} in binary": binary.as_numpy(name) for name in ("map", "scores")}
arrays |= {f"{name} in JSON": text.as_numpy(name) for name in ("map", "scores")}
arrays["overlay in binary"] = np.frombuffer(binary.as_numpy("overlay")[0, 0], np.uint8)
arrays["overlay in JSON"] = np.frombuffer(text.as_numpy("overlay")[0, 0].encode(), np.uint8)
for coding in ("gzip", "deflate"):
    packed = asked(True, request_compression_algorithm=coding, response_compression_algorithm=coding)
    arrays[f"map in {coding}"] = packed.as_numpy("map")
whole = client.infer(face, [image(True)], parameters={"target": "star"})  # no outputs: all in binary
arrays["map of all"] = whole.as_numpy("map")

classes = triton.InferRequestedOutput("scores", binary_data=True, class_count=3)
labels = client.infer(model, [image(True)], outputs=[classes]).as_numpy("scores")

deferred = client.async_infer(face, [image(True)], outputs=[triton.InferRequestedOutput("map")]).get_result()
pixels = np.zeros((1, 3, 8, 8), np.uint8)
wrong = triton.InferInput("image", pixels.shape, "FP32").set_data_from_numpy(pixels.astype(np.float32))

np.savez("arrays.npz", **arrays)
said = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model ready": client.is_model_ready(model),
    "version ready": client.is_model_ready(face, "1"),
    "nothing ready": client.is_model_ready("nothing"),
    "server": client.get_server_metadata(),
    "metadata": client.get_model_metadata(face, "1"),
    "config": client.get_model_config(f"{model}-tensor"),
    "statistics": client.get_inference_statistics(model),
    "all statistics": client.get_inference_statistics(),
    "index": client.get_model_repository_index(),
    "shared memory": client.get_system_shared_memory_status(),
    "id": binary.get_response()["id"],
    "classes": [element.decode() for element in labels[0]],
    "everything": [output["name"] for output in whole.get_response()["outputs"]],
    "deferred": list(deferred.as_numpy("map").shape),
    "no model": refusal(lambda: client.get_model_metadata("nothing")),
    "no picture": refusal(lambda: client.infer(model, [wrong])),
    "no logging": refusal(client.get_log_settings),
}
print(json.dumps(said))
