"""A dialect of plain text, for shell scripts: the picture is the body, the answer is a line for each class."""

from time import perf_counter

from fastapi import APIRouter, Request, Response

from gradcam_service.api.dialects import Dialect, Fault
from gradcam_service.api.inference import answers
from gradcam_service.core.options import Call, PredictOptions

router = APIRouter(tags=["plain text"])


@router.post("/plain/{model}")
async def predict(request: Request, model: str) -> Response:
    """A picture's most probable classes, one a line: probability and label."""
    start = perf_counter()
    call = Call([await request.body()], PredictOptions(model=model))
    answered = await answers(request, call, perf_counter() - start)
    (result,) = answered.results
    lines = [f"{found.probability:.3f} {found.label}\n" for found in result.prediction.predictions]
    return Response("".join(lines), media_type="text/plain")


def _sentence(fault: Fault) -> Response:
    return Response(f"{fault.code}: {fault.detail}\n", fault.status, dict(fault.headers), media_type="text/plain")


DIALECT = Dialect(router, ("/plain/",), _sentence)
