"""What a number means: the range of an input, and the warnings where a picture hardly uses it."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from gradcam_service.errors import UnfitInput
from gradcam_service.inputs import Takes
from inputs.files import npy, of_16_bits, png, smooth, tiff
from inputs.test_array import received

TWELVE = np.round(smooth((40, 30)) * 4095).astype(np.uint16)
LIKE_8 = np.round(TWELVE / 4095 * 255).astype(np.uint8)
DEGREES = smooth((40, 30)) * 30 + 10


@pytest.mark.parametrize("channels", ["rgb", "bgr", "gray"])
def test_12_bits_in_16_are_the_picture_in_8_bits_once_the_range_says_so(channels):
    takes = Takes("", channels, 16, range=(0, 4095))
    twelve, eight = (received(png(values), takes) for values in (TWELVE, LIKE_8))
    np.testing.assert_allclose(twelve.inputs["image"], np.dstack([TWELVE / 4095] * takes.count), rtol=1e-6)
    np.testing.assert_allclose(twelve.inputs["image"], eight.inputs["image"], atol=0.5 / 255 + 1e-6)
    assert twelve.warnings == eight.warnings == ()


def test_what_lies_beyond_the_range_is_its_end_before_anything_is_resized():
    values = np.zeros((40, 30), np.int16)
    values[:, ::2] = -3000
    values[:, 1::2] = 400
    (seen,) = received(tiff(values), Takes("", "gray", 16, range=(-1000, 400)), resize=(1, 1)).inputs.values()
    np.testing.assert_allclose(seen, 0.5, atol=0.02)  # not the mean of -3000 and 400, which would be 0


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint16"])
def test_a_range_takes_integers_with_a_sign(dtype):
    values = np.arange(1200).reshape(40, 30).astype(dtype) - (0 if dtype == "uint16" else 500)
    low, high = float(values.min()), float(values.max())
    (seen,) = received(npy(values), Takes("", "gray", 16, range=(low, high))).inputs.values()
    np.testing.assert_allclose(seen[..., 0], (values - low) / (high - low), atol=1e-6)


def test_floats_have_a_range_too_and_not_without_being_asked_for():
    (seen,) = received(npy(DEGREES), Takes("", "gray", "float", range=(10, 40))).inputs.values()
    np.testing.assert_allclose(seen[..., 0], (DEGREES - 10) / 30, atol=1e-6)
    with pytest.raises(UnfitInput, match=r"64-bit floating-point numbers .*depth: float"):
        received(npy(DEGREES), Takes("", "gray", 16, range=(10, 40)))


@pytest.mark.parametrize(
    ("values", "takes", "numbers"),
    [
        (TWELVE, Takes(), "from 3 to 15, under 1/8 of 0 to 255"),
        (TWELVE, Takes("", "bgr"), "from 3 to 15, under 1/8 of 0 to 255"),
        (TWELVE, Takes("", "gray", 16), f"from {TWELVE.min()} to {TWELVE.max()}, under 1/8 of 0 to 65535"),
        (TWELVE // 8, Takes("", "gray", 16, range=(0, 4095)), "under 1/8 of 0 to 4095"),
        (LIKE_8 // 10, Takes(), "under 1/8 of 0 to 255"),
        (LIKE_8 // 10 + 200, Takes(), "under 1/8 of 0 to 255"),
        (DEGREES, Takes("", "gray", "float"), "are of numbers from 0 to 1"),
        (-smooth((40, 30)), Takes("", "gray", "float"), "are of numbers from 0 to 1"),
        (DEGREES, Takes("", "gray", "float", range=(-100, 400)), "under 1/8 of -100 to 400"),
    ],
)
def test_a_picture_that_is_seen_as_next_to_nothing_is_warned_about(values, takes, numbers):
    data = npy(values) if values.dtype.kind == "f" else png(values)
    (warning,) = received(data, takes, std=0.5).warnings
    assert numbers in warning
    assert "range: [low, high]" in warning


@pytest.mark.parametrize(
    ("data", "takes"),
    [
        (png(of_16_bits((40, 30))), Takes("", "gray", 16)),
        (png(of_16_bits((40, 30))), Takes()),
        (png(LIKE_8), Takes()),
        (png(LIKE_8), Takes("", "gray", 16)),
        (png(np.kron(np.eye(20, 15, dtype=np.uint8) * 200, np.ones((2, 2), np.uint8))), Takes()),
        (npy(smooth((40, 30))), Takes("", "gray", "float")),
    ],
)
def test_other_pictures_are_not(data, takes):
    assert received(data, takes, std=0.5).warnings == ()


def test_one_bright_corner_of_a_large_dark_picture_is_found():
    values = np.zeros((900, 1100), np.uint8)
    values[899, 1099] = 255
    assert received(png(values), Takes()).warnings == ()


def test_numbers_in_units_of_their_own_are_not_warned_about():
    """Where mean and standard deviation are of degrees, degrees are what is meant."""
    assert received(npy(DEGREES), Takes("", "gray", "float"), std=8.0).warnings == ()


@pytest.mark.parametrize(("std", "warned"), [(0.2, 1), (0.02, 0)])
def test_a_satellite_that_uses_as_much_as_the_model_was_trained_on_is_not(std, warned):
    reflectances = np.round(smooth((40, 30, 4)) * 3000).astype(np.uint16)
    assert len(received(npy(reflectances), Takes("", 4, 16), std=std).warnings) == warned


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth": 16, "range": [5, 5]},
        {"depth": 16, "range": [5, 1]},
        {"range": [0, 4095]},
        {"depth": "float", "range": [0, float("inf")]},
        {"depth": 16, "range": [0]},
        {"depth": 16, "range": 4095},
        {"channels": "bgra"},
    ],
)
def test_a_range_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match=r"range|channels"):
        TypeAdapter(Takes).validate_python(wrong)
