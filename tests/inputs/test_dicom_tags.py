"""DICOM whose tags contradict each other, or leave no numbers to see: refused by name, and at little memory."""

import itertools
import random
import tracemalloc

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from gradcam_service.errors import ServiceError, UndecodableImage
from gradcam_service.images.dicom import read_dicom
from gradcam_service.inputs import Takes
from inputs.dicoms import dicom, table
from inputs.files import smooth
from inputs.test_array import received

pytestmark = pytest.mark.filterwarnings("ignore:::pydicom")

GRAY_16, GRAY_FLOAT = Takes("", "gray", 16), Takes("", "gray", "float")
TWELVE = np.round(smooth((40, 30)) * 4095).astype(np.uint16)
EIGHT = (TWELVE >> 4).astype(np.uint8)
COLOURS = (smooth((40, 30, 3)) * 255).astype(np.uint8)
SPREAD = np.repeat(np.arange(256, dtype=np.uint16), 256).reshape(256, 256)


def palette(entries=256):
    ramp = bytes(range(256))[:entries]
    return {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [entries, 0, 8]), ("Data", ramp))
    }


def written(pixels, **numbers):
    """A file with numbers that pydicom wouldn't write: each is put in the place of one of as many characters."""
    places = {keyword: str(11111 + place) for place, keyword in enumerate(numbers)}
    data = dicom(pixels, **places)
    for keyword, number in numbers.items():
        data = data.replace(b"%b " % places[keyword].encode(), number.encode().ljust(6))
    return data


CONTRADICTIONS = {
    "shades of three samples": (dicom(COLOURS, PhotometricInterpretation="MONOCHROME2"), "SamplesPerPixel is not 1"),
    "negatives of three samples": (dicom(COLOURS, PhotometricInterpretation="MONOCHROME1"), "SamplesPerPixel is not 1"),
    "a palette of three samples": (
        dicom(COLOURS, PhotometricInterpretation="PALETTE COLOR", **palette()),
        "SamplesPerPixel is not 1, as it is of PALETTE COLOR",
    ),
    "colours of one sample": (dicom(EIGHT, PhotometricInterpretation="RGB"), "SamplesPerPixel is not 3"),
    "luminance of one sample": (dicom(EIGHT, PhotometricInterpretation="YBR_FULL"), "SamplesPerPixel is not 3"),
    "luminance of 16 bits": (
        dicom(COLOURS.astype(np.uint16), PhotometricInterpretation="YBR_FULL"),
        "YBR_FULL has other than 8 bits",
    ),
    "signed colours": (dicom(COLOURS, PixelRepresentation=1), "signed"),
    "single bits": (dicom(EIGHT, BitsAllocated=1, BitsStored=1, HighBit=0), "single bits"),
    "values in the upper bits": (dicom(TWELVE << 4, bits=12, HighBit=15), "HighBit"),
    "a slope of zero": (dicom(TWELVE, RescaleSlope=0, RescaleIntercept=5), "RescaleSlope"),
    "a slope that vanishes": (dicom(TWELVE, RescaleSlope=1e-300, RescaleIntercept=0), "RescaleSlope"),
    "a slope beyond float32": (dicom(TWELVE, RescaleSlope=1e308, RescaleIntercept=0), "RescaleSlope"),
    "a slope that is none": (written(TWELVE, RescaleSlope="nan", RescaleIntercept="0"), "RescaleSlope"),
    "an endless intercept": (written(TWELVE, RescaleSlope="1", RescaleIntercept="-inf"), "RescaleSlope"),
    "a center that is none": (written(TWELVE, WindowCenter="nan", WindowWidth="400"), "window"),
    "an endless width": (written(TWELVE, WindowCenter="40", WindowWidth="inf"), "window"),
    "a window without a width": (
        dicom(TWELVE, WindowCenter=40, WindowWidth=0, VOILUTFunction="SIGMOID"),
        "window",
    ),
    "a modality LUT of no bits": (dicom(TWELVE, ModalityLUTSequence=[table(np.arange(256), 0, 0)]), "lookup table"),
    "a VOI LUT of no bits": (dicom(TWELVE, VOILUTSequence=[table(np.arange(256), 0, 0)]), "lookup table"),
    "a VOI LUT of 2000 bits": (dicom(TWELVE, VOILUTSequence=[table(np.arange(256), 0, 2000)]), "lookup table"),
}


