"""KServe's client over REST, of its first protocol. Takes the service's address, a model and a file of a picture."""

import asyncio
import base64
import json
import sys
from pathlib import Path

import numpy as np
from kserve import InferenceRESTClient, RESTConfig
from PIL import Image

url, model, picture = sys.argv[1:]
client = InferenceRESTClient(RESTConfig(protocol="v1", timeout=120))
coded = {"b64": base64.b64encode(Path(picture).read_bytes()).decode()}
pixels = np.asarray(Image.open(picture).convert("RGB").resize((64, 48)))


async def refused(asked):
    """What the client tells of an error: the service's own sentence."""
    try:
        await asked
    except Exception as error:  # whichever it is
        return str(error)


async def main():
    instances = [{"image": coded, "target": "star"}, {"image": coded, "target": "flower"}, {"image": {"b64": "!"}}]
    explained = await client.explain(url, model, {"instances": instances, "parameters": {"output": "map"}})
    maps = [result["explanations"][0]["map"] for result in explained["explanations"][:2]]
    predicted = await client.infer(url, {"instances": [{"image_bytes": coded, "key": "1"}]}, model_name=model)
    # as ART's and Alibi's explainers ask a predictor, hundreds of pictures at a time, and read what it answers
    black_box = await client.infer(url, {"instances": np.stack([pixels, 255 - pixels]).tolist()}, model_name=model)
    said = {
        "live": await client.is_server_live(url),
        "model ready": await client.is_model_ready(url, model),
        "no model": await refused(client.infer(url, {"instances": [coded]}, model_name="nothing")),
        "nothing": await refused(client.explain(url, model, {"instances": []})),
        "bad one": explained["explanations"][2],
        "key": predicted["predictions"][0]["key"],
    }
    np.savez(
        "arrays.npz",
        star=np.frombuffer(base64.b64decode(maps[0]["data"]), "<f4").reshape(maps[0]["shape"]),
        flower=np.frombuffer(base64.b64decode(maps[1]["data"]), "<f4").reshape(maps[1]["shape"]),
        scores=predicted["predictions"][0]["scores"],
        black_box=np.array(black_box["predictions"]),
    )
    print(json.dumps(said))


asyncio.run(main())
