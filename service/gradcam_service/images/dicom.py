"""DICOM files, uncompressed and of one frame: their values, and the picture that a radiologist sees of them.

Needs the extra ``dicom``. Of the file, only the tags that describe its pixels are looked at. What it says of a patient
reaches neither an answer nor a log: nothing that pydicom says, and no value of a tag, is repeated in an error.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradcam_service.errors import ServiceError, UndecodableImage
from gradcam_service.images.samples import Samples, check_size

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_GRAYS = ("MONOCHROME1", "MONOCHROME2")
_LUMINANCES = ("YBR_FULL", "YBR_FULL_422")
_PALETTE = "PALETTE COLOR"
_COLOURS = ("RGB", *_LUMINANCES, _PALETTE)
_TAGS = [
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PlanarConfiguration"),
    *("PhotometricInterpretation", "Rows", "Columns", "NumberOfFrames", "PixelData"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
    ),
]
_MOST_TAGS = 100_000  # of a file; there are some thousands in the largest of the wild
_ITEM = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""How an item of a sequence begins, in either byte order."""
_MOST_ITEMS = 10_000  # each takes pydicom 70 µs, however empty
_BEFORE_TAGS = 132  # bytes
_WORD = 0xFFFF
_Work = Callable[[NDArray[Any]], NDArray[Any]]
_MOST_BITS = 16  # of what a lookup table gives
_STRIP = 2**16
"""Pixels that are worked on at a time, so that what they become in between, of 8 bytes each, takes little memory."""


def size_of_dicom(data: bytes) -> tuple[int, int]:
    """(width, height) that the header claims.

    Raises:
        UndecodableImage: it can't be read.
    """
    dataset = _read(data, pixels=False)
    return dataset.get("Columns", 0), dataset.get("Rows", 0)


def read_dicom(data: bytes, max_pixels: int) -> Samples:
    """The values of a file, and its picture.

    Of shades, values (H, W) float32 are those after the modality LUT or rescaling, such as Hounsfield units; black and
    white are the ends of what its bits can hold, the other way round where it is MONOCHROME1. The picture is the first
    VOI LUT, or else the first window, applied to them; without either, all there is from black to white. Of colours,
    the values are the picture (H, W, 3) uint8. DICOM PS3.3, C.7.6.3.1.2, C.11.1 and C.11.2.

    Raises:
        TooLarge: it has more than ``max_pixels`` pixels; known from the header.
        UndecodableImage: it is damaged, or compressed, or of several frames or single bits, or its tags contradict each
            other, or the extra isn't installed.
    """
    dataset = _read(data)
    try:
        _check(dataset, max_pixels)
        shades = dataset.PhotometricInterpretation in _GRAYS
        return _shades(dataset) if shades else _colours(dataset)
    except ServiceError:
        raise
    except Exception:  # whatever its tags hold; the cause may quote them, and so is dropped
        raise _undecodable("its tags don't describe its pixels") from None


def _read(data: bytes, *, pixels: bool = True) -> Dataset:
    """The tags that describe pixels."""
    try:
        from pydicom.filereader import read_dataset, read_partial
        from pydicom.tag import Tag
    except ModuleNotFoundError:
        raise UndecodableImage(
            "This is DICOM, which is read where the extra dicom is installed (pip install gradcam-service[dicom]); "
            "an 8-bit PNG of it would work."
        ) from None
    if max(map(data.count, _ITEM)) > _MOST_ITEMS:
        raise _undecodable(f"its sequences have more than {_MOST_ITEMS} items")
    _keep_silent()
    left = iter(range(_MOST_TAGS))

    def ends(tag: int, vr: str | None, length: int) -> bool:
        return (not pixels and tag >= 0x7FE00008) or next(left, None) is None

    try:
        meta = read_dataset(_after_preamble(data), False, True, stop_when=lambda tag, vr, length: tag >= 0x00030000)
        _check_syntax(str(meta.get("TransferSyntaxUID", "")))
        return read_partial(io.BytesIO(data), stop_when=ends, specific_tags=list(map(Tag, _TAGS)))
    except ServiceError:
        raise
    except Exception:  # whatever damage does to a parser; as above
        raise _undecodable("its header is unreadable") from None


def _after_preamble(data: bytes) -> io.BytesIO:
    file = io.BytesIO(data)
    file.seek(_BEFORE_TAGS)
    return file


@cache
def _keep_silent() -> None:
    """None of pydicom's ways to complain may quote what is in a file."""
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"pydicom\b")


