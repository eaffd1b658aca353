"""What is said of names that are nearly one that there is."""

import pytest

from gradcam_service.naming import did_you_mean, nearest

METHODS = ["gradcam", "gradcam_plus_plus", "layercam", "smoothgrad"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("gradcm", "gradcam"),
        ("GradCAM", "gradcam"),
        ("gradcam++", "gradcam_plus_plus"),
        ("Grad-CAM++", "gradcam_plus_plus"),
        ("layer-cam", "layercam"),
        ("smoothgard", "smoothgrad"),
        ("lime", None),
        ("", None),
        ("gradcam" + "x" * 10_000_000, None),  # compared letter by letter, this would take minutes
    ],
)
def test_the_name_that_is_most_like_it_in_any_case_is_meant(written, expected):
    assert nearest(written, METHODS) == expected
    assert did_you_mean(written, METHODS) == (f" (did you mean {expected!r}?)" if expected else "")


def test_a_name_is_told_as_it_is_written():
    assert nearest("imagenet1k_v3", ["IMAGENET1K_V1", "DEFAULT"]) == "IMAGENET1K_V1"
