"""A made-up dialect: a picture is sent to the model's own address, and a line of text comes back in capitals."""

from time import perf_counter

from fastapi import APIRouter, Request, Response

from gradcam_service.api.bodies import read_call
from gradcam_service.api.dialects import Dialect, Fault
from gradcam_service.api.inference import admit, answers
from gradcam_service.core.options import Call, PredictOptions

router = APIRouter(tags=["inference"])


@router.post("/shout/{model}", include_in_schema=False)
async def shout(request: Request, model: str) -> Response:
    """What the model sees."""
    admission = admit(request)
    start = perf_counter()
    call = await read_call(request, PredictOptions, request.app.state.settings, admission)
    asked = Call(call.images, call.options.model_copy(update={"model": model}))
    answered = await answers(request, asked, admission, perf_counter() - start)
    lines = [f"{result.prediction.predictions[0].label}!".upper() for result in answered.results]
    return Response("\n".join(lines), media_type="text/plain")


def cry(fault: Fault) -> Response:
    return Response(f"OOPS: {fault.code}!", fault.status, dict(fault.headers), media_type="text/plain")


DIALECT = Dialect(router, ("/shout",), cry)
