"""Drawings of maps for pages that need nothing but themselves."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from gradcam_service.core.options import ExplainOptions
from gradcam_service.explain.methods import METHODS
from gradcam_service.local import Local


def drawn(local: Local, data: bytes, side: int, method: str = "", label: int | None = None, question: str = "") -> str:
    """A picture under the map of a class, as the data URI of a JPEG; a map of signed colours alone.

    Args:
        local: the model.
        data: an encoded picture.
        side: most pixels of its longest side.
        method: of the map; empty for the picture alone.
        label: index of the class; None for the model's top class.
        question: asked about the picture, of a model that answers one.

    Raises:
        ServiceError: it can't be drawn.
    """
    alone = not method
    shown = "heatmap" if method and METHODS[method].kind == "signed_colour" else "overlay"
    asked: dict[str, Any] = {"alpha": 0} if alone else {"method": method, "target": None if label is None else [label]}
    asked |= {"question": question} if question else {}
    options = ExplainOptions.model_validate({**asked, "output": [shown], "max_side": side, "format": "png"})
    (explanation,) = local.explain(data, options).explanations
    picture = explanation.heatmap or explanation.overlay
    assert picture is not None
    file = io.BytesIO()
    Image.open(io.BytesIO(picture.data)).convert("RGB").save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
