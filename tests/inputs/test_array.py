"""Files of numbers become the numbers that a model receives: none squeezed, none invented, none taken unseen."""

import io
import os
import pickle
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
import torch
from fuzz.test_images import damaged
from PIL import Image

from gradcam_service.errors import TooLarge, UndecodableImage, UnfitInput
from gradcam_service.inputs import INPUTS, Takes
from gradcam_service.registry.spec import Preprocess
from inputs.files import npy, of_16_bits, png, smooth, tiff

GRAY_16, GRAY_FLOAT, FOUR_16 = Takes("", "gray", 16), Takes("", "gray", "float"), Takes("", 4, 16)

TOO_DEEP = "MemoryError" if sys.version_info < (3, 12) else "Parser stack overflowed"
"""What Python's parser raises at a number of thousands of signs, in one line."""


def received(data, takes, max_pixels=1_000_000, std=1.0, **geometry):
    """What is sent to the worker; by default nothing is resized: the input is 40 high and 30 wide."""
    channels = takes.count
    wanted = geometry or {"resize": (40, 30)}
    preprocess = Preprocess(mean=(0.25,) * channels, std=(std,) * channels, **wanted)
    return INPUTS[takes.reader].receive(data, takes, preprocess, max_pixels)


def numbers(data, takes, **geometry):
    return received(data, takes, **geometry).inputs["image"]


@pytest.mark.parametrize(
    ("write", "options"),
    [
        (png, {}),
        (npy, {}),
        (tiff, {}),
        (tiff, {"byteorder": ">"}),
        (tiff, {"compression": "zlib"}),
        (lambda values: npy(values.astype(">u2")), {}),
        (lambda values: npy(np.asfortranarray(values)), {}),
        (lambda values: npy(values[:, :, None]), {}),
    ],
)
def test_16_bits_of_gray_are_kept(write, options):
    values = of_16_bits((40, 30))
    np.testing.assert_allclose(numbers(write(values, **options), GRAY_16)[..., 0], values / 65535, rtol=1e-6)


