"""Root of the service: a page for people; for programs, which take anything, the sign of life for orchestrators."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from gradcam_service.api import playground
from gradcam_service.api.preference import by_preference

router = APIRouter(include_in_schema=False)


@router.get("/")
async def root(request: Request) -> Response:
    """KServe's liveness, https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol.

    Who names HTML is shown the playground, or without it the documentation.
    """
    answer = _page(request) if _names_html(request) else JSONResponse({"status": "alive"})
    answer.headers["Vary"] = "Accept, Accept-Encoding"
    return answer


def _page(request: Request) -> Response:
    return playground.page(request) if request.app.state.settings.playground else RedirectResponse("docs")


def _names_html(request: Request) -> bool:
    return "text/html" in by_preference(", ".join(request.headers.getlist("accept")))
