"""KServe's client over REST, of its second protocol. Takes the service's address, a model and a file of a picture."""

import asyncio
import base64
import json
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

url, model, picture = sys.argv[1:]
data = Path(picture).read_bytes()
client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=120))


def in_base64():
    text = base64.b64encode(data).decode()
    return InferInput("image", [1, 1], "BYTES", data=[[text]])


def in_binary():
    given = InferInput("image", [1, 1], "BYTES")
    given.set_data_from_numpy(np.array([[data]], np.object_), binary_data=True)
    return given


async def asked(given, names, binary):
    outputs = [RequestedOutput(name, parameters={"binary_data": binary}) for name in names]
    request = InferRequest(
        model_name=f"{model}-explain", infer_inputs=[given], request_outputs=outputs, parameters={"target": "star"}
    )
    answer = await client.infer(url, request, model_name=f"{model}-explain")
    return {output.name: output for output in answer.outputs}


async def main():
    said = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model ready": await client.is_model_ready(url, model),
    }
    arrays = {}
    for name, given in (("JSON", in_base64), ("binary", in_binary)):
        for binary in (False, True):
            answered = await asked(given(), ["map", "scores"], binary)
            arrays |= {f"{key} {name} {binary}": output.as_numpy() for key, output in answered.items()}
    text = (await asked(in_base64(), ["overlay"], False))["overlay"].data[0]
    arrays["overlay"] = np.frombuffer(base64.b64decode(text), np.uint8)
    try:
        await client.infer(url, InferRequest(model_name="nothing", infer_inputs=[in_base64()]), model_name="nothing")
    except Exception as error:  # whichever it is, it tells what the service said
        said["no model"] = str(error)
    np.savez("arrays.npz", **arrays)
    print(json.dumps(said))


asyncio.run(main())
