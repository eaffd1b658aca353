"""Bytes to an upright RGB picture, or an error that says why not."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    ExifTags,
    Image,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401  registers itself; on the first WebP, Pillow would import all its plugins
)

from gradcam_service.errors import TooLarge, UndecodableImage
from gradcam_service.images.dicom import read_dicom, size_of_dicom
from gradcam_service.images.samples import described
from gradcam_service.images.signatures import NOT_FETCHED, URL, kind
from gradcam_service.images.tiff import bands_of_tiff

# Phones' MPO is opened by the JPEG plugin. AVIF is left out: its container may claim 16×16 pixels around a frame of
# 16384×16384, which libavif decodes first and scales afterwards, so that no limit on pixels would hold.
FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF")
"""Of pictures that are read."""
FORMATS_OF_EXTRAS = ("DICOM", "HEIC")
"""Likewise, each where the extra of its name is installed."""
_MOST_BANDS = 4  # of a picture: red, green and blue, and transparency; or four inks
_PHOTOMETRIC = TiffImagePlugin.PHOTOMETRIC_INTERPRETATION
_WHAT_WORKS = f"send a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} picture"

# What Pillow raises for damaged files. Most plugins keep to the first three; the rest come out of odd TIFF tags and
# PNG chunks. Truncated data is an OSError, so is a format that nothing recognises.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
)

_UPRIGHT = {  # EXIF orientation → the transposition that undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The limit is the caller's and is checked below. Pillow's own, one for the whole process, would come first, and
# can't say how large the picture is.
Image.MAX_IMAGE_PIXELS = None

# 16 bits of which 0 is white, big-endian: Pillow knows them little-endian alone, but reads them once they are named.
TiffImagePlugin.OPEN_INFO.setdefault((TiffImagePlugin.MM, 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))

Image.preinit()  # imports the usual plugins, which would otherwise keep the first caller waiting


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """The picture in ``data``, as it is meant to be seen.

    The same pixels as Pillow's ``ImageOps.exif_transpose(Image.open(…)).convert("RGB")``, except that 16-bit gray
    keeps its high byte, where Pillow would clip it to white, and that what is transparent lies over white, where Pillow
    would show colours that nobody sees. Of an animation, the first frame. Of DICOM, what a radiologist sees.

    Args:
        data: a JPEG (MPO too), PNG, WebP, GIF, BMP, TIFF, DICOM or HEIC file.
        max_pixels: the most pixels, width times height, that are decoded.

    Returns:
        An image of mode RGB, with its EXIF orientation applied.

    Raises:
        TooLarge: the picture has more than ``max_pixels`` pixels. Known from the header: nothing was decoded.
        UndecodableImage: it is no picture, or of no format named above, or damaged.
    """
    if kind(data) == "DICOM":
        picture = read_dicom(data, max_pixels).picture
        assert picture is not None
        return Image.fromarray(picture)
    with complaining(data):
        if kind(data) == "TIFF":
            _check_tiff(data)
        return rgb(loaded(data, max_pixels))


def _check_tiff(data: bytes) -> None:
    """Refuse a TIFF of numbers without an agreed white, or of more bands than colours have.

    Raises:
        UndecodableImage: saying what it holds, and what would work.
    """
    if (found := bands_of_tiff(data)) is None:
        return
    count, dtype = found
    if count <= _MOST_BANDS and (dtype.kind in "bu" or dtype == np.int32):  # which is what Pillow makes of others, too
        return
    channels = {1: "gray", 3: "rgb"}.get(count, count)
    raise UndecodableImage(
        f"This TIFF holds {count} band{'s' * (count > 1)} of {described(dtype)}, which have no agreed colours; a model "
        f"with input: {{channels: {channels}, depth: float}} in its model.yaml takes them, others an 8-bit JPEG or PNG."
    )


@contextmanager
def complaining(data: bytes) -> Iterator[None]:
    """Whatever a library says of a damaged file in here becomes one sentence.

    Raises:
        UndecodableImage: what ``data`` seems to be, and what is wrong with it.
    """
    try:
        yield
    except DAMAGED as error:
        raise UndecodableImage(_complaint(data, error)) from error


def size_of(data: bytes) -> tuple[int, int]:
    """(width, height) that a picture's header claims, before it is turned upright; (0, 0) where it can't be read."""
    try:
        if kind(data) == "DICOM":
            return size_of_dicom(data)
        return opened(data).size
    except (*DAMAGED, UndecodableImage):
        return 0, 0


def loaded(data: bytes, max_pixels: int) -> Image.Image:
    """The picture in ``data``, upright, in a mode of its own; to be called while `complaining`.

    Raises:
        TooLarge: it has more than ``max_pixels`` pixels.
    """
    image = opened(data)
    _check_size(image, max_pixels)
    image.load()
    upright = _upright(image)
    if (
        image.mode in ("I;16", "I;16B")
        and isinstance(image, TiffImagePlugin.TiffImageFile)
        and image.tag_v2.get(_PHOTOMETRIC) == 0
    ):
        return Image.fromarray(0xFFFF - np.asarray(upright))  # 0 is white, as Pillow knows of 8 bits alone
    return upright


def opened(data: bytes) -> Image.Image:
    """A picture of which only the header has been read; to be called while `complaining`."""
    formats = ("HEIF",) if kind(data) == "HEIC" and _reads_heic() else FORMATS
    return Image.open(io.BytesIO(data), formats=formats)


@cache
def _reads_heic() -> bool:
    """Whether the extra ``heic`` is installed, whose plugin Pillow then has.

    Unlike libavif, libheif decodes no frame that is larger than its container claims.
    """
    try:
        import pillow_heif
    except ModuleNotFoundError:
        return False
    pillow_heif.register_heif_opener(thumbnails=False)
    return True


def _check_size(image: Image.Image, max_pixels: int) -> None:
    """Refuse a picture whose decoding would take more than ``max_pixels`` pixels of memory.

    Raises:
        TooLarge: it would.
        ValueError: its tiles have no size.
    """
    width, height = image.size
    if width * height > max_pixels:
        raise TooLarge(f"The picture has {width}×{height} = {width * height} pixels; the limit is {max_pixels}.")
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # a tile is decoded whole, however small its picture
        width, height = (image.tag_v2.get(tag, 1) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH))
        if not (isinstance(width, int) and isinstance(height, int)):
            raise ValueError("its tiles have no size")
        if width * height > max_pixels:
            raise TooLarge(f"The picture has tiles of {width}×{height} pixels; the limit is {max_pixels} pixels.")


def _upright(image: Image.Image) -> Image.Image:
    """``image`` turned as its EXIF orientation says; as it is, if it has none or its EXIF can't be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except DAMAGED:
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def rgb(image: Image.Image) -> Image.Image:
    """``image`` in mode RGB, over white, 16 bits reduced to 8. Raises ValueError if there is no right way."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point, which has no agreed white")
    if image.mode.startswith("I"):
        return Image.fromarray(_high_byte(over_white(image))).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 0xFF:  # of 16-bit colours, of which Pillow reads the high bytes
        image.info["transparency"] = tuple(value >> 8 for value in key)
    translucent, white = image.convert("RGBA"), Image.new("RGB", image.size, "white")
    white.paste(translucent, mask=translucent)
    return white


def over_white(image: Image.Image) -> NDArray[Any]:
    """The pixels of a picture of 16 or 32 bits, (H, W); white where a PNG calls their shade transparent."""
    pixels, hidden = np.asarray(image), image.info.get("transparency")
    return pixels if hidden is None else np.where(pixels == hidden, pixels.dtype.type(0xFFFF), pixels)


def _high_byte(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """The high byte of each 16-bit pixel. Raises ValueError if some don't fit into 16 bits."""
    if pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise ValueError("its 32-bit pixels reach beyond 0 to 65535")
    return (pixels >> 8).astype(np.uint8)


def _complaint(data: bytes, error: Exception) -> str:
    """One sentence: what ``data`` seems to be, what ``error`` says is wrong with it, and what would work."""
    if not data:
        return f"The picture is empty (0 bytes); {_WHAT_WORKS}."
    name = kind(data)
    if name is None:
        return f"The bytes look like no kind of picture known here; {_WHAT_WORKS}."
    if name == URL:
        return f"The bytes are a URL; {NOT_FETCHED}."
    if name == "HEIC" and not _reads_heic():
        return (
            f"This HEIC is read where the extra heic is installed (pip install gradcam-service[heic]); {_WHAT_WORKS}."
        )
    if name not in (*FORMATS, *FORMATS_OF_EXTRAS):
        return f"The bytes look like {name}, which is not read here; {_WHAT_WORKS}."
    reason = "its header is unreadable" if isinstance(error, UnidentifiedImageError) else error
    return f"This {name} can't be decoded: {reason}; send it again whole, or convert it to an 8-bit JPEG or PNG."