def _check_syntax(transfer_syntax: str) -> None:
    """See that nothing is compressed: a picture may unpack to more than the header says, and so may a file.

    Raises:
        UndecodableImage: it is, naming how.
    """
    from pydicom.config import IGNORE
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not transfer_syntax:
        raise _undecodable("its header names no transfer syntax")
    if transfer_syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian):
        return
    name = UID(transfer_syntax, validation_mode=IGNORE).name
    name = "of a kind unknown here" if name == transfer_syntax else name
    raise UndecodableImage(
        f"This DICOM is compressed ({name}), and only uncompressed ones are read; unpacked by "
        "`gdcmconv --raw` or `dcmdjpeg` it would work, or as an 8-bit PNG."
    )


def _check(dataset: Dataset, max_pixels: int) -> None:
    """See that there is one frame, within the limit, of a kind that is read, and that its tags agree (C.7.6.3)."""
    if "PixelData" not in dataset:
        raise _undecodable("it holds no picture")
    check_size((dataset.Rows, dataset.Columns, dataset.SamplesPerPixel), max_pixels)
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise _undecodable("it has several frames, and a picture is one; a file for each frame would work")
    photometric = dataset.PhotometricInterpretation
    if photometric not in (*_GRAYS, *_COLOURS):
        raise _undecodable(f"its colours are none of {', '.join((*_GRAYS, *_COLOURS))}")
    if dataset.SamplesPerPixel != _samples(dataset):
        raise _undecodable(f"its SamplesPerPixel is not {_samples(dataset)}, as it is of {photometric}")
    if _samples(dataset) > 1 and dataset.PixelRepresentation != 0:
        raise _undecodable(f"its {photometric} is of signed numbers; unsigned ones (PixelRepresentation 0) would work")
    if dataset.BitsAllocated == 1:
        raise _undecodable("its pixels are single bits (BitsAllocated 1); 8 or 16 bits would work")
    if dataset.get("HighBit", dataset.BitsStored - 1) != dataset.BitsStored - 1:
        raise _undecodable("its values are not in the lowest bits (HighBit is not BitsStored - 1)")
    if photometric in _LUMINANCES and (dataset.BitsAllocated, dataset.BitsStored) != (8, 8):
        raise _undecodable(f"its {photometric} has other than 8 bits; RGB would work")


def _samples(dataset: Dataset) -> int:
    return 1 if dataset.PhotometricInterpretation in (*_GRAYS, _PALETTE) else 3


def _stored(dataset: Dataset) -> NDArray[Any]:
    """Pixels (H, W) or (H, W, 3), without what may lie in the bits above those that are stored, as overlays of old."""
    from pydicom.pixels.utils import pixel_array

    values = pixel_array(dataset, raw=True)
    shape = (dataset.Rows, dataset.Columns)
    if values.shape != (shape if _samples(dataset) == 1 else (*shape, 3)):
        raise ValueError("its pixels are of another shape than its header says")
    if unused := 8 * values.dtype.itemsize - dataset.BitsStored:
        values <<= unused
        values >>= unused
    return values


def _in_strips(values: NDArray[Any], work: _Work, dtype: Any) -> NDArray[Any]:  # noqa: ANN401
    """What becomes of each pixel of (H, W) or (H, W, 3), converted to a type."""
    made = np.empty(values.shape, dtype)
    pixels, becomes = (array.reshape(-1, *values.shape[2:]) for array in (values, made))
    for begin in range(0, len(pixels), _STRIP):
        becomes[begin : begin + _STRIP] = work(pixels[begin : begin + _STRIP])
    return made


def _shades(dataset: Dataset) -> Samples:
    values, ends = _modality(dataset)
    shade, negative = _shading(values, dataset), dataset.PhotometricInterpretation == "MONOCHROME1"

    def levels(part: NDArray[Any]) -> NDArray[Any]:
        shades = np.clip(shade(part), 0, 1)
        return (1 - shades if negative else shades) * 255 + 0.5

    gray = _in_strips(values, levels, np.uint8)
    return Samples(values, ends[::-1] if negative else ends, np.stack([gray] * 3, axis=2))


def _shading(values: NDArray[Any], dataset: Dataset) -> _Work:
    """How values become shades, from 0 to 1 and perhaps beyond: by the first VOI LUT or window, else end to end."""
    if dataset.get("VOILUTSequence"):
        look_up, white = _lookup(dataset.VOILUTSequence[0], values, dataset)
        return lambda part: look_up(part) / white
    if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        center, width = _first(dataset.WindowCenter), _first(dataset.WindowWidth)
        function = dataset.get("VOILUTFunction")
        if not np.isfinite((center, width)).all() or (width <= 0 and function in ("LINEAR_EXACT", "SIGMOID")):
            raise _undecodable("its window has no finite center, or no width")
        return lambda part: windowed(part, center, width, function)
    low, spread = values.min(), float(np.ptp(values)) or 1.0
    return lambda part: (part - low) / spread


