"""Preprocessing as Hugging Face's image processors say it, mapped to ours and compared with the processor itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gradcam_service.errors import ModelFailed, first_line
from gradcam_service.images.geometry import prepare
from gradcam_service.registry.spec import Preprocess

_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Codes of Pillow, https://pillow.readthedocs.io/en/stable/reference/Image.html#resampling-filters."""
_TOLERANCE = 1.0
"""How far pixels may be from the processor's on average, of 255: two libraries round differently when they resize."""
_LARGE = 384
"""The side from which ConvNeXt's processor stretches pictures; it crops those of smaller models."""
_ELSEWHERE = "; say preprocess in model.yaml"


def preprocess_of(folder: Path, described: dict[str, Any], blue_first: bool = False) -> Preprocess:
    """Map the image processor of a folder.

    Args:
        folder: holds its preprocessor_config.json.
        described: the content of that.
        blue_first: whether the model is given blue, green and red.

    Raises:
        ModelFailed: it does what has no equivalent here, naming that.
    """
    from transformers import AutoImageProcessor

    try:
        # Pillow's, as models were trained: torchvision's of before 0.27 takes another filter for Lanczos.
        processor = AutoImageProcessor.from_pretrained(
            folder, backend="pil", local_files_only=True, trust_remote_code=False
        )
    except (ValueError, OSError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise ModelFailed(
            f"preprocessor_config.json describes no image processor: {first_line(error)}{_ELSEWHERE}"
        ) from error
    kind = described.get("image_processor_type", type(processor).__name__)
    if getattr(processor, "do_flip_channel_order", False) and not blue_first:
        raise ModelFailed(
            f"{kind} of preprocessor_config.json has blue first; say input: {{channels: bgr}} in model.yaml"
        )
    try:
        preprocess = _mapped(processor)
    except (ValueError, TypeError) as error:
        raise ModelFailed(f"{kind} of preprocessor_config.json can't be mapped: {error}{_ELSEWHERE}") from error
    if (off := _difference(processor, preprocess, blue_first)) > _TOLERANCE:
        raise ModelFailed(
            f"{kind} of preprocessor_config.json does more than resize, crop, rescale and normalize: its pixels would "
            f"be {off:.1f} of 255 away{_ELSEWHERE}"
        )
    return preprocess


def _mapped(processor: Any) -> Preprocess:  # noqa: ANN401  none of their classes has these attributes
    """The same preprocessing in our terms.

    Raises:
        ValueError: it does something that these have no words for.
    """

    def of(name: str) -> Any:  # noqa: ANN401
        return getattr(processor, name, None)

    if not of("do_resize"):
        raise ValueError("do_resize is false, so that pictures of any size would be taken")
    code = of("resample")
    if code not in _RESAMPLE:
        raise ValueError(f"resample is {code}; {', '.join(f'{k} ({v})' for k, v in _RESAMPLE.items())} are known")
    # (p · factor − mean) / std of pixels p in 0–255, as (p/255 − mean') / std'.
    scale = 255 * (of("rescale_factor") if of("do_rescale") else 1.0)
    mean, std = (of("image_mean"), of("image_std")) if of("do_normalize") else ([0.0] * 3, [1.0] * 3)
    return Preprocess(
        mean=tuple(float(value) / scale for value in mean),
        std=tuple(float(value) / scale for value in std),
        interpolation=_RESAMPLE[code],  # type: ignore[arg-type]
        **_sizes(of("size"), of("crop_size") if of("do_center_crop") else None, of("crop_pct")),
    )


def _sizes(size: Any, crop: Any, crop_pct: float | None) -> dict[str, Any]:  # noqa: ANN401
    """``resize`` and ``crop`` of `Preprocess`."""
    given = {"height": size, "width": size} if isinstance(size, int) else {k: v for k, v in dict(size).items() if v}
    crops = {"height": crop, "width": crop} if isinstance(crop, int) else crop and dict(crop)
    if set(given) == {"height", "width"}:
        resize: Any = (given["height"], given["width"])
    elif set(given) == {"shortest_edge"}:
        resize = given["shortest_edge"]
        if crop_pct is not None and not crops:
            if resize >= _LARGE:
                return {"resize": (resize, resize)}
            return {"resize": int(resize / crop_pct), "crop": resize}
    else:
        raise ValueError(f"size is {given}; height and width, or shortest_edge, are known")
    if not crops:
        return {"resize": resize}
    sides = (crops["height"], crops["width"])
    return {"resize": resize, "crop": sides[0] if sides[0] == sides[1] else sides}


def _difference(processor: Any, preprocess: Preprocess, blue_first: bool) -> float:  # noqa: ANN401
    """How far our pixels of a picture of noise are from the processor's on average, of 255."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 48, 3), np.uint8)
    picture = Image.fromarray(noise).resize((192, 96), Image.Resampling.BICUBIC)
    theirs = np.asarray(processor(picture, return_tensors="np")["pixel_values"][0]).transpose(1, 2, 0)
    ours = prepare(picture, **preprocess.geometry()).pixels[:, :, :: -1 if blue_first else 1] / 255.0
    if theirs.shape != ours.shape:
        return 255.0
    return 255 * float(np.abs(theirs * preprocess.std + preprocess.mean - ours).mean())
