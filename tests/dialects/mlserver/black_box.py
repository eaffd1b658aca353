"""A predictor as MLServer's runtime of Alibi asks it, for a black-box explainer: its metadata, then arrays in batches.

Takes the service's address, a model and a file of pixels (H, W, 3) of the model's size, as NumPy writes them.
"""

import json
import sys
import urllib.request

import numpy as np
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, MetadataModelResponse, Parameters, RequestInput

url, model, file = sys.argv[1:]
infer = f"{url}/v2/models/{model}/infer"
HEADERS = {"Content-Type": "application/json", "Seldon-Skip-Logging": "true"}

with urllib.request.urlopen(infer.removesuffix("/infer")) as answer:
    metadata = MetadataModelResponse.model_validate_json(answer.read())


def scores(arrays):
    given = RequestInput(
        name=metadata.inputs[0].name, datatype=metadata.inputs[0].datatype, shape=arrays.shape, data=arrays.tolist()
    )
    request = InferenceRequest(id="1", parameters=Parameters(content_type=NumpyCodec.ContentType), inputs=[given])
    sent = urllib.request.Request(infer, request.model_dump_json(exclude_none=True).encode(), HEADERS)
    with urllib.request.urlopen(sent) as answer:
        return NumpyCodec.decode_output(InferenceResponse.model_validate_json(answer.read()).outputs[0])


pixels = np.load(file).astype(np.float32).transpose(2, 0, 1)
seen = (pixels / 127.5 - 1) * 2  # (x / 255 - 0.5) / 0.25, the model's own
np.savez("arrays.npz", scores=scores(np.stack([seen, seen])))
print(json.dumps(metadata.versions))
