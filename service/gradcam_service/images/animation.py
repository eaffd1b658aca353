"""Frames of one file: an animated picture, or an array of several."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageSequence

from gradcam_service.errors import TooLarge, UnfitInput
from gradcam_service.images.decode import complaining, opened, size_of
from gradcam_service.images.numbers import NPY, read_frames
from gradcam_service.images.signatures import kind

_ANIMATED = ("GIF", "PNG", "WebP")


def files_of(data: bytes, count: int, max_pixels: int) -> Sequence[bytes]:
    """Each frame of a file as a file of its own, oldest first.

    Args:
        data: an animated GIF, PNG or WebP; a ``.npy`` file of frames; or any other picture, which is one frame.
        count: how many there should be.
        max_pixels: that all frames together may have.

    Raises:
        TooLarge: they have more.
        UndecodableImage: it is damaged.
        UnfitInput: an animation or an array is of more or fewer.
    """
    if data.startswith(NPY):
        arrays = read_frames(data, max_pixels)
        check_count(len(arrays), count)
        return [_npy(frame) for frame in arrays]
    if kind(data) not in _ANIMATED:
        return [data]
    with complaining(data):
        image = opened(data)
        frames = getattr(image, "n_frames", 1)
        if frames == 1:
            return [data]
        check_count(frames, count)
        width, height = image.size
        if frames * width * height > max_pixels:
            raise TooLarge(f"The picture has {frames} frames of {width}×{height} pixels; the limit is {max_pixels}.")
        return [_png(frame) for frame in ImageSequence.Iterator(image)]


def check_count(found: int, count: int) -> None:
    """Refuse more or fewer frames than are taken.

    Raises:
        UnfitInput: saying what would work.
    """
    if found != count:
        raise UnfitInput(
            f"{found} frame{'s' * (found != 1)} came, but this model takes {count}, oldest first; as many parts or "
            "members of a JSON list named frames, files with --frames, one animated GIF, PNG or WebP, or an array "
            "(frames, H, W) or (frames, H, W, C) would work"
        )


def size_of_frame(data: bytes) -> tuple[int, int]:
    """(width, height) that a picture's header claims; (0, 0) where it can't be read, and of arrays."""
    return (0, 0) if data.startswith(NPY) else size_of(data)


def _png(frame: Image.Image) -> bytes:
    """A frame as a file; its colours are those that it is shown in."""
    file = io.BytesIO()
    shown = frame if frame.mode in ("L", "RGB", "RGBA") else frame.convert("RGBA")
    shown.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _npy(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(frame), allow_pickle=False)
    return file.getvalue()