@pytest.mark.parametrize("takes", [Takes(), GRAY_16, GRAY_FLOAT], ids=["8", "16", "float"])
@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_tags_that_leave_no_picture_are_refused_by_name(name, takes):
    data, wanted = CONTRADICTIONS[name]
    with pytest.raises(UndecodableImage, match=f"DICOM.*{wanted}"):
        received(data, takes)


SAID = {
    "PhotometricInterpretation": ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR"),
    "SamplesPerPixel": (1, 2, 3, 4),
    "PlanarConfiguration": (0, 1),
    ("BitsAllocated", "BitsStored", "HighBit"): (
        *(
            (1, 1, 0),
            (8, 8, 7),
            (8, 9, 8),
            (8, 5, 4),
            (16, 12, 11),
            (16, 12, 15),
            (16, 16, 15),
            (24, 24, 23),
            (32, 20, 19),
        ),
    ),
    "PixelRepresentation": (0, 1),
    ("Rows", "Columns"): ((40, 30), (20, 30), (1, 1200), (3600, 1)),
}


@pytest.mark.parametrize("takes", [Takes(), GRAY_16, GRAY_FLOAT], ids=["8", "16", "float"])
def test_whatever_tags_say_of_some_bytes_there_is_a_picture_or_a_refusal(takes, fuzz):
    seen = 0
    for said in random.Random(0).sample(list(itertools.product(*SAID.values())), 3000 if fuzz else 300):
        tags = {}
        for keyword, value in zip(SAID, said, strict=True):
            tags |= dict(zip(keyword, value, strict=True)) if isinstance(keyword, tuple) else {keyword: value}
        try:
            image = received(dicom(COLOURS, **tags, **palette()), takes, std=0.2).inputs["image"]
        except ServiceError:
            continue
        assert image.shape == (40, 30, takes.count)
        assert np.isfinite(image).all()
        seen += 1
    assert seen > 3  # most are contradictions


def test_an_empty_window_or_slope_is_none():
    """As de-identified files have them."""
    empty = {"WindowCenter": "", "WindowWidth": "", "RescaleSlope": "", "RescaleIntercept": ""}
    for takes in (Takes(), GRAY_FLOAT):
        np.testing.assert_array_equal(
            received(dicom(TWELVE, **empty), takes).inputs["image"], received(dicom(TWELVE), takes).inputs["image"]
        )


LARGE = np.tile(SPREAD, (8, 8))  # 4 million pixels
HEAVY = {
    "a window": ((LARGE.astype(np.uint8)), {"WindowCenter": 128, "WindowWidth": 200}),
    "a negative of 16 bits": (LARGE, {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 9, "WindowWidth": 9}),
    "a sigmoid": (LARGE.astype(np.uint8), {"WindowCenter": 9, "WindowWidth": 9, "VOILUTFunction": "SIGMOID"}),
    "a VOI LUT": (LARGE.astype(np.uint8), {"VOILUTSequence": [table(np.arange(256), 0, 8)]}),
    "a modality LUT": (LARGE.astype(np.uint8), {"ModalityLUTSequence": [table(np.arange(256), 0, 8)]}),
    "a palette": (LARGE.astype(np.uint8), {"PhotometricInterpretation": "PALETTE COLOR", **palette()}),
    "luminance": (np.stack([LARGE.astype(np.uint8)] * 3, axis=2), {"PhotometricInterpretation": "YBR_FULL"}),
    "colours": (np.stack([LARGE.astype(np.uint8)] * 3, axis=2), {}),
}


@pytest.mark.parametrize("name", HEAVY)
def test_what_pixels_become_in_between_takes_little_memory(name):
    pixels, tags = HEAVY[name]
    data = dicom(pixels, ExplicitVRLittleEndian, **tags)
    tracemalloc.start()
    read_dicom(data, LARGE.size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - 2 * len(data) < 12 * LARGE.size  # the values of 4 bytes, the picture of 3, the shades of 1, and some