def _modality(dataset: Dataset) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Values after the modality LUT or rescaling, and the least and the largest that its bits can hold."""
    stored = _stored(dataset)
    if dataset.get("ModalityLUTSequence"):
        look_up, white = _lookup(dataset.ModalityLUTSequence[0], stored, dataset)
        return _in_strips(stored, look_up, np.float32), (0.0, white)
    slope, intercept = (
        float(default if (value := dataset.get(name)) is None else value)
        for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    steps = 2**dataset.BitsStored
    ends = (-steps // 2, steps // 2 - 1) if dataset.PixelRepresentation == 1 else (0, steps - 1)
    low, high = sorted(end * slope + intercept for end in ends)
    with np.errstate(over="ignore"):
        extent = np.array([low, high, high - low], np.float32)
    if not (np.isfinite(extent).all() and extent[1] > extent[0]):
        raise _undecodable("its RescaleSlope and RescaleIntercept leave no values that are finite and differ")
    return _in_strips(stored, lambda part: part * slope + intercept, np.float32), (low, high)


def _lookup(table: Dataset, values: NDArray[Any], dataset: Dataset) -> tuple[_Work, float]:
    """What looks values up in the table of a modality or VOI LUT, and the largest that its bits can hold."""
    bits = table.LUTDescriptor[2]
    if not 1 <= bits <= _MOST_BITS:
        raise _undecodable(f"its lookup table has not from 1 to {_MOST_BITS} bits")
    return _looking_up(values, table.LUTDescriptor, table.LUTData, dataset), 2.0**bits - 1


def _looking_up(
    values: NDArray[Any],
    descriptor: Any,  # noqa: ANN401
    data: Any,  # noqa: ANN401
    dataset: Dataset,
) -> _Work:
    """What looks these values up, or a part of them. A descriptor is a table's length, first value and bits (C.11.1.1).

    Not pydicom's ``apply_voi``, whose indices wrap at 256 where the entries have 8 bits.
    """
    count, first = (int(number) & _WORD for number in descriptor[:2])
    count = count or _WORD + 1
    if first > _WORD // 2 and values.min() < 0:  # the first value is signed where values are
        first -= _WORD + 1
    if isinstance(data, bytes):
        little_endian = dataset.original_encoding[1]
        dtype = "u1" if len(data) < 2 * count else f"{'<' if little_endian else '>'}u2"
        table = np.frombuffer(data, dtype)[:count]
    else:
        table = np.asarray(data, np.uint16)
    return lambda part: table[np.clip(part.astype(np.int64) - first, 0, len(table) - 1)]


def windowed(values: NDArray[Any], center: float, width: float, function: str | None) -> NDArray[np.float64]:
    """Values to shades from 0 to 1 by a window; DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3.

    Args:
        values: of any shape.
        center: the middle of the window.
        width: of the window; at least 1 for LINEAR, else above 0.
        function: LINEAR (the default), LINEAR_EXACT or SIGMOID.
    """
    away = values.astype(np.float64) - center
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * away / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return np.clip(away / width + 0.5, 0, 1)
    if width <= 1:
        return np.where(away > -0.5, 1.0, 0.0)
    return np.clip((away + 0.5) / (width - 1) + 0.5, 0, 1)


def _first(value: Any) -> float:  # noqa: ANN401  a number, or several
    """Of several windows, the first."""
    return float(value[0]) if hasattr(value, "__len__") else float(value)


def _colours(dataset: Dataset) -> Samples:
    from pydicom.pixels.processing import convert_color_space

    stored, bits = _stored(dataset), dataset.BitsStored
    if dataset.PhotometricInterpretation == _PALETTE:
        bands = [_of_palette(stored, colour, dataset) for colour in ("Red", "Green", "Blue")]
        picture = np.stack(bands, axis=2)
    elif dataset.PhotometricInterpretation in _LUMINANCES:  # of which even twice as wide ones are as wide now
        picture = _in_strips(stored, lambda part: convert_color_space(part, "YBR_FULL", "RGB"), np.uint8)
    else:
        picture = _in_strips(stored, lambda part: part >> max(bits - 8, 0), np.uint8)
    return Samples(picture, (0.0, 255.0), picture)


def _of_palette(stored: NDArray[Any], colour: str, dataset: Dataset) -> NDArray[np.uint8]:
    """One of the colours (H, W) that these indices (H, W) stand for."""
    name = f"{colour}PaletteColorLookupTable"
    look_up = _looking_up(stored, dataset[f"{name}Descriptor"].value, dataset[f"{name}Data"].value, dataset)
    of_8_bits = 8 * (look_up(stored[:1, :1]).dtype.itemsize - 1)
    return _in_strips(stored, lambda part: look_up(part) >> of_8_bits, np.uint8)


def _undecodable(reason: str) -> UndecodableImage:
    return UndecodableImage(f"This DICOM can't be decoded: {reason}.")
