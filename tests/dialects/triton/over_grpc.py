"""Triton's client over gRPC, and its asynchronous twin.

Takes the addresses of HTTP and of gRPC, a model, a file of a picture and the admin token.
"""

import asyncio
import json
import sys
from pathlib import Path
from queue import Queue

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

_, address, model, picture, token = sys.argv[1:]
data = Path(picture).read_bytes()
HEADERS = {"authorization": f"Bearer {token}"}


def image():
    given = triton.InferInput("image", [1, 1], "BYTES")
    given.set_data_from_numpy(np.array([[data]], np.object_))
    return given


def wanted(*names, **options):
    return [triton.InferRequestedOutput(name, **options) for name in names]


def described(client):
    metadata = client.get_model_metadata(f"{model}-tensor", as_json=True)
    config = client.get_model_config(f"{model}-tensor", as_json=True)["config"]
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": client.is_model_ready(model),
        "nothing ready": client.is_model_ready("nothing"),
        "name": client.get_server_metadata().name,
        "inputs": metadata["inputs"],
        "config": config["input"],
        "index": [one.name for one in client.get_model_repository_index().models],
        "statistics": client.get_inference_statistics(model).model_stats[0].name,
    }


def streamed(client):
    answers = Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer(model, [image()])
    client.async_stream_infer("nothing", [image()])
    (scores, _), (_, error) = answers.get(timeout=60), answers.get(timeout=60)
    client.stop_stream()
    return scores.as_numpy("scores"), str(error)


async def asynchronously():
    async with triton_aio.InferenceServerClient(address) as client:
        answer = await client.infer(f"{model}-explain", [image()], outputs=wanted("map"), parameters={"target": "star"})
        return await client.is_model_ready(model), answer.as_numpy("map")


def refusal(call, *given, **options):
    try:
        call(*given, **options)
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return ["", "was answered"]


with triton.InferenceServerClient(address) as client:
    said = described(client)
    explained = client.infer(
        f"{model}-explain",
        [image()],
        request_id="mine",
        outputs=wanted("map", "overlay"),
        parameters={"target": "star"},
    )
    zipped = client.infer(model, [image()], compression_algorithm="gzip")
    ranked = client.infer(model, [image()], outputs=wanted("scores", class_count=2))
    client.load_model(model, headers=HEADERS)
    scores, said["in a stream"] = streamed(client)
    said |= {
        "id": explained.get_response().id,
        "ranked": [element.decode() for element in ranked.as_numpy("scores").ravel()],
        "no model": refusal(client.infer, "nothing", [image()]),
        "too late": refusal(
            client.infer, f"{model}-explain", [image()], parameters={"method": "rise"}, client_timeout=0.3
        ),
        "no token": refusal(client.load_model, model),
        "shared memory": refusal(client.get_system_shared_memory_status),
    }
said["asynchronously"], map_asynchronously = asyncio.run(asynchronously())
np.savez(
    "arrays.npz",
    map=explained.as_numpy("map"),
    overlay=np.frombuffer(explained.as_numpy("overlay")[0, 0], np.uint8),
    zipped=zipped.as_numpy("scores"),
    streamed=scores,
    map_asynchronously=map_asynchronously,
)
print(json.dumps(said))
