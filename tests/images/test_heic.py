"""Phones' HEIC, where the extra is installed: the same picture, and the same limits."""

import io
import struct
import sys
from unittest.mock import patch

import numpy as np
import pillow_heif
import pytest
from pictures import exif, photo
from PIL import Image

from gradcam_service.errors import TooLarge, UndecodableImage
from gradcam_service.images import decode as room
from gradcam_service.images.decode import decode, size_of


def heic(image, **options):
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=95, chroma=444, **options)
    return file.getvalue()


def test_it_is_the_picture_to_the_losses_of_its_compression():
    seen = decode(heic(photo()), 150 * 100)
    assert seen.mode == "RGB"
    assert seen.size == (150, 100)
    assert np.abs(np.asarray(seen).astype(int) - np.asarray(photo())).mean() < 4


def test_it_is_upright():
    seen = decode(heic(photo(), exif=exif(6)), 10**6)
    upright = photo().transpose(Image.Transpose.ROTATE_270)
    assert seen.size == upright.size
    assert np.abs(np.asarray(seen).astype(int) - np.asarray(upright)).mean() < 4


def test_its_size_is_refused_before_it_is_decoded():
    data = heic(photo())
    assert size_of(data) == (150, 100)
    with pytest.raises(TooLarge, match="150×100 = 15000 pixels; the limit is 14999"):
        decode(data, 14_999)


def test_a_frame_larger_than_its_container_claims_is_not_decoded():
    whole = heic(photo(600, 400))
    claims = whole.replace(struct.pack(">II", 600, 400), struct.pack(">II", 16, 16))
    assert size_of(claims) == (16, 16)
    with pytest.raises(UndecodableImage, match="This HEIC can't be decoded"):
        decode(claims, 10**6)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_half_a_file_is_refused(share):
    data = heic(photo())
    with pytest.raises(UndecodableImage, match="This HEIC can't be decoded"):
        decode(data[: int(len(data) * share)], 10**6)


def test_without_the_extra_it_is_named():
    room._reads_heic.cache_clear()
    try:
        with patch.dict(sys.modules, {"pillow_heif": None}), pytest.raises(UndecodableImage) as refused:
            decode(heic(photo()), 10**6)
    finally:
        room._reads_heic.cache_clear()
    assert "pip install gradcam-service[heic]" in refused.value.detail
    assert "JPEG, PNG, WebP, GIF, BMP or TIFF" in refused.value.detail
