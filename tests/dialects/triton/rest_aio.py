"""Triton's asynchronous client over HTTP. Takes the service's address, a model and a file of a picture."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.http.aio as triton

url, model, picture = sys.argv[1:]


async def main():
    async with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        said = {
            "ready": await client.is_server_ready() and await client.is_model_ready(model),
            "metadata": await client.get_model_metadata(f"{model}-explain"),
            "config": await client.get_model_config(model),
        }
        arrays = {}
        for binary in (True, False):
            given = triton.InferInput("image", [1], "BYTES")
            given.set_data_from_numpy(np.array([Path(picture).read_bytes()], np.object_), binary_data=True)
            wanted = [triton.InferRequestedOutput("map", binary_data=binary)]
            for coding in (None, "gzip", "deflate"):
                options = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
                answer = await client.infer(
                    f"{model}-explain", [given], outputs=wanted, parameters={"target": "star"}, **options
                )
                arrays[f"{coding} {binary}"] = answer.as_numpy("map")
        np.savez("arrays.npz", **arrays)
        print(json.dumps(said))


asyncio.run(main())
