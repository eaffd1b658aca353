"""``Accept: image/…``: the caller wants the picture itself, not JSON around it."""

from __future__ import annotations

from collections.abc import Sequence

from gradcam_service.api.preference import by_preference
from gradcam_service.core.options import Call, ExplainOptions
from gradcam_service.errors import BadOption

_PICTURES = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp", "image/*": None}
_JSON = ("application/json", "application/*", "application/problem+json", "*/*", "text/html")
"""What is answered with JSON; browsers and Java's HttpURLConnection take HTML first whatever they ask for."""


def wants_picture(accept: str, output: Sequence[str] | None) -> str | None:
    """The picture type that an ``Accept`` header prefers, ``image/*`` among them; None if it prefers JSON.

    Who prefers HTML hasn't asked for a picture. Types that the wanted output doesn't come in are passed over,
    unless nothing else is acceptable.
    """
    possible = ("image/png", "image/*") if output == ["heatmap"] else tuple(_PICTURES)
    ranked = by_preference(accept)
    known = [media_type for media_type in ranked if media_type in (*_JSON, *_PICTURES)]
    best = [media_type for media_type in known if media_type in (*_JSON, *possible)] or known
    return best[0] if best and best[0] in _PICTURES else None


def for_one_picture(
    call: Call[ExplainOptions], media_type: str, otherwise: str = "Accept: application/json"
) -> Call[ExplainOptions]:
    """The call with its options set to draw one picture of the wanted type.

    A heatmap is always a PNG; where nothing says which picture, JPEG and WebP mean the overlay.

    Args:
        call: of one picture.
        media_type: of the answer, as a header or an option asks for it.
        otherwise: what would return any number of pictures.

    Raises:
        BadOption: the call asks for more than one picture, or for one that has no such type.
    """
    options = call.options
    wanted = _PICTURES[media_type]
    output = options.output or (["heatmap"] if wanted in (None, "png") else ["overlay"])
    if len(call.images) != 1 or len(options.target or [None]) != 1 or output not in (["heatmap"], ["overlay"]):
        raise BadOption(
            f"an answer that is a picture ({media_type}) needs one image, one target and output=heatmap or "
            f"output=overlay; {otherwise} returns any number"
        )
    if output == ["heatmap"] and wanted not in (None, "png"):
        raise BadOption(f"a heatmap is always a PNG; Accept: image/png or output=overlay would work, not {media_type}")
    return Call(call.images, options.model_copy(update={"output": output, "format": wanted or options.format}))
