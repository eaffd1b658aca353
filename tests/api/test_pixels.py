"""A model sees of a file exactly what torchvision's own preset would show it."""

import io

import numpy as np
import pytest
from PIL import Image

from . import truth
from .calls import ask, encoded, photo, png16, predict, result

PHOTO = photo(500, 375)
PIXELS = np.asarray(PHOTO)

STORED = {  # EXIF orientation → how a picture lies in the file that is to be seen upright
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: np.rot90(PIXELS, 1),
    7: np.rot90(PIXELS, 1)[:, ::-1],
    8: np.rot90(PIXELS, -1),
}


def logits(client, data, model="resnet18"):
    """All scores, in the order of the classes."""
    predictions = predict(client, data, model=model, top_k=1000)
    return np.array([p["logit"] for p in sorted(predictions, key=lambda p: p["index"])])


def assert_seen_as(client, data, image, model="resnet18"):
    np.testing.assert_allclose(logits(client, data, model), truth.logits(model, image), atol=1e-4)


def rgb(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def translucent():
    image = PHOTO.copy()
    image.putalpha(PHOTO.convert("L"))
    return image


def over_white():
    return Image.alpha_composite(Image.new("RGBA", PHOTO.size, "white"), translucent()).convert("RGB")


def gray16():
    return np.linspace(0, 65535, 300 * 400).astype(np.uint16).reshape(300, 400)


def rgb16():
    return np.stack([gray16(), gray16()[::-1], gray16()[:, ::-1]], axis=-1)


def high_bytes(samples):
    return Image.fromarray((samples >> 8).astype(np.uint8)).convert("RGB")


FILES = {  # name → the file, and the upright picture it holds, by another way than the service's where there is one
    "png": lambda: (encoded(PHOTO, "PNG"), PHOTO),
    "webp, lossless": lambda: (encoded(PHOTO, "WEBP", lossless=True, exact=True), PHOTO),
    "bmp": lambda: (encoded(PHOTO, "BMP"), PHOTO),
    "tiff": lambda: (encoded(PHOTO, "TIFF"), PHOTO),
    "gray png": lambda: (encoded(PHOTO.convert("L"), "PNG"), PHOTO.convert("L").convert("RGB")),
    "palette png": lambda: (encoded(PHOTO.quantize(64), "PNG"), PHOTO.quantize(64).convert("RGB")),
    "RGBA png": lambda: (encoded(translucent(), "PNG"), over_white()),
    "16-bit gray png": lambda: (png16(gray16()), high_bytes(gray16())),
    "16-bit RGB png": lambda: (png16(rgb16()), high_bytes(rgb16())),
    "gif, first frame": lambda: (
        encoded(PHOTO.quantize(64), "GIF", save_all=True, append_images=[photo(500, 375, seed=5).rotate(180)]),
        PHOTO.quantize(64).convert("RGB"),
    ),
}

JPEGS = {  # lossy files, of which the truth is what Pillow reads
    "jpeg": lambda: encoded(PHOTO, "JPEG", quality=85),
    "progressive jpeg": lambda: encoded(PHOTO, "JPEG", progressive=True),
    "jpeg without subsampling": lambda: encoded(PHOTO, "JPEG", subsampling=0),
    "gray jpeg": lambda: encoded(PHOTO.convert("L"), "JPEG"),
    "CMYK jpeg": lambda: encoded(PHOTO.convert("CMYK"), "JPEG"),
    "webp": lambda: encoded(PHOTO, "WEBP", quality=80),
}


@pytest.mark.parametrize("name", FILES)
def test_resnet18_sees_what_torchvision_sees_in_a_file_that_loses_nothing(client, name):
    assert_seen_as(client, *FILES[name]())


@pytest.mark.parametrize("name", JPEGS)
def test_resnet18_sees_what_torchvision_sees_in_a_lossy_file(client, name):
    data = JPEGS[name]()
    assert_seen_as(client, data, rgb(data))


@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_is_seen_upright_whatever_its_exif_orientation(client, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    assert_seen_as(client, encoded(stored, "PNG", exif=exif), PHOTO)
    as_jpeg = encoded(stored, "JPEG", exif=exif, quality=95, subsampling=0)
    (explanation,) = result(ask(client, "/explain", as_jpeg, model="resnet18"))["explanations"]
    assert (explanation["heatmap"]["width"], explanation["heatmap"]["height"]) == PHOTO.size


def test_no_two_orientations_of_the_picture_look_alike_to_the_model():
    scores = [truth.logits("resnet18", Image.fromarray(np.ascontiguousarray(stored))) for stored in STORED.values()]
    gaps = [np.abs(a - b).max() for i, a in enumerate(scores) for b in scores[:i]]
    assert min(gaps) > 1e-2  # so that the tests of orientation can fail


@pytest.mark.parametrize(
    "size", [(500, 375), (375, 500), (224, 224), (256, 256), (225, 224), (57, 43), (640, 427), (37, 1000), (1000, 37)]
)
@pytest.mark.parametrize("model", ["resnet18", "scenes"])
def test_a_picture_of_any_size_is_resized_and_cut_or_padded_as_in_training(client, size, model):
    image = photo(*size)
    assert_seen_as(client, encoded(image, "PNG"), image, model)


def test_a_picture_of_one_pixel_is_seen_too(client):
    image = Image.new("RGB", (1, 1), (200, 30, 90))
    assert_seen_as(client, encoded(image, "PNG"), image)


def test_alexnet_sees_what_torchvision_sees(client, png):
    assert_seen_as(client, png, PHOTO, "alexnet")


def test_every_picture_of_a_request_is_seen_as_by_itself(client):
    images = [photo(200 + 30 * n, 300 - 20 * n, seed=n) for n in range(8)]
    files = [("image", encoded(image, "PNG")) for image in images]
    response = client.post("/predict", files=files, data={"model": "resnet18", "top_k": "1000"})
    for image, answer in zip(images, response.json()["results"], strict=True):
        scores = np.array([p["logit"] for p in sorted(answer["predictions"], key=lambda p: p["index"])])
        np.testing.assert_allclose(scores, truth.logits("resnet18", image), atol=1e-4)
