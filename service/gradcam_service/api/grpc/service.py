"""``GRPCInferenceService`` and ``grpc.health.v1.Health``: each call, as the application is asked it over REST."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import msgspec
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError, Message
from starlette.types import ASGIApp

from gradcam_service.api.grpc.application import Answer, Application
from gradcam_service.api.grpc.protocol import health_pb2, inference_pb2
from gradcam_service.api.grpc.tensors import request_of, response_of
from gradcam_service.errors import BadRequest
from gradcam_service.settings import Settings

_SERVICE = "inference.GRPCInferenceService"
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,  # not UNAVAILABLE, which KServe's client tries three times more
    499: grpc.StatusCode.CANCELLED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_ASKED = ("authorization", "x-request-id", "traceparent", "tracestate")
"""Metadata that HTTP has headers for."""
_TOLD = ("x-request-id", "server-timing", "retry-after")
"""Headers that are told in trailing metadata."""

_Context = Any
"""`grpc.aio.ServicerContext`, which is generic in types that it doesn't name."""


class _Refused(Exception):
    """A call that is answered with an error: its code, what is wrong, and its trailing metadata."""

    def __init__(self, code: grpc.StatusCode, detail: str, metadata: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(detail)
        self.code, self.detail, self.metadata = code, detail, tuple(metadata)


@dataclass(frozen=True)
class _Method:
    """What a method takes, and what answers it."""

    takes: type[Message]
    answer: Callable[[Any, _Context], Awaitable[Message]]


class Services:
    """What gRPC serves in one API process.

    Messages are read for a few calls at a time, as many as fit into the bytes that may be in flight if each is as
    large as one may be: how large it is isn't known before.

    Args:
        app: the application, whose paths of the Open Inference Protocol are asked.
        settings: have the limits.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = Application(app)
        self._read_seconds = settings.read_seconds
        slots = max(1, settings.share(settings.max_bytes_in_flight) // settings.max_body_bytes)
        self._reading, self._streaming = asyncio.Semaphore(slots), asyncio.Semaphore(slots)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """The handlers of both services."""
        inference = {name: self._unary(method) for name, method in self._methods().items()}
        inference["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream_infer, None, _serialized)
        health = {"Check": self._unary(_Method(health_pb2.HealthCheckRequest, self._check))}
        return [
            grpc.method_handlers_generic_handler(_SERVICE, inference),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        ]

    def _methods(self) -> dict[str, _Method]:
        it = inference_pb2
        return {
            "ServerLive": _Method(it.ServerLiveRequest, self._live),
            "ServerReady": _Method(it.ServerReadyRequest, self._ready),
            "ModelReady": _Method(it.ModelReadyRequest, self._model_ready),
            "ServerMetadata": _Method(it.ServerMetadataRequest, self._metadata),
            "ModelMetadata": _Method(it.ModelMetadataRequest, self._model_metadata),
            "ModelInfer": _Method(it.ModelInferRequest, self._infer),
            "ModelConfig": _Method(it.ModelConfigRequest, self._config),
            "ModelStatistics": _Method(it.ModelStatisticsRequest, self._statistics),
            "RepositoryIndex": _Method(it.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": _Method(it.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": _Method(it.RepositoryModelUnloadRequest, self._unload),
        }

    def _unary(self, method: _Method) -> grpc.RpcMethodHandler:
        """A method of one message: the same on the wire as a stream of one, which can be read when there is room."""

        async def answer(_: object, context: _Context) -> Message:
            try:
                return await method.answer(await self._received(method.takes, context), context)
            except _Refused as error:
                await context.abort(error.code, error.detail, error.metadata)
            except BadRequest as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.detail)
            raise AssertionError("abort raises")

        return grpc.stream_unary_rpc_method_handler(answer, None, _serialized)

    async def _received(self, takes: type[Message], context: _Context) -> Message:
        async with self._reading:
            try:
                async with asyncio.timeout(self._read_seconds):
                    data = await context.read()
            except TimeoutError:
                slow = f"the message did not arrive within {self._read_seconds:g} s"
                raise _Refused(grpc.StatusCode.DEADLINE_EXCEEDED, slow) from None
        return _parsed(takes, data)

    async def _stream_infer(self, _: object, context: _Context) -> AsyncIterator[Message]:
        """Answer one request after the other; one that fails is an answer, too."""
        if self._streaming.locked():
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "as many streams are open as are accepted")
        async with self._streaming:
            while (data := await context.read()) is not grpc.aio.EOF:
                answer = inference_pb2.ModelStreamInferResponse()
                try:
                    request = _parsed(inference_pb2.ModelInferRequest, data)
                    answer.infer_response.id = request.id
                    answer.infer_response.CopyFrom(await self._infer(request, context))
                except (_Refused, BadRequest) as error:
                    answer.error_message = str(error)
                yield answer

    async def _live(self, request: Message, context: _Context) -> Message:
        return inference_pb2.ServerLiveResponse(live=await self._says_yes("/livez", context))

    async def _ready(self, request: Message, context: _Context) -> Message:
        return inference_pb2.ServerReadyResponse(ready=await self._says_yes("/readyz", context))

    async def _model_ready(self, request: inference_pb2.ModelReadyRequest, context: _Context) -> Message:
        path = f"{_path(request.name, request.version)}/ready"
        return inference_pb2.ModelReadyResponse(ready=await self._says_yes(path, context))

    async def _check(self, request: health_pb2.HealthCheckRequest, context: _Context) -> Message:
        if request.service not in ("", _SERVICE):
            raise _Refused(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service!r} but {_SERVICE}")
        status = health_pb2.HealthCheckResponse
        ready = await self._says_yes("/readyz", context)
        return status(status=status.SERVING if ready else status.NOT_SERVING)

    async def _metadata(self, request: Message, context: _Context) -> Message:
        return _message(await self._ask("GET", "/v2", context), inference_pb2.ServerMetadataResponse())

    async def _model_metadata(self, request: inference_pb2.ModelMetadataRequest, context: _Context) -> Message:
        told = await self._ask("GET", _path(request.name, request.version), context)
        return _message(told, inference_pb2.ModelMetadataResponse())

    async def _infer(self, request: inference_pb2.ModelInferRequest, context: _Context) -> Message:
        path = f"{_path(request.model_name, request.model_version)}/infer"
        head, *tensors = request_of(request, context.time_remaining())
        body = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
        answered = await self._ask("POST", path, context, body, [head, *tensors])
        length = answered.headers.get("inference-header-content-length", len(answered.body))
        return response_of(answered.body, int(length))

    async def _config(self, request: inference_pb2.ModelConfigRequest, context: _Context) -> Message:
        told = await self._ask("GET", f"{_path(request.name, request.version)}/config", context)
        answer = inference_pb2.ModelConfigResponse()
        _message(told, answer.config)
        return answer

    async def _statistics(self, request: inference_pb2.ModelStatisticsRequest, context: _Context) -> Message:
        path = f"{_path(request.name, request.version)}/stats" if request.name else "/v2/models/stats"
        return _message(await self._ask("GET", path, context), inference_pb2.ModelStatisticsResponse())

    async def _index(self, request: inference_pb2.RepositoryIndexRequest, context: _Context) -> Message:
        wanted = msgspec.json.encode({"ready": request.ready})
        told = await self._ask("POST", "/v2/repository/index", context, body=[wanted])
        models = {"models": msgspec.json.decode(told.body)}
        return ParseDict(models, inference_pb2.RepositoryIndexResponse(), ignore_unknown_fields=True)

    async def _load(self, request: inference_pb2.RepositoryModelLoadRequest, context: _Context) -> Message:
        name = await self._manage("load", request, context)
        return inference_pb2.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def _unload(self, request: inference_pb2.RepositoryModelUnloadRequest, context: _Context) -> Message:
        name = await self._manage("unload", request, context)
        return inference_pb2.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)

    async def _manage(self, action: str, request: Any, context: _Context) -> str:  # noqa: ANN401  either of two messages
        """Load or unload a model: its name is in field 2 of Triton's requests, in field 1 of KServe's."""
        name: str = request.model_name or request.repository_name
        await self._ask("POST", f"/v2/repository/models/{_plain(name)}/{action}", context)
        return name

    async def _says_yes(self, path: str, context: _Context) -> bool:
        try:
            await self._ask("GET", path, context)
        except _Refused as error:
            if error.code is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True

    async def _ask(
        self,
        method: str,
        path: str,
        context: _Context,
        headers: dict[str, str] | None = None,
        body: Sequence[bytes] = (),
    ) -> Answer:
        """The application's answer, where it is none of its errors."""
        sent = {name: value for name, value in context.invocation_metadata() or () if name in _ASKED}
        answer = await self._app.ask(method, path, sent | (headers or {}), body)
        metadata = [(name, answer.headers[name]) for name in _TOLD if name in answer.headers]
        if answer.status != 200:
            raise _Refused(_CODES.get(answer.status, grpc.StatusCode.INTERNAL), _reason(answer), metadata)
        context.set_trailing_metadata(tuple(metadata))
        return answer


def _serialized(message: Message) -> bytes:
    return bytes(message.SerializeToString())


def _parsed(takes: type[Message], data: object) -> Message:
    if not isinstance(data, bytes):
        raise BadRequest("the call ended without a message")
    try:
        return takes.FromString(data)
    except DecodeError as error:
        raise BadRequest(f"the message is no {takes.DESCRIPTOR.name}: {error}") from None


def _message(answer: Answer, message: Message) -> Message:
    """A message filled with what an answer says in JSON, as far as it has members for it."""
    return ParseDict(msgspec.json.decode(answer.body), message, ignore_unknown_fields=True)


def _path(name: str, version: str) -> str:
    return f"/v2/models/{_plain(name)}" + (f"/versions/{_plain(version)}" if version else "")


def _plain(name: str) -> str:
    """A name that is one part of a path.

    Raises:
        BadRequest: it is empty, or more than one.
    """
    if not name or "/" in name:
        raise BadRequest(f"{name[:100]!r} is no model's name or version")
    return name


def _reason(answer: Answer) -> str:
    """What an error says, as every dialect of JSON has it."""
    try:
        said = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        return answer.body[:1000].decode("latin-1")
    return str(said.get("error") or said.get("detail")) if isinstance(said, dict) else ""
