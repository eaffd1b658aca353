"""DICOM: what a radiologist sees, the values that a model takes, and nothing of the patient."""

import io
import logging
import tracemalloc
import warnings

import numpy as np
import pytest
from fuzz.test_images import damaged
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from gradcam_service.errors import ServiceError, TooLarge, UndecodableImage
from gradcam_service.images.dicom import windowed
from gradcam_service.inputs import INPUTS, Takes
from inputs.dicoms import PATIENT, dicom, table
from inputs.files import smooth
from inputs.test_array import received

pytestmark = pytest.mark.filterwarnings("ignore:::pydicom")

GRAY_8, GRAY_16, GRAY_FLOAT = Takes("", "gray", 8), Takes("", "gray", 16), Takes("", "gray", "float")
TWELVE = np.round(smooth((40, 30)) * 4095).astype(np.uint16)
HOUNSFIELD = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
COLOURS = (smooth((40, 30, 3)) * 255).astype(np.uint8)


def picture(data):
    """What a model of 8-bit colours sees."""
    return received(data, Takes()).inputs["image"]


def numbers(data, takes):
    return received(data, takes).inputs["image"][..., 0]


def test_a_window_is_what_is_seen_and_its_ends_are_black_and_white():
    """A CT, by the words of PS3.3, C.11.2.1.2: below −159 black, above 239 white, between them a line."""
    seen = picture(dicom(TWELVE, bits=12, **HOUNSFIELD))
    values = TWELVE.astype(float) - 1024
    expected = np.round(np.clip((values + 160) / 399, 0, 1) * 255)
    np.testing.assert_allclose(seen, np.repeat(expected[..., None], 3, axis=2), atol=1)
    assert (seen[values <= -160] == 0).all()
    assert (seen[values > 239] == 255).all()
    np.testing.assert_array_equal(
        received(dicom(TWELVE, bits=12, **HOUNSFIELD), GRAY_8).inputs["image"] * 255, seen[..., :1]
    )


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(40.0, 400.0), (-600.0, 1500.0), (0.5, 1.5), (100.0, 2.0)])
def test_windows_are_those_of_pydicom(function, center, width):
    values = np.arange(-1024.0, 3072.0)
    dataset = Dataset()
    dataset.PhotometricInterpretation, dataset.VOILUTFunction = "MONOCHROME2", function
    dataset.WindowCenter, dataset.WindowWidth = center, width
    dataset.BitsStored, dataset.PixelRepresentation = 12, 0
    np.testing.assert_allclose(
        windowed(values, center, width, function), apply_windowing(values, dataset) / 4095, atol=1e-9
    )


def test_a_window_of_one_value_is_a_step():
    """PS3.3, C.11.2.1.2.1: with a width of 1, x ≤ c − 0.5 is black and all above is white."""
    np.testing.assert_array_equal(windowed(np.array([8.0, 9.5, 9.6, 11.0]), 10.0, 1.0, None), [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"WindowCenter": [40, -600], "WindowWidth": [400, 1500]}, (40, 400)),  # the first of several
        ({"VOILUTFunction": "LINEAR_EXACT"}, (40.5, 401)),
        ({"PhotometricInterpretation": "MONOCHROME1"}, None),
    ],
)
def test_which_window_and_which_way_round(more, expected):
    values = TWELVE.astype(float) - 1024
    seen = picture(dicom(TWELVE, bits=12, **HOUNSFIELD | more))[..., 0]
    center, width = expected or (40, 400)
    shade = np.clip((values - center + 0.5) / (width - 1) + 0.5, 0, 1)
    np.testing.assert_allclose(seen, (shade if expected else 1 - shade) * 255, atol=1.5)


def test_without_a_window_all_there_is_goes_from_black_to_white():
    seen = picture(dicom(TWELVE, bits=12))[..., 0]
    np.testing.assert_allclose(seen, (TWELVE - TWELVE.min()) / np.ptp(TWELVE) * 255, atol=1)


@pytest.mark.parametrize(("bits", "words"), [(8, True), (8, False), (12, True)])
def test_a_voi_lut_comes_before_a_window(bits, words):
    """A table of the square root; of 8 bits with 4096 entries too, in words or bytes."""
    curve = np.sqrt(np.arange(4096) / 4095) * (2**bits - 1)
    tags = {"VOILUTSequence": [table(np.round(curve), 0, bits, words)], "WindowCenter": 40, "WindowWidth": 400}
    np.testing.assert_allclose(picture(dicom(TWELVE, bits=12, **tags))[..., 0], np.sqrt(TWELVE / 4095) * 255, atol=1.6)


def test_a_modality_lut_gives_the_values():
    squares = np.arange(4096) ** 2 // 256
    data = dicom(TWELVE, bits=12, ModalityLUTSequence=[table(squares, 0, 16)])
    np.testing.assert_array_equal(numbers(data, GRAY_FLOAT), squares[TWELVE])
    np.testing.assert_allclose(numbers(data, GRAY_16), squares[TWELVE] / 65535, rtol=1e-6)