def test_less_than_a_level_of_8_bits_is_seen():
    """A picture whose numbers differ by less than 1/255 of the range is one even grey in 8 bits."""
    values = np.full((40, 30), 30_000, np.uint16)
    values[5:20, 5:20] += 100
    seen = numbers(png(values), GRAY_16)
    assert len(np.unique(seen)) == 2
    assert np.ptp(seen) == pytest.approx(100 / 65535, rel=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"planarconfig": "separate"},
        {"photometric": "minisblack", "tile": (16, 16)},
        {"photometric": "minisblack", "rowsperstrip": 7, "compression": "zlib"},
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bands_of_a_tiff_are_those_that_were_written(options, dtype):
    values = (smooth((40, 30, 4)) * np.iinfo(dtype).max).astype(dtype)
    separate = options.get("planarconfig") == "separate"
    layout = {"planarconfig": "contig", "photometric": "rgb"} | options
    data = tiff(np.moveaxis(values, 2, 0) if separate else values, **layout)
    np.testing.assert_allclose(numbers(data, FOUR_16), values / np.iinfo(dtype).max, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int16", "float32", "float64", "uint8", "int32", "float16"])
@pytest.mark.parametrize("write", [npy, tiff])
def test_a_model_of_floats_is_given_the_numbers_themselves(write, dtype):
    values = (smooth((40, 30)) * 100 - (0 if dtype == "uint8" else 30)).astype(dtype)
    np.testing.assert_allclose(numbers(write(values), GRAY_FLOAT)[..., 0], values.astype(float), rtol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_bands_are_resized_and_cropped_like_torch_and_never_rounded(interpolation):
    values = of_16_bits((90, 120, 4))
    seen = received(npy(values), FOUR_16, resize=45, crop=40, interpolation=interpolation)
    tensor = torch.from_numpy(values.astype(np.float64)).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(tensor, (45, 60), mode=interpolation, antialias=True)[0] / 65535
    expected = small[:, 2:42, 10:50].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(seen.inputs["image"], expected, atol=2e-5)
    assert seen.prepared.region == (20, 4, 100, 84)
    assert seen.prepared.image_size == (120, 90)


def test_padding_has_the_mean():
    seen = numbers(npy(of_16_bits((20, 40))), GRAY_16, pad=40)
    np.testing.assert_allclose(seen[:10], 0.25, rtol=1e-6)
    np.testing.assert_allclose(seen[30:], 0.25, rtol=1e-6)


def test_pictures_of_8_bits_are_taken_by_a_model_of_shades():
    colours = (smooth((40, 30, 3)) * 255).astype(np.uint8)
    expected = np.asarray(Image.fromarray(colours).convert("L")) / 255
    np.testing.assert_allclose(numbers(png(colours), GRAY_16)[..., 0], expected, rtol=1e-6)


def test_an_array_of_8_bit_colours_is_the_picture_bit_for_bit():
    colours = (smooth((90, 60, 3)) * 255).astype(np.uint8)
    asked = {"resize": 45, "crop": 40}
    as_picture, as_array = (numbers(write(colours), Takes(), **asked) for write in (png, npy))
    assert as_picture.dtype == np.uint8
    np.testing.assert_array_equal(as_array, as_picture)


@pytest.mark.parametrize(
    ("data", "takes", "wanted"),
    [
        (npy(of_16_bits((40, 30, 4))), GRAY_16, "(H, W, 1) or (H, W)"),
        (npy(of_16_bits((40, 30))), FOUR_16, "(H, W, 4)"),
        (npy(np.moveaxis(of_16_bits((40, 30, 4)), 2, 0)), FOUR_16, "(H, W, 4)"),
        (npy(smooth((40, 30))), GRAY_16, "unsigned integers of 8 or 16 bits"),
        (npy(of_16_bits((40, 30)).astype(np.int32)), GRAY_16, "unsigned integers of 8 or 16 bits"),
        (npy(np.full((40, 30), np.nan)), GRAY_FLOAT, "finite"),
        (npy(np.full((40, 30), 1e300)), GRAY_FLOAT, "finite"),
        (npy(of_16_bits((40, 30, 3))), Takes(), "uint8 (H, W, 3)"),
    ],
)
def test_what_does_not_fit_is_refused_saying_what_would(data, takes, wanted):
    with pytest.raises(UnfitInput) as refused:
        received(data, takes)
    assert wanted in refused.value.detail


def claiming(shape):
    """A .npy file whose header says that shape, whatever it may be."""
    header = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (npy(np.zeros((3, 4, 5, 6))), "(H, W) or (H, W, bands)"),
        (npy(np.zeros((0, 4))), "(H, W) or (H, W, bands)"),
        (npy(np.zeros((40, 30))).replace(b"(40, 30)", b"(-4, 30)"), "(H, W) or (H, W, bands)"),
        (npy(np.zeros((40, 30), complex)), "integers or floating-point"),
        (npy(np.zeros((40, 30), bool)), "integers or floating-point"),
        (npy(of_16_bits((40, 30)))[:-1], "its header says 2400"),
        (npy(of_16_bits((40, 30))) + b"x", "its header says 2400"),
        (b"\x93NUMPY", "can't be read"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': nonsense", "can't be read"),
        (claiming(f"({10**400}, {10**400})"), "sizes that no array has"),
        (claiming(f"(0x1{'0' * 4000}, 4)"), "sizes that no array has"),  # too many digits to be printed
        (claiming(f"(-0x1{'0' * 4000}, 4)"), "sizes that no array has"),
        (claiming(f"({'-' * 7000}4, 4)"), f"can't be read: {TOO_DEEP}"),
        (tiff((smooth((40, 30)) * 1j).astype(np.complex64)), "holds complex64; integers or floating-point"),
        (tiff((smooth((40, 30, 4)) * 1j), photometric="minisblack", planarconfig="contig"), "holds complex128"),
        (tiff(of_16_bits((40, 30, 4)))[:400], "TIFF can't be decoded"),
    ],
)
def test_what_is_no_array_is_refused(data, wanted):
    with pytest.raises(UndecodableImage) as refused:
        received(data, GRAY_16 if data[:1] != b"I" else FOUR_16)
    assert wanted in refused.value.detail


def test_nothing_pickled_is_read(tmp_path):
    class MakesFolder:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "done"),)

    array = np.empty((2, 2), dtype=object)
    array[:] = MakesFolder()
    data = npy(array, allow_pickle=True)
    assert b"mkdir" in data
    with pytest.raises(UndecodableImage, match="object"):
        received(data, GRAY_16)
    assert not (tmp_path / "done").exists()
    pickle.loads(data[data.index(b"\x80\x04") :])
    assert (tmp_path / "done").exists()


