"""Python client: asks a running service what its models see and where they look. Torch-free.

    from gradcam_service.client import Client

    with Client("http://localhost:8000") as service:
        (explanation,) = service.explain("photo.jpg", target="tripod", output=["map", "overlay"]).explanations
    explanation.overlay.save("tripod.jpg")

`Client` and `AsyncClient` have the same methods. docs/client.md is the guide.
"""

from gradcam_service.client.client import AsyncClient, Client
from gradcam_service.client.errors import ClientError, NoAnswer, Problem, Refused, TimedOut, Unavailable
from gradcam_service.client.options import ExplainOptions, PredictOptions
from gradcam_service.client.pictures import Frames, Picture
from gradcam_service.client.results import (
    AnsweringModel,
    Caption,
    ExplainedTarget,
    Explanation,
    Prediction,
    Quality,
    Result,
    Word,
)

__all__ = [
    "AnsweringModel",
    "AsyncClient",
    "Caption",
    "Client",
    "ClientError",
    "ExplainOptions",
    "ExplainedTarget",
    "Explanation",
    "Frames",
    "NoAnswer",
    "Picture",
    "PredictOptions",
    "Prediction",
    "Problem",
    "Quality",
    "Refused",
    "Result",
    "TimedOut",
    "Unavailable",
    "Word",
]
