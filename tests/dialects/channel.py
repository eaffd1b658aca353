"""gRPC as a client of ours speaks it, with the messages of the service itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import grpc
import numpy as np

from gradcam_service.api.grpc.protocol import health_pb2, inference_pb2
from live import PATIENCE, Service, until

SERVICE = "inference.GRPCInferenceService"
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
"""Of a connection that is nobody else's and goes straight to the service."""
MESSAGES = {"Check": ("grpc.health.v1.Health", health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse)}


def address(service: Service) -> str:
    """Where a service speaks gRPC, as it tells those who start it."""

    def told() -> list[str]:
        return re.findall(r"gRPC, the Open Inference Protocol: (\S+)", "".join(service.output))

    until(lambda: len(told()), 1)  # it is the last thing that is told
    return told()[0]


class Channel:
    """A connection to a service, which any of its processes may have accepted."""

    def __init__(self, service: Service, **metadata: str) -> None:
        self._channel = grpc.insecure_channel(address(service), OPTIONS)
        self._metadata = [(name.replace("_", "-"), value) for name, value in metadata.items()]

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *raised: object) -> None:
        self._channel.close()

    def call(
        self, method: str, timeout: float = PATIENCE, compression: Any = None, **members: Any
    ) -> tuple[Any, dict[str, str]]:
        """Call a method with a request of these members: its answer, and its trailing metadata."""
        service, request, response = MESSAGES.get(method) or (
            SERVICE,
            getattr(inference_pb2, f"{method}Request"),
            getattr(inference_pb2, f"{method}Response"),
        )
        return self.send(service, method, request(**members).SerializeToString(), response, timeout, compression)

    def send(
        self, service: str, method: str, data: bytes, response: Any, timeout: float = PATIENCE, compression: Any = None
    ) -> tuple[Any, dict[str, str]]:
        """Send bytes to a method, whatever they are."""
        ask = self._channel.unary_unary(f"/{service}/{method}", None, response.FromString)
        answer, call = ask.with_call(data, timeout=timeout, metadata=self._metadata, compression=compression)
        return answer, dict(call.trailing_metadata())

    def watch(self, service: str = "") -> Any:
        """The statuses that ``Watch`` tells, as they come."""
        ask = self._channel.unary_stream(
            "/grpc.health.v1.Health/Watch", None, health_pb2.HealthCheckResponse.FromString
        )
        request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        return (answer.status for answer in ask(request, timeout=PATIENCE))

    def stream(self, requests: Iterable[Any]) -> list[Any]:
        """What ``ModelStreamInfer`` answers to requests."""
        ask = self._channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            inference_pb2.ModelInferRequest.SerializeToString,
            inference_pb2.ModelStreamInferResponse.FromString,
        )
        return list(ask(iter(requests), timeout=PATIENCE, metadata=self._metadata))


def pictures(*data: bytes) -> dict[str, Any]:
    """Members of a request for encoded pictures, as raw bytes."""
    tensor = inference_pb2.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[len(data)])
    raw = b"".join(len(one).to_bytes(4, "little") + one for one in data)
    return {"inputs": [tensor], "raw_input_contents": [raw]}


def output(answer: Any, name: str) -> np.ndarray:
    """A float32 output of an answer."""
    (place,) = (place for place, tensor in enumerate(answer.outputs) if tensor.name == name)
    assert answer.outputs[place].datatype == "FP32"
    return np.frombuffer(answer.raw_output_contents[place], "<f4").reshape(answer.outputs[place].shape)