DAMAGED = {  # what damage is done to → what it was sent for
    "bands": (tiff(of_16_bits((40, 30, 4)), planarconfig="contig", photometric="rgb"), FOUR_16),
    "deflated": (tiff(of_16_bits((40, 30, 4)), planarconfig="contig", photometric="rgb", compression="zlib"), FOUR_16),
    "floats": (tiff(smooth((40, 30))), GRAY_FLOAT),
    "array": (npy(of_16_bits((40, 30, 4))), FOUR_16),
    "png": (png(of_16_bits((40, 30))), GRAY_16),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_read_or_refused(kind, fuzz):
    data, takes = DAMAGED[kind]
    refused = 0
    for seed in range(5000 if fuzz else 400):
        body = damaged(data, np.random.default_rng(seed))
        width, height = INPUTS["array"].size(body)
        assert width * height >= 0
        try:
            received(body, takes).original()
        except (TooLarge, UndecodableImage, UnfitInput):
            refused += 1
    assert refused > 0


def refused_within(data, takes, bytes_allocated, error):
    tracemalloc.start()
    try:
        with pytest.raises(error):
            received(data, takes)
        assert tracemalloc.get_traced_memory()[1] < bytes_allocated
    finally:
        tracemalloc.stop()


def test_no_memory_is_taken_for_what_a_header_claims():
    claims = npy(of_16_bits((4, 4))).replace(b"(4, 4), }      ", b"(40000, 40000)}")
    assert b"(40000, 40000)}" in claims
    refused_within(claims, GRAY_16, 1_000_000, (UndecodableImage, TooLarge))
    large = tiff(np.zeros((2000, 2000, 4), np.uint16), compression="zlib", planarconfig="contig")
    refused_within(large, FOUR_16, 1_000_000, TooLarge)
    tiled = {"tile": (2048, 2048), "photometric": "minisblack", "planarconfig": "contig", "compression": "zlib"}
    tile = tiff(np.zeros((16, 16, 4), np.uint16), **tiled)
    refused_within(tile, FOUR_16, 1_000_000, TooLarge)


def test_more_than_a_strip_should_hold_is_not_unpacked():
    """A strip of 40×30 pixels whose 100 kB unpack to 100 MB."""
    data = bytearray(tiff(of_16_bits((40, 30, 4)), compression="zlib", photometric="minisblack", planarconfig="contig"))
    bomb = zlib.compress(bytes(100_000_000), 9)
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        tags = file.pages.first.tags
        for name, value in (("StripOffsets", len(data)), ("StripByteCounts", len(bomb))):
            tag = tags[name]
            assert tag.count == 1
            size = {3: 2, 4: 4}[tag.dtype]
            assert value < 256**size
            data[tag.valueoffset : tag.valueoffset + size] = value.to_bytes(size, "little")
    refused_within(bytes(data) + bomb, FOUR_16, 2_000_000, UndecodableImage)


def test_a_picture_of_numbers_shows_most_of_their_range_whatever_it_is():
    """1 % at both ends are cut off, so that one hot pixel doesn't make the rest black."""
    values = np.round(np.linspace(1000, 1255, 40 * 30)).reshape(40, 30).astype(np.uint16)
    values[0, 0] = 65535
    seen = received(png(values), GRAY_16)
    low, high = np.percentile(values, (1, 99))
    expected = np.clip((values - low) / (high - low), 0, 1) * 255
    for picture in (np.asarray(seen.original()), seen.prepared.pixels):
        assert picture.shape == (40, 30, 3)
        np.testing.assert_allclose(picture[..., 1], expected, atol=1)
        assert (picture[..., 0] == picture[..., 2]).all()


@pytest.mark.parametrize(("bands", "shown"), [(None, (0, 1, 2)), ((3, 2, 0), (3, 2, 0))])
def test_bands_are_drawn_in_the_colours_chosen(bands, shown):
    values = (smooth((40, 30, 4)) * 255).astype(np.uint8)
    seen = received(npy(values), Takes("", 4, 8, bands))
    np.testing.assert_allclose(np.asarray(seen.original()), values[..., list(shown)], atol=1)
    np.testing.assert_allclose(seen.prepared.pixels, values[..., list(shown)], atol=1)


@pytest.mark.parametrize("takes", [GRAY_16, Takes()])
def test_the_size_is_known_from_the_header(takes):
    bands = of_16_bits((40, 30, 4))
    whole = npy(bands), tiff(bands, planarconfig="contig"), tiff(smooth((40, 30))), png(bands[..., 0])
    assert [INPUTS[takes.reader].size(data) for data in whole] == [(30, 40)] * 4
    assert [INPUTS[takes.reader].size(data) for data in (b"x", b"II*\0", b"\x93NUMPY", npy(np.zeros(3)))] == [
        (0, 0)
    ] * 4


@pytest.mark.parametrize("takes", [GRAY_16, Takes()])
@pytest.mark.parametrize(
    "shape",
    [
        "(-1000000000, 1000)",
        "(1000, -1)",
        "(0, 4)",
        f"({10**400}, {10**400})",
        f"(0x1{'0' * 4000}, 4)",
        "-" * 7000 + "4",
    ],
)
def test_a_header_that_claims_what_no_array_has_tells_no_size(takes, shape):
    assert INPUTS[takes.reader].size(claiming(shape)) == (0, 0)


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"channels": 4, "bands": (0, 1, 4)}, {"channels": 5000}])
def test_what_no_model_takes_is_refused(wrong):
    with pytest.raises(ValueError, match=r"input\.(channels|bands) takes"):
        Takes(**wrong)