def test_a_table_that_begins_below_zero_ends_with_its_ends():
    values = np.arange(-600, 600, dtype=np.int16).reshape(40, 30)
    data = dicom(values, VOILUTSequence=[table(np.arange(256), -128, 8)])
    np.testing.assert_array_equal(picture(data)[..., 0], np.clip(values + 128, 0, 255))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_model_of_16_bits_is_given_what_its_bits_hold_from_black_to_white(syntax, photometric):
    seen = numbers(dicom(TWELVE, syntax, bits=12, PhotometricInterpretation=photometric, **HOUNSFIELD), GRAY_16)
    expected = TWELVE / 4095
    np.testing.assert_allclose(seen, expected if photometric == "MONOCHROME2" else 1 - expected, atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_model_of_floats_is_given_the_values_in_their_units(photometric):
    seen = numbers(dicom(TWELVE, bits=12, PhotometricInterpretation=photometric, **HOUNSFIELD), GRAY_FLOAT)
    np.testing.assert_array_equal(seen, TWELVE.astype(float) - 1024)


def test_a_range_is_in_the_units_of_the_values():
    data = dicom(TWELVE, bits=12, **HOUNSFIELD)
    expected = np.clip((TWELVE.astype(float) - 1024 + 1000) / 1400, 0, 1)
    for depth in (16, "float"):
        np.testing.assert_allclose(numbers(data, Takes("", "gray", depth, range=(-1000, 400))), expected, atol=1e-6)
    colours = received(data, Takes("", "rgb", 16, range=(-1000, 400))).inputs["image"]
    np.testing.assert_allclose(colours, np.repeat(expected[..., None], 3, axis=2), atol=1e-6)


@pytest.mark.parametrize("slope", [-2.0, 0.5])
def test_signed_values_and_slopes_down(slope):
    values = TWELVE.astype(np.int16) - 2048
    data = dicom(values, bits=12, RescaleSlope=slope, RescaleIntercept=10)
    np.testing.assert_array_equal(numbers(data, GRAY_FLOAT), values * slope + 10)
    low, high = sorted(end * slope + 10 for end in (-2048, 2047))
    np.testing.assert_allclose(numbers(data, GRAY_16), (values * slope + 10 - low) / (high - low), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_what_lies_in_the_bits_above_is_no_part_of_a_value(dtype):
    """Overlays of old are in there."""
    values = TWELVE.astype(dtype) - (2048 if dtype == np.int16 else 0)
    overlaid = (values.view(np.uint16) & 0x0FFF) | (np.arange(1200).reshape(40, 30) % 16 << 12).astype(np.uint16)
    np.testing.assert_array_equal(numbers(dicom(overlaid.view(dtype), bits=12), GRAY_FLOAT), values)


def test_an_overlay_is_drawn_on_what_a_radiologist_sees():
    data = dicom(TWELVE, bits=12, **HOUNSFIELD | {"PhotometricInterpretation": "MONOCHROME1"})
    for takes in (Takes(), GRAY_8, GRAY_16, GRAY_FLOAT):
        seen = received(data, takes)
        np.testing.assert_array_equal(np.asarray(seen.original()), picture(data))
        np.testing.assert_array_equal(seen.prepared.pixels, picture(data))


@pytest.mark.parametrize("planar", [0, 1])
def test_colours(planar):
    stored = np.ascontiguousarray(np.moveaxis(COLOURS, 2, 0)).reshape(COLOURS.shape) if planar else COLOURS
    data = dicom(stored, PlanarConfiguration=planar)
    np.testing.assert_array_equal(picture(data), COLOURS)
    luminance = COLOURS @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(numbers(data, GRAY_16) * 255, luminance, atol=1)
    np.testing.assert_array_equal(received(data, Takes("", "bgr")).inputs["image"], COLOURS[..., ::-1])


def test_luminance_and_chrominance_are_converted():
    """A pure red, green and blue; JFIF's equations, PS3.3, C.7.6.3.1.2."""
    pixels = np.array([[[76, 85, 255], [150, 44, 21], [29, 255, 107]]] * 2, np.uint8)
    for name, stored in (("YBR_FULL", pixels),):
        seen = received(dicom(stored, PhotometricInterpretation=name), Takes(), resize=(2, 3)).inputs["image"]
        np.testing.assert_allclose(seen[0], np.eye(3) * 255, atol=2)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette(bits):
    indices = np.arange(1200).reshape(40, 30).astype(np.uint8)
    palette = {}
    colours = (smooth((256, 1, 3))[:, 0] * (2**bits - 1)).astype("<u2" if bits == 16 else "u1")
    for channel, name in enumerate(("Red", "Green", "Blue")):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        palette[f"{name}PaletteColorLookupTableData"] = colours[:, channel].tobytes()
    seen = picture(dicom(indices, PhotometricInterpretation="PALETTE COLOR", **palette))
    np.testing.assert_array_equal(seen, (colours[indices] >> (bits - 8)))


@pytest.mark.parametrize("takes", [Takes(), GRAY_16])
@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (dicom(TWELVE, NumberOfFrames=12), "several frames"),
        (dicom(TWELVE, PixelData=None), "holds no picture"),
        (dicom(COLOURS, PhotometricInterpretation="YBR_RCT"), "none of MONOCHROME1"),
        (dicom(TWELVE, BitsStored=None), "don't describe its pixels"),
        (dicom(TWELVE, Rows=41), "don't describe its pixels"),
        (dicom(TWELVE)[:300], "can't be decoded"),
        (bytes(128) + b"DICM" + bytes(300), "no transfer syntax"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(data, takes, wanted):
    with pytest.raises(UndecodableImage, match=f"DICOM.*{wanted}"):
        received(data, takes)


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        (JPEG2000Lossless, "JPEG 2000 Image Compression (Lossless Only)"),
        (JPEGBaseline8Bit, "JPEG Baseline (Process 1)"),
        (RLELossless, "RLE Lossless"),
        ("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian"),
        ("1.2.3.4", "of a kind unknown here"),
    ],
)
def test_what_is_compressed_is_refused_by_name_before_anything_is_unpacked(syntax, name):
    data = dicom(TWELVE)
    declared = ExplicitVRLittleEndian.encode()
    at, wanted = data.index(declared), str(syntax).encode()
    wanted += b"\0" * (len(wanted) % 2)
    padded = declared + b"\0" * (len(declared) % 2)
    length = at - 2
    data = data[:length] + len(wanted).to_bytes(2, "little") + wanted + data[at + len(padded) :]
    with pytest.raises(UndecodableImage) as refused:
        received(data, Takes())
    assert f"compressed ({name})" in refused.value.detail
    assert "gdcmconv --raw" in refused.value.detail


@pytest.mark.parametrize("takes", [Takes(), GRAY_16])
def test_the_size_is_known_before_pixels_are_read(takes):
    data = dicom(np.zeros((2000, 3000), np.uint16))
    assert INPUTS[takes.reader].size(data) == (3000, 2000)
    tracemalloc.start()
    with pytest.raises(TooLarge, match="2000×3000"):
        received(data, takes)
    assert tracemalloc.get_traced_memory()[1] < 2 * len(data) + 1_000_000  # the file as it was sent, no array of it
    tracemalloc.stop()
    assert INPUTS[takes.reader].size(bytes(128) + b"DICM") == (0, 0)


@pytest.mark.parametrize("item", [b"\xfe\xff\x00\xe0", b"\x29\x00\x01\x10"])
def test_millions_of_empty_items_or_tags_are_not_walked_through(item):
    """In 4 MB are half a million; pydicom takes half a minute for so many items."""
    data = dicom(TWELVE, ImplicitVRLittleEndian, bits=12)
    at = data.index(b"\xe0\x7f\x10\x00")
    begins = b"\x29\x00\x00\x10\xff\xff\xff\xff" if item.startswith(b"\xfe") else b""
    ends = b"\xfe\xff\xdd\xe0" + bytes(4) if begins else b""
    with pytest.raises(UndecodableImage, match="DICOM"):
        received(data[:at] + begins + (item + bytes(4)) * 500_000 + ends + data[at:], Takes())
    few = received(data[:at] + begins + (item + bytes(4)) * 100 + ends + data[at:], Takes())
    np.testing.assert_array_equal(few.inputs["image"], picture(data))


def told(data, takes, caplog):
    """All that is said of a file: what is raised, with its causes, what is logged and warned."""
    said = []
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
        for look in (lambda: received(data, takes).warnings, lambda: INPUTS[takes.reader].size(data)):
            try:
                said.append(str(look()))
            except ServiceError as error:
                said += [
                    error.detail,
                    repr(error.__cause__),
                    "" if error.__suppress_context__ else repr(error.__context__),
                ]
    return " ".join([*said, caplog.text, *(str(warning.message) for warning in warned)])


@pytest.mark.parametrize("takes", [Takes(), GRAY_16])
def test_nothing_of_a_patient_is_told_whatever_tag_holds_it(takes, caplog):
    whole = dcmread(io.BytesIO(dicom(TWELVE, bits=12, **HOUNSFIELD)))
    keywords = [element.keyword for element in whole if element.VR not in ("OW", "OB")]
    for keyword in [
        None,
        *keywords,
        "VOILUTFunction",
        "SpecificCharacterSet",
        "NumberOfFrames",
        "LossyImageCompression",
    ]:
        dataset = dcmread(io.BytesIO(dicom(TWELVE, bits=12, **HOUNSFIELD)))
        if keyword is not None:
            dataset.pop(keyword, None)
            dataset.add_new(tag_for_keyword(keyword), "LO", PATIENT)
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        assert "Zzyzx" not in told(file.getvalue(), takes, caplog)


@pytest.mark.parametrize("takes", [Takes(), GRAY_FLOAT])
def test_a_damaged_file_is_read_or_refused_and_tells_nothing(takes, caplog, fuzz):
    whole = dicom(TWELVE[:8, :6], bits=12, VOILUTSequence=[table(np.arange(256), 0, 8)], **HOUNSFIELD)
    refused = 0
    for seed in range(5000 if fuzz else 150):
        said = told(damaged(whole, np.random.default_rng(seed)), takes, caplog)
        assert "Zzyzx" not in said
        refused += "DICOM" in said
        caplog.clear()
    assert refused > 0
