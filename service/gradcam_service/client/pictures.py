"""Pictures as callers have them → the bytes that are sent."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

Single: TypeAlias = Union[str, "os.PathLike[str]", bytes, "Image.Image", "np.ndarray[Any, Any]"]
"""A file's path, its bytes, a picture of Pillow's, or an array: (H, W, 3) or (H, W) uint8, or what the model takes."""


@dataclass(frozen=True)
class Frames:
    """Pictures that are one input of a model together, as what an agent sees: the oldest first."""

    pictures: Sequence[Single]


Picture: TypeAlias = Single | Frames
"""What a model takes as one image."""

_SHOWN = 200
"""Characters that are shown of a URL."""
_IN_PNG = ("1", "L", "LA", "P", "RGB", "RGBA")
_NUMBERS = ("I", "F")
"""Modes of more bits than PNG has."""


def encoded(picture: Picture) -> bytes | list[bytes]:
    """The bytes of a file, or of one for each frame: those given, or a PNG or ``.npy`` that loses nothing.

    Raises:
        OSError: the file can't be read.
        ValueError: it is a URL.
        TypeError: it is no picture.
    """
    return [_file(each) for each in picture.pictures] if isinstance(picture, Frames) else _file(picture)


def _file(picture: Single) -> bytes:
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str) and picture.startswith(("http://", "https://", "data:")):
        raise ValueError(f"{picture[:_SHOWN]!r} is no path, and URLs are not fetched; send the bytes that are there")
    if isinstance(picture, str | os.PathLike):
        return Path(picture).read_bytes()
    import numpy as np
    from PIL import Image

    if isinstance(picture, np.ndarray):
        return _npy(picture)
    if isinstance(picture, Image.Image):
        return _of_pillow(picture)
    kind = type(picture)
    raise TypeError(
        f"{kind.__module__}.{kind.__qualname__} is no picture; a path, bytes, a Pillow image or a NumPy array would be"
    )


def _of_pillow(image: Image.Image) -> bytes:
    """A PNG of an image turned upright, as the service turns a file."""
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode in _NUMBERS:
        import numpy as np

        return _npy(np.asarray(upright))
    if upright.mode.startswith("I;16"):  # in any order of bytes, of which Pillow would make a white picture
        import numpy as np

        upright = Image.fromarray(np.asarray(upright).astype("<u2"))
    elif upright.mode == "La":
        upright = upright.convert("LA")
    elif upright.mode not in _IN_PNG:
        upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    file = io.BytesIO()
    upright.save(file, "PNG", compress_level=1)  # a tenth of the time for a few more bytes
    return file.getvalue()


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
