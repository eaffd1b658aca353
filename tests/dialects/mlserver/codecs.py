"""MLServer's codecs over its own types: a picture as base64, pixels and numbers as NumPy's, answers by what they say.

Takes the service's address, a model, a file of a picture and one of its pixels (H, W, 3), as NumPy writes them.
"""

import json
import sys
import urllib.request
from pathlib import Path

import numpy as np
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, Parameters, RequestOutput

url, model, picture, pixels = sys.argv[1:]
CODECS = {codec.ContentType: codec for codec in (Base64Codec, NumpyCodec)}


def asked(given):
    request = InferenceRequest(
        inputs=[given],
        outputs=[RequestOutput(name=name) for name in ("overlay", "map", "scores")],
        parameters=Parameters(target="star"),
    )
    body = request.model_dump_json(exclude_none=True).encode()
    headers = {"Content-Type": "application/json"}
    sent = urllib.request.Request(f"{url}/v2/models/{model}-explain/infer", body, headers)
    with urllib.request.urlopen(sent) as answer:
        response = InferenceResponse.model_validate_json(answer.read())
    return {output.name: CODECS[output.parameters.content_type].decode_output(output) for output in response.outputs}


file = asked(Base64Codec.encode_input("image", [Path(picture).read_bytes()], use_bytes=False))
numbers = asked(NumpyCodec.encode_input("image", np.load(pixels)[None]))
np.savez(
    "arrays.npz",
    **{f"{name} of file": file[name] for name in ("map", "scores")},
    **{f"{name} of pixels": numbers[name] for name in ("map", "scores")},
    overlay=np.frombuffer(file["overlay"][0], np.uint8),
)
print(json.dumps(sorted(file)))
