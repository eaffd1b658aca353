"""Images as callers send them: pictures' files, or numbers: pixels, or a tensor prepared for the model."""

from __future__ import annotations

import numpy as np
from PIL import Image

from gradcam_service.errors import UnfitInput
from gradcam_service.images.geometry import PreparedImage, Region
from gradcam_service.inputs import INPUTS, Preparing, Received, Sent, Takes
from gradcam_service.inputs._warnings import hardly_normalised
from gradcam_service.inputs.array import as_picture, drawn_limits


def received(sent: Sent, takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
    """What a caller sent, ready for a model and to be drawn on.

    Args:
        sent: a file of the model's kind of input, or those of several frames; or pixels, (H, W), (H, W, C) or
            (C, H, W), of frames (frames, H, W) or (frames, H, W, C), which are prepared as those of a file; or
            floating-point numbers (C, h, w) of the very size that the model receives, which are taken as prepared and
            normalised already.
        takes: what the model takes.
        preprocess: how it wants that prepared.
        max_pixels: most pixels that are decoded.

    Raises:
        TooLarge, UndecodableImage: as the kind of input does.
        UnfitInput: likewise, or prepared numbers are not finite, or evidently not normalised.
    """
    kind = INPUTS[takes.reader]
    if isinstance(sent, tuple):
        if kind.receive_all is None:
            raise UnfitInput(f"{len(sent)} frames came, but this model takes one picture: as image, not as frames")
        return kind.receive_all(sent, takes, preprocess, max_pixels)
    if not isinstance(sent, np.ndarray):
        return kind.read(sent, takes, preprocess, max_pixels)
    if _is_prepared(sent, takes, preprocess):
        with np.errstate(over="ignore"):
            return _prepared(sent.astype(np.float32, copy=False), takes, preprocess)
    if sent.dtype.kind == "f" and takes.depth != "float":
        wanted = (takes.count, *preprocess.input_size)
        raise UnfitInput(
            f"an array {sent.shape} of {sent.dtype} is not what this model receives, {wanted}; pixels would be integers"
        )
    return kind.read(sent if takes.frames > 1 else _rows(sent, takes), takes, preprocess, max_pixels)


def size_of(sent: Sent, takes: Takes) -> tuple[int, int]:
    """(width, height) of what a caller sent, as far as it can be told; (0, 0) where it can't."""
    if not isinstance(sent, np.ndarray):
        return INPUTS[takes.reader].size(sent[-1] if isinstance(sent, tuple) else sent)
    first = takes.frames > 1 or (sent.ndim == 3 and _planes_first(sent, takes))
    height, width = (*sent.shape[int(first) :], 0, 0)[:2]
    return width, height


def _is_prepared(values: np.ndarray, takes: Takes, preprocess: Preparing) -> bool:
    """Whether an array is what the model receives: floating-point numbers (C, h, w) of its input's size."""
    return values.dtype.kind == "f" and values.shape == (takes.count, *preprocess.input_size)


def _prepared(values: np.ndarray, takes: Takes, preprocess: Preparing) -> Received:
    """A tensor that the worker takes as it is. It is its own original: drawn as it was before it was normalised."""
    if not np.isfinite(values).all():
        raise UnfitInput("some of the numbers are not finite in float32 (NaN or infinity); finite ones would work")
    shown = [values[band] * preprocess.std[band] + preprocess.mean[band] for band in takes.shown]
    scaled = takes.depth != "float" or takes.range is not None
    ends = [(0.0, 1.0) if scaled else drawn_limits(band, band.dtype, 0, 1) for band in shown]
    pixels = as_picture(shown, ends)
    height, width = values.shape[1:]
    seen = PreparedImage(pixels, Region(0, 0, width, height), (width, height))
    warnings = hardly_normalised(values, preprocess) if scaled else ()
    return Received({"tensor": values}, seen, lambda: Image.fromarray(pixels), warnings)


def _planes_first(values: np.ndarray, takes: Takes) -> bool:
    """Whether an array of three dimensions is (C, H, W): its first is as long as there are channels, its last isn't."""
    return bool(values.shape[0] == takes.count and values.shape[2] != takes.count)


def _rows(values: np.ndarray, takes: Takes) -> np.ndarray:
    """Pixels (H, W) or (H, W, C)."""
    return values.transpose(1, 2, 0) if values.ndim == 3 and _planes_first(values, takes) else values
