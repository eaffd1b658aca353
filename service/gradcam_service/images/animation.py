"""Frames of one file: an animated picture, or an array of several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ImageSequence

from gradcam_service.errors import TooLarge, UnfitInput
from gradcam_service.images.decode import complaining, opened, size_of
from gradcam_service.images.numbers import NPY, pixels_of, read_frames
from gradcam_service.images.samples import Channels
from gradcam_service.images.signatures import kind

Frame: TypeAlias = bytes | NDArray[Any]
"""A file, or the numbers of one."""

_ANIMATED = ("GIF", "PNG", "WebP")


def frames_of(sent: Frame, channels: Channels, count: int, max_pixels: int) -> Iterator[Frame]:
    """Each frame of a file or an array, oldest first.

    Args:
        sent: an animated GIF, PNG or WebP; a ``.npy`` file of frames, or the array itself; or any other picture, which
            is one frame and comes as it is.
        channels: that an animation's frames are converted to; see `read_numbers`.
        count: how many there should be.
        max_pixels: that all frames together may have.

    Raises:
        TooLarge: they have more.
        UndecodableImage: it is damaged.
        UnfitInput: there are more or fewer.
    """
    if isinstance(sent, np.ndarray) or sent.startswith(NPY):
        arrays = read_frames(sent, max_pixels)
        check_count(len(arrays), count)
        yield from arrays
    elif kind(sent) not in _ANIMATED:
        check_count(1, count)
        yield sent
    else:
        with complaining(sent):
            image = opened(sent)
            frames = getattr(image, "n_frames", 1)
            check_count(frames, count)
            if frames == 1:
                yield sent
                return
            width, height = image.size
            if frames * width * height > max_pixels:
                raise TooLarge(
                    f"The picture has {frames} frames of {width}×{height} pixels; the limit is {max_pixels}."
                )
            for frame in ImageSequence.Iterator(image):
                yield pixels_of(frame if frame.mode in ("L", "RGB", "RGBA") else frame.convert("RGBA"), channels)


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
