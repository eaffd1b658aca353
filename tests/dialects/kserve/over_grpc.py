"""KServe's client over gRPC.

Takes the addresses of HTTP and of gRPC, a model, a file of a picture and the admin token.
"""

import asyncio
import json
import sys
from pathlib import Path

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

_, address, model, picture, token = sys.argv[1:]
data = Path(picture).read_bytes()


def in_contents():
    return InferInput("image", [1, 1], "BYTES", data=[data])


def in_raw_bytes():
    given = InferInput("image", [1, 1], "BYTES")
    given.set_data_from_numpy(np.array([[data]], np.object_), binary_data=True)
    return given


async def main():
    client = InferenceGRPCClient(address)
    said = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model ready": await client.is_model_ready(model),
    }
    arrays = {}
    for name, given in (("contents", in_contents), ("raw", in_raw_bytes)):
        request = InferRequest(model_name=f"{model}-explain", infer_inputs=[given()], parameters={"target": "star"})
        answer = await client.infer(request)
        arrays |= {f"{output.name} {name}": output.as_numpy() for output in answer.outputs if output.datatype == "FP32"}
        said[name] = answer.model_name
    try:
        await client.infer(InferRequest(model_name="nothing", infer_inputs=[in_raw_bytes()]))
    except grpc.RpcError as error:
        said["no model"] = [str(error.code()), error.details()]
    np.savez("arrays.npz", **arrays)
    print(json.dumps(said))


asyncio.run(main())
