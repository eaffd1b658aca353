"""``GRPCInferenceService`` and ``grpc.health.v1.Health``: each call, answered as the path of V2 that means the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import msgspec
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from starlette.types import ASGIApp

from gradcam_service.api.grpc.application import Answer, Application
from gradcam_service.api.grpc.health import Health
from gradcam_service.api.grpc.metadata import Context, headers_of, trailing
from gradcam_service.api.grpc.parsing import parse
from gradcam_service.api.grpc.protocol import health_pb2, inference_pb2
from gradcam_service.api.grpc.reception import Access, Reception
from gradcam_service.api.grpc.refusals import Refused, refusal, refuse
from gradcam_service.api.grpc.tensors import exchange_of, response_of
from gradcam_service.api.oip.messages import Exchange
from gradcam_service.core.admission import Capacity
from gradcam_service.errors import BadRequest, shortened

_SERVICE = "inference.GRPCInferenceService"
_LONGEST_NAME = 1000
"""Of a model or a version, characters."""
_ALL_STATISTICS = "/v2/models/stats"


@dataclass(frozen=True)
class _Method:
    """What a method takes, what answers it, and who may call it."""

    takes: type[Message]
    answer: Callable[[Any, Context], Awaitable[Message]]
    access: Access = Access.KEYED


class Services:
    """What gRPC serves in one API process.

    Args:
        app: the application, whose paths of the Open Inference Protocol are asked.
        capacity: what the process may hold; its settings have the limits.

    Attributes:
        health: tells whether it is ready.
    """

    def __init__(self, app: ASGIApp, capacity: Capacity) -> None:
        self._app, self._reception = Application(app), Reception(capacity)
        self.health = Health(_SERVICE, partial(self._says_yes, "/readyz"), self._reception)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """The handlers of both services."""
        inference = {name: self._unary(method) for name, method in self._methods().items()}
        inference["ModelInfer"] = grpc.stream_unary_rpc_method_handler(self._infer, None, _serialized)
        inference["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream_infer, None, _serialized)
        health = {
            "Check": self._unary(_Method(health_pb2.HealthCheckRequest, self.health.check, Access.OPEN)),
            "Watch": grpc.stream_stream_rpc_method_handler(self.health.watch, None, _serialized),
        }
        return [
            grpc.method_handlers_generic_handler(_SERVICE, inference),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        ]

    def _methods(self) -> dict[str, _Method]:
        it = inference_pb2
        return {
            "ServerLive": _Method(it.ServerLiveRequest, self._live, Access.OPEN),
            "ServerReady": _Method(it.ServerReadyRequest, self._ready, Access.OPEN),
            "ModelReady": _Method(it.ModelReadyRequest, self._model_ready, Access.OPEN),
            "ServerMetadata": _Method(it.ServerMetadataRequest, self._metadata, Access.OPEN),
            "ModelMetadata": _Method(it.ModelMetadataRequest, self._model_metadata),
            "ModelConfig": _Method(it.ModelConfigRequest, self._config),
            "ModelStatistics": _Method(it.ModelStatisticsRequest, self._statistics),
            "RepositoryIndex": _Method(it.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": _Method(it.RepositoryModelLoadRequest, self._load, Access.MANAGING),
            "RepositoryModelUnload": _Method(it.RepositoryModelUnloadRequest, self._unload, Access.MANAGING),
        }

    def _unary(self, method: _Method) -> grpc.RpcMethodHandler:
        """A method of one message: the same on the wire as a stream of one, which can be read when there is room."""

        async def answer(_: object, context: Context) -> Message:
            try:
                async with self._reception.admitted(method.access, context):
                    request = await self._received(method, context)
                    return await method.answer(request, context)
            except Exception as error:
                await refuse(error, context)

        return grpc.stream_unary_rpc_method_handler(answer, None, _serialized)

    async def _received(self, method: _Method, context: Context) -> Message:
        if method.access is Access.OPEN:
            return parse(method.takes, await self._reception.probe(context))
        return await self._reception.message(context, partial(parse, method.takes))

    async def _infer(self, _: object, context: Context) -> Message:
        """Answer one request."""

        def read(data: object) -> tuple[str, Exchange]:
            return _asked(parse(inference_pb2.ModelInferRequest, data), context.time_remaining())

        try:
            async with self._reception.admitted(Access.KEYED, context):
                return await self._inferred(context, *await self._reception.message(context, read))
        except Exception as error:
            await refuse(error, context)

    async def _stream_infer(self, _: object, context: Context) -> AsyncIterator[Message]:
        """Answer one request after the other."""
        try:
            async with self._reception.admitted(Access.KEYED, context, streaming=True):
                while (data := await self._reception.next_of(context)) is not grpc.aio.EOF:
                    yield await self._streamed(data, context)
        except Exception as error:
            await refuse(error, context)

    async def _streamed(self, data: object, context: Context) -> Message:
        """An answer in a stream; what is wrong with one request is one, too."""
        answer = inference_pb2.ModelStreamInferResponse()

        def read(data: object) -> tuple[str, Exchange]:
            call = parse(inference_pb2.ModelInferRequest, data)
            answer.infer_response.id = call.id
            return _asked(call, context.time_remaining())

        try:
            answer.infer_response.CopyFrom(await self._inferred(context, *await self._reception.read(data, read)))
        except Exception as error:
            answer.error_message = refusal(error, context).detail
        return answer

    async def _live(self, request: Message, context: Context) -> Message:
        return inference_pb2.ServerLiveResponse(live=await self._says_yes("/livez", context))

    async def _ready(self, request: Message, context: Context) -> Message:
        return inference_pb2.ServerReadyResponse(ready=await self._says_yes("/readyz", context))

    async def _model_ready(self, request: inference_pb2.ModelReadyRequest, context: Context) -> Message:
        path, absent = f"{_path(request.name, request.version)}/ready", grpc.StatusCode.NOT_FOUND
        return inference_pb2.ModelReadyResponse(ready=await self._says_yes(path, context, absent))

    async def _metadata(self, request: Message, context: Context) -> Message:
        return _message(await self._ask("GET", "/v2", context), inference_pb2.ServerMetadataResponse())

    async def _model_metadata(self, request: inference_pb2.ModelMetadataRequest, context: Context) -> Message:
        path = _path(request.name, request.version)
        unmistakable = f"{path}@" if path == _ALL_STATISTICS else path  # of no version in particular
        return _message(await self._ask("GET", unmistakable, context), inference_pb2.ModelMetadataResponse())

    async def _inferred(self, context: Context, path: str, exchange: Exchange) -> Message:
        await self._ask("POST", path, context, exchange=exchange)
        assert exchange.answer is not None
        return response_of(exchange.answer)

    async def _config(self, request: inference_pb2.ModelConfigRequest, context: Context) -> Message:
        told = await self._ask("GET", f"{_path(request.name, request.version)}/config", context)
        answer = inference_pb2.ModelConfigResponse()
        _message(told, answer.config)
        return answer

    async def _statistics(self, request: inference_pb2.ModelStatisticsRequest, context: Context) -> Message:
        path = f"{_path(request.name, request.version)}/stats" if request.name else _ALL_STATISTICS
        return _message(await self._ask("GET", path, context), inference_pb2.ModelStatisticsResponse())

    async def _index(self, request: inference_pb2.RepositoryIndexRequest, context: Context) -> Message:
        wanted = msgspec.json.encode({"ready": request.ready})
        told = await self._ask("POST", "/v2/repository/index", context, wanted)
        models = {"models": msgspec.json.decode(told.body)}
        return ParseDict(models, inference_pb2.RepositoryIndexResponse(), ignore_unknown_fields=True)

    async def _load(self, request: inference_pb2.RepositoryModelLoadRequest, context: Context) -> Message:
        name = await self._manage("load", request, context)
        return inference_pb2.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def _unload(self, request: inference_pb2.RepositoryModelUnloadRequest, context: Context) -> Message:
        name = await self._manage("unload", request, context)
        return inference_pb2.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)

    async def _manage(self, action: str, request: Any, context: Context) -> str:  # noqa: ANN401  either of two messages
        """Load or unload a model: its name is in field 2 of Triton's requests, in field 1 of KServe's."""
        name: str = request.model_name or request.repository_name
        await self._ask("POST", f"/v2/repository/models/{_plain(name)}/{action}", context)
        return name

    async def _says_yes(self, path: str, context: Context, *no: grpc.StatusCode) -> bool:
        """Whether a path is answered; one of these codes is a no, as is that of what isn't ready."""
        try:
            await self._ask("GET", path, context)
        except Refused as error:
            if error.code not in (grpc.StatusCode.UNAVAILABLE, *no):
                raise
            return False
        return True

    async def _ask(
        self, method: str, path: str, context: Context, body: bytes = b"", exchange: Exchange | None = None
    ) -> Answer:
        """The application's answer, where it is none of its errors."""
        answer = await self._app.ask(method, path, headers_of(context), body, exchange)
        if answer.status != 200:
            raise Refused(answer)
        context.set_trailing_metadata(trailing(answer.headers))
        return answer


def _serialized(message: Message) -> bytes:
    return bytes(message.SerializeToString())


def _message(answer: Answer, message: Message) -> Message:
    """A message filled with what an answer says in JSON, as far as it has members for it."""
    return ParseDict(msgspec.json.decode(answer.body), message, ignore_unknown_fields=True)


def _path(name: str, version: str) -> str:
    return f"/v2/models/{_plain(name)}" + (f"/versions/{_plain(version)}" if version else "")


def _plain(name: str) -> str:
    """A name that is one part of a path.

    Raises:
        BadRequest: it is empty, or more than one, or too long to be one.
    """
    if not name or "/" in name or len(name) > _LONGEST_NAME:
        raise BadRequest(f"{shortened(name)!r} is no model's name or version")
    return name


def _asked(call: inference_pb2.ModelInferRequest, seconds: float | None) -> tuple[str, Exchange]:
    """The path of V2 that means the same as a call, whose caller waits for so long, and what is asked there."""
    return f"{_path(call.model_name, call.model_version)}/infer", exchange_of(call, seconds)
