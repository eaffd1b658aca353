"""Triton's client unloads a model and loads it. Takes the service's address, a model and the admin token."""

import json
import sys

import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

url, model, token = sys.argv[1:]
client = triton.InferenceServerClient(url.removeprefix("http://"))
headers = {"Authorization": f"Bearer {token}"}


def state():
    return next(entry["state"] for entry in client.get_model_repository_index() if entry["name"] == model)


client.load_model(model, headers=headers)
seen = [state()]
client.unload_model(model, headers=headers)
seen.append(state())
client.load_model(model, headers=headers)
seen.append(state())
try:
    client.unload_model(model)
except InferenceServerException as error:
    seen.append(error.status())
print(json.dumps(seen))
