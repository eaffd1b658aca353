"""How many explanations a second several protocols carry, each asking the same of the fastest model there is.

The way in and out is the largest share of its answers.
"""

from __future__ import annotations

import base64
import json

import grpc
from drive import Request, one_by_one
from record import in_turns
from subject import DRAWN, settled

from dialects.channel import SERVICE, address, pictures
from gradcam_service.api.grpc.protocol import inference_pb2
from live import running


def dialect_rates(rounds: int) -> dict[str, float]:
    """Explanations of a picture a second by `scenes`, on eight connections, by protocol."""
    picture = DRAWN.read_bytes()
    with running(grpc_port=0) as service:
        settled(service, "scenes")
        asked = _over_http(service.url, picture)
        sides = {name: lambda request=request: one_by_one(request, 8, 400).rate() for name, request in asked.items()}
        call = _over_grpc(address(service), picture)
        return in_turns(rounds, **sides, gRPC=lambda: one_by_one(call, 8, 400, _Called).rate())


def _over_http(url: str, picture: bytes) -> dict[str, Request]:
    """The same question, a picture's heatmap, as several protocols ask it."""
    coded, size = base64.b64encode(picture).decode(), len(picture)
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 4 + size}}
    wanted = [{"name": "heatmap", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [image], "outputs": wanted}).encode()
    binary = head + size.to_bytes(4, "little") + picture
    length = (f"Inference-Header-Content-Length: {len(head)}",)
    instances = json.dumps({"instances": [{"image": {"b64": coded}}]}).encode()
    return {
        "raw body": Request(f"{url}/explain", picture),
        "V2 binary": Request(f"{url}/v2/models/scenes-explain/infer", binary, "application/octet-stream", length),
        "JSON": Request(f"{url}/explain", json.dumps({"image": coded}).encode(), "application/json"),
        "V1 JSON": Request(f"{url}/v1/models/scenes:explain", instances, "application/json"),
    }


def _over_grpc(target: str, picture: bytes) -> Request:
    """The same question as a message."""
    wanted = [inference_pb2.ModelInferRequest.InferRequestedOutputTensor(name="heatmap")]
    message = inference_pb2.ModelInferRequest(model_name="scenes-explain", outputs=wanted, **pictures(picture))
    return Request(target, message.SerializeToString())


class _Called:
    """A connection of gRPC."""

    def __init__(self, request: Request) -> None:
        channel = grpc.insecure_channel(request.url, [("grpc.use_local_subchannel_pool", 1)])
        self._call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        self._message = request.body

    def ask(self) -> int:
        """200, once the answer is whole."""
        self._call(self._message)
        return 200
