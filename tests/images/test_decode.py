import io
import random
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from inputs.files import tiff
from pictures import exif, files, gray16, photo, png_chunk, png_header, tiff_tile
from PIL import Image, ImageOps
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2.functional import to_dtype

from api.calls import encoded
from gradcam_service.errors import ServiceError, TooLarge, UndecodableImage
from gradcam_service.images.decode import decode

LIMIT = 1_000_000
ENCODED = files()
ORIENTED = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "tiff": "TIFF"}


def reference(data):
    """By Pillow's own compositing, over white where there is transparency."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        if not upright.has_transparency_data:
            return upright.convert("RGB")
        white = Image.new("RGBA", upright.size, "white")
        return Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")


def assert_same(image, expected):
    assert image.mode == "RGB"
    assert image.size == expected.size
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("name", ENCODED)
def test_pixels_are_those_of_pillow(name):
    assert_same(decode(ENCODED[name], LIMIT), reference(ENCODED[name]))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("encoding", ORIENTED.values(), ids=ORIENTED)
def test_every_exif_orientation_is_applied(encoding, orientation):
    data = encoded(photo(), encoding, exif=exif(orientation))
    image = decode(data, LIMIT)
    assert image.size == ((100, 150) if orientation >= 5 else (150, 100))
    assert_same(image, reference(data))


def test_orientations_mean_what_the_standard_says():
    """Where the top-left corner of the stored picture is shown: EXIF 2.32, orientation."""
    shown = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}
    stored = Image.new("RGB", (30, 20))
    stored.paste((255, 0, 0), (0, 0, 5, 5))
    for orientation, (right, bottom) in shown.items():
        image = decode(encoded(stored, "PNG", exif=exif(orientation)), LIMIT)
        assert image.getpixel((right * (image.width - 1), bottom * (image.height - 1))) == (255, 0, 0)


@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")
def test_gray_of_16_bits_keeps_its_high_byte():
    data = encoded(gray16(), "PNG")
    sixteen = decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
    assert sixteen.dtype == torch.uint16
    expected = to_dtype(sixteen, torch.uint8, scale=True).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.asarray(decode(data, LIMIT)), expected)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_gray_of_16_bits_in_a_tiff(byteorder):
    values = np.arange(0, 65536, 257).astype(f"{byteorder}u2")
    mode = "I;16" if byteorder == "<" else "I;16B"
    image = Image.frombuffer(mode, (16, 16), values.tobytes(), "raw", mode, 0, 1)
    pixels = np.asarray(decode(encoded(image, "TIFF"), LIMIT))
    np.testing.assert_array_equal(pixels, np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("layout", [{"byteorder": ">"}, {"byteorder": "<"}, {"byteorder": ">", "compression": "zlib"}])
def test_a_tiff_whose_zero_is_white_is_no_negative(dtype, orientation, layout):
    values = np.array([[0, 10, 20], [200, 220, 255]]).astype(dtype) * (257 if dtype == np.uint16 else 1)
    data = tiff(values, photometric="miniswhite", extratags=[(274, "H", 1, orientation)], **layout)
    shown = 255 - np.array([[0, 10, 20], [200, 220, 255]])
    expected = np.rot90(shown, -1) if orientation == 6 else shown
    np.testing.assert_array_equal(np.asarray(decode(data, LIMIT))[..., 0], expected)


def test_gray_of_32_bits_is_read_as_16_if_it_fits():
    values = np.array([[0, 0x1234], [0x80FF, 0xFFFF]], dtype=np.int32)
    pixels = np.asarray(decode(encoded(Image.fromarray(values), "TIFF"), LIMIT))
    np.testing.assert_array_equal(pixels[..., 0], [[0, 0x12], [0x80, 0xFF]])
    with pytest.raises(UndecodableImage, match="32-bit"):
        decode(encoded(Image.fromarray(values * 2), "TIFF"), LIMIT)


def translucent(mode):
    """Red, hidden on the left, half there in the middle, there on the right; the colour hidden is blue."""
    alpha = np.repeat(np.repeat(np.array([[0, 128, 255]], np.uint8), 4, axis=0), 4, axis=1)
    colours = np.zeros((4, 12, 3), np.uint8)
    colours[:, :, 0] = 255
    colours[:, :4] = (0, 0, 255)
    if mode == "LA":
        return Image.merge("LA", [Image.fromarray(colours[:, :, 0] // 5), Image.fromarray(alpha)])
    return Image.fromarray(np.dstack([colours, alpha]))


@pytest.mark.parametrize("encoding", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_lies_over_white(encoding, mode):
    if (encoding, mode) == ("WEBP", "LA"):
        mode = "RGBA"
    options = {"lossless": True, "exact": True} if encoding == "WEBP" else {}
    seen = np.asarray(decode(encoded(translucent(mode), encoding, **options), LIMIT))[0].astype(int)
    shown = (255, 0, 0) if mode == "RGBA" else (51, 51, 51)
    half = [round(value * 128 / 255 + 255 * 127 / 255) for value in shown]
    np.testing.assert_allclose(seen[[0, 4, 8]], [(255, 255, 255), half, shown], atol=1)


def test_a_palette_of_translucent_colours_lies_over_white():
    image = Image.fromarray(np.array([[0, 1, 2]] * 3, np.uint8), mode="P")
    image.putpalette([0, 0, 255, 255, 0, 0, 0, 255, 0])
    seen = np.asarray(decode(encoded(image, "PNG", transparency=bytes([0, 128, 255])), LIMIT))
    np.testing.assert_allclose(seen[0], [(255, 255, 255), (255, 127, 127), (0, 255, 0)], atol=1)


def test_one_transparent_shade_of_16_bits_is_white():
    values = np.array([[0x1234, 0x1235], [0x8000, 0xFFFF]], np.uint16)
    data = encoded(Image.fromarray(values), "PNG")
    key = png_chunk(b"tRNS", b"\x12\x34")
    data = data[:33] + key + data[33:]
    np.testing.assert_array_equal(np.asarray(decode(data, LIMIT))[..., 0], [[0xFF, 0x12], [0x80, 0xFF]])


def test_colours_of_16_bits_are_reduced_to_their_high_byte():
    values = (np.arange(4 * 5 * 3).reshape(4, 5, 3) * 1000).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0))
    whole = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    np.testing.assert_array_equal(np.asarray(decode(whole, LIMIT)), values >> 8)


def test_inks_are_their_colours():
    inks = np.array([[(0, 0, 0, 0), (0, 0, 0, 255), (255, 0, 0, 0), (0, 255, 255, 0)]], np.uint8)
    seen = decode(encoded(Image.fromarray(inks, mode="CMYK"), "TIFF"), LIMIT)
    np.testing.assert_array_equal(np.asarray(seen)[0], [(255, 255, 255), (0, 0, 0), (0, 255, 255), (255, 0, 0)])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            np.zeros((9, 9, 3), np.float32),
            ["3 bands of 32-bit floating-point numbers", "{channels: rgb, depth: float}"],
        ),
        (np.zeros((9, 9), np.float32), ["1 band of 32-bit floating-point", "{channels: gray, depth: float}"]),
        (np.zeros((9, 9), np.float64), ["1 band of 64-bit floating-point"]),
        (np.zeros((9, 9), np.float16), ["1 band of 16-bit floating-point"]),
        (np.zeros((9, 9), np.int16), ["1 band of 16-bit signed integers", "{channels: gray, depth: float}"]),
        (np.zeros((9, 9), np.int8), ["1 band of 8-bit signed integers"]),
        (np.zeros((9, 9, 3), np.int16), ["3 bands of 16-bit signed integers"]),
        (np.zeros((9, 9, 7), np.uint16), ["7 bands of 16-bit unsigned integers", "{channels: 7, depth: float}"]),
        (np.zeros((9, 9), np.complex64), ["1 band of 64-bit complex numbers"]),
    ],
)
def test_numbers_that_are_no_picture_are_refused_for_what_they_are(values, words):
    contiguous = {"planarconfig": "contig"} if values.ndim == 3 else {}
    with pytest.raises(UndecodableImage) as refused:
        decode(tiff(values, photometric="minisblack", **contiguous), LIMIT)
    for each in words:
        assert each in refused.value.detail
    assert "8-bit JPEG or PNG" in refused.value.detail


def test_a_damaged_tiff_fills_no_log(caplog):
    whole = bytearray(encoded(photo(), "TIFF"))
    directory = int.from_bytes(whole[4:8], "little")
    for tag in range(5):
        whole[directory + 2 + 12 * tag + 2] = 0xEE  # a type that there isn't
    with pytest.raises(UndecodableImage, match="TIFF"):
        decode(bytes(whole), LIMIT)
    assert not caplog.records


def test_floats_are_refused():
    with pytest.raises(UndecodableImage, match="floating-point"):
        decode(encoded(photo().convert("F"), "TIFF"), LIMIT)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("garbage", [b"Exif\0\0", b"Exif\0\0neither II nor MM", b"Exif\0\0II*\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("encoding", ["JPEG", "PNG", "WEBP"])
def test_a_corrupt_exif_block_is_ignored(encoding, garbage):
    assert_same(decode(encoded(photo(), encoding, exif=garbage), LIMIT), reference(encoded(photo(), encoding)))


def test_corrupt_exif_in_a_png_comment_is_ignored():
    data = encoded(photo(), "PNG")
    end = png_chunk(b"IEND", b"")
    comment = png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n     8\nnot hexadecimal\n")
    assert_same(decode(data.removesuffix(end) + comment + end, LIMIT), reference(data))


NOT_READ = {
    "empty": (b"", "empty"),
    "text": ("no picture, but Größe".encode(), "text"),
    "base64": (b"iVBORw0KGgoAAAANSUhEUgAA", "text"),
    "svg": (b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "pdf": (b"%PDF-1.7\n", "PDF"),
    "zip": (b"PK\x03\x04" + bytes(30), "ZIP"),
    "avif": (b"\0\0\0\x18ftypavif" + bytes(30), "AVIF"),
    "noise": (bytes(range(1, 200)), "no kind of picture"),
    "zeros": (bytes(100), "no kind of picture"),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_what_is_no_picture_is_named(name):
    data, words = NOT_READ[name]
    with pytest.raises(UndecodableImage, match=words) as caught:
        decode(data, LIMIT)
    assert "JPEG, PNG, WebP, GIF, BMP or TIFF" in caught.value.detail


@pytest.mark.parametrize("url", ["https://example.org/cat.jpg", " s3://bucket/" + "key" * 1000 + "\n"])
def test_a_url_is_not_fetched(url):
    with pytest.raises(UndecodableImage, match="URLs are not fetched; send the bytes"):
        decode(url.encode(), LIMIT)


def test_avif_is_refused_whole():
    with pytest.raises(UndecodableImage, match="AVIF"):
        decode(encoded(photo(), "AVIF"), LIMIT)


@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive", "png", "webp", "gif", "bmp", "tiff", "tiff-lzw"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated_files_are_refused_by_name(name, share):
    data = ENCODED[name]
    with pytest.raises(UndecodableImage, match=f"(?i){name.split('-')[0]} can't be decoded"):
        decode(data[: int(len(data) * share)], LIMIT)


def test_a_corrupt_chunk_is_refused():
    data = bytearray(ENCODED["png"])
    data[data.index(b"IDAT") + 100] ^= 0xFF
    with pytest.raises(UndecodableImage, match="PNG"):
        decode(bytes(data), LIMIT)


BOMBS = {
    "png": png_header(100_000, 100_000),
    "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 100_000, 100_000, 1, 24, 0, 0, 1, 1, 0, 0),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
    "jpeg": b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0?\0",
    "tiff tile": tiff_tile(16, 2000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_size_is_refused_before_any_pixel_is_decoded(name):
    tracemalloc.start()
    with pytest.raises(TooLarge, match="1000000"):
        decode(BOMBS[name], LIMIT)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_too_large_names_the_picture_and_the_limit():
    with pytest.raises(TooLarge, match=r"100000×100000 = 10000000000 pixels; the limit is 1000000\b"):
        decode(BOMBS["png"], LIMIT)


def test_the_limit_is_inclusive_and_the_callers_own():
    data = encoded(Image.new("L", (400, 300)), "PNG")
    assert decode(data, 120_000).size == (400, 300)
    with pytest.raises(TooLarge):
        decode(data, 119_999)


@pytest.mark.filterwarnings("error")
def test_pillows_own_limit_plays_no_part():
    with pytest.raises(UndecodableImage, match="truncated"):  # not for its 400 million pixels
        decode(png_header(20_000, 20_000), 500_000_000)


def test_no_warning_comes_out_of_a_transparent_palette(recwarn):
    decode(ENCODED["png-palette-transparent"], LIMIT)
    assert not list(recwarn)


def test_threads_decode_alike():
    names = list(ENCODED) * 4
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda name: decode(ENCODED[name], LIMIT).tobytes(), names))
    assert images == [decode(ENCODED[name], LIMIT).tobytes() for name in names]


def with_valid_checksums(data):
    """A PNG whose chunks carry their true checksums, so that what was changed in them is looked at."""
    chunks, at = data[:8], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        chunks += png_chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length])
        at += 12 + length
    return chunks


def mutated(data, rng):
    """``data`` with a few bytes overwritten, removed or inserted, mostly near the front where the structure is."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 2, 4, 16))):
        at = rng.randrange(min(len(data), 300) if rng.random() < 0.6 else len(data))
        action = rng.randrange(3)
        if action == 0:
            data[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif action == 1:
            del data[at : at + rng.randrange(1, 9)]
        else:
            data[at:at] = rng.randbytes(rng.randrange(1, 5))
    if rng.random() < 0.1:
        del data[rng.randrange(len(data)) :]
    return with_valid_checksums(bytes(data)) if data[:4] == b"\x89PNG" and rng.random() < 0.8 else bytes(data)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", ENCODED)
def test_damage_raises_nothing_but_service_errors(name):
    rng = random.Random(name)
    small = 50_000  # pixels; a mutation that makes the picture larger is refused, not decoded
    for _ in range(500 if "-" not in name else 150):
        data = mutated(ENCODED[name], rng)
        try:
            image = decode(data, small)
        except ServiceError:
            continue
        assert image.mode == "RGB"
        assert image.width * image.height <= small
