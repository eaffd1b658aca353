"""DICOM files, uncompressed and of one frame: their values, and the picture that a radiologist sees of them.

Needs the extra ``dicom``. Of the file, only the tags that describe its pixels are looked at. What it says of a patient
reaches neither an answer nor a log: nothing that pydicom says, and no value of a tag, is repeated in an error.
"""

from __future__ import annotations

import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradcam_service.errors import ServiceError, UndecodableImage
from gradcam_service.images.samples import Samples, check_size

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_GRAYS = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR")
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
        UndecodableImage: it is damaged, or compressed, or of several frames, or the extra isn't installed.
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
    """See that there is one frame, within the limit, of a kind that is read."""
    if "PixelData" not in dataset:
        raise _undecodable("it holds no picture")
    samples = dataset.SamplesPerPixel
    check_size((dataset.Rows, dataset.Columns, samples), max_pixels)
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise _undecodable("it has several frames, and a picture is one; a file for each frame would work")
    if dataset.PhotometricInterpretation not in (*_GRAYS, *_COLOURS):
        raise _undecodable(f"its colours are none of {', '.join((*_GRAYS, *_COLOURS))}")


def _stored(dataset: Dataset) -> NDArray[Any]:
    """Pixels without what may lie in the bits above those that are stored, such as overlays of old."""
    from pydicom.pixels.utils import pixel_array

    values = pixel_array(dataset)
    unused = 8 * values.dtype.itemsize - dataset.BitsStored
    return (values << unused) >> unused if 0 < unused < 8 * values.dtype.itemsize and values.ndim == 2 else values


def _shades(dataset: Dataset) -> Samples:
    values, (low, high) = _modality(dataset)
    if dataset.get("VOILUTSequence"):
        table = dataset.VOILUTSequence[0]
        shade = _looked_up(values, table.LUTDescriptor, table.LUTData, dataset) / (2.0 ** table.LUTDescriptor[2] - 1)
    elif "WindowCenter" in dataset and "WindowWidth" in dataset:
        shade = windowed(
            values, _first(dataset.WindowCenter), _first(dataset.WindowWidth), dataset.get("VOILUTFunction")
        )
    else:
        shade = (values - values.min()) / (float(np.ptp(values)) or 1.0)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        low, high, shade = high, low, 1 - shade
    levels = (np.clip(shade, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Samples(values, (low, high), np.stack([levels] * 3, axis=2))


def _modality(dataset: Dataset) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Values after the modality LUT or rescaling, and the least and the largest that its bits can hold."""
    stored = _stored(dataset)
    if dataset.get("ModalityLUTSequence"):
        table = dataset.ModalityLUTSequence[0]
        values = _looked_up(stored, table.LUTDescriptor, table.LUTData, dataset)
        return values.astype(np.float32), (0.0, 2.0 ** table.LUTDescriptor[2] - 1)
    slope, intercept = (
        float(dataset.get(name, default)) for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    steps = 2**dataset.BitsStored
    ends = (-steps // 2, steps // 2 - 1) if dataset.PixelRepresentation == 1 else (0, steps - 1)
    low, high = sorted(end * slope + intercept for end in ends)
    return (stored * slope + intercept).astype(np.float32), (low, high)


def _looked_up(values: NDArray[Any], descriptor: Any, data: Any, dataset: Dataset) -> NDArray[Any]:  # noqa: ANN401
    """Values through a lookup table: how many entries, the value of the first, and bits; DICOM PS3.3, C.11.1.1.

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
        table = np.asarray(data)
    found: NDArray[Any] = table[np.clip(values.astype(np.int64) - first, 0, len(table) - 1)]
    return found


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
    values, bits = _stored(dataset), dataset.BitsStored
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        names = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
        tables = [(dataset[f"{name}Descriptor"].value, dataset[f"{name}Data"].value) for name in names]
        values = np.stack([_looked_up(values, *table, dataset) for table in tables], axis=2)
        bits = 8 * values.dtype.itemsize
    picture = (values >> max(bits - 8, 0)).astype(np.uint8)
    return Samples(picture, (0.0, 255.0), picture)


def _undecodable(reason: str) -> UndecodableImage:
    return UndecodableImage(f"This DICOM can't be decoded: {reason}.")
