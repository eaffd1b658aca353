"""Pictures to test with: drawn, lop-sided in every way, and encoded in every form that is read."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageDraw

from api.calls import encoded


def opened(picture):
    """A `Picture`'s image, once it is what it says it is."""
    image = Image.open(io.BytesIO(picture.data))
    assert (picture.width, picture.height) == image.size
    assert picture.media_type == Image.MIME[image.format]
    return image


def photo(width=150, height=100, seed=0):
    """A photo-like picture (RGB) without symmetry: gradients, two shapes, a little noise."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (255 * x / width, 255 * y / height, 255 * (1 - x / width) * (1 - y / height))
    noise = np.random.default_rng(seed).integers(-12, 13, (height, width, 3))
    pixels = np.clip(np.stack(channels, axis=-1) + noise, 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    draw.ellipse((width * 0.1, height * 0.2, width * 0.4, height * 0.6), fill=(250, 40, 30))
    draw.rectangle((width * 0.7, height * 0.65, width * 0.95, height * 0.9), fill=(20, 60, 240))
    return image


def followed_by(image):
    """Options that save ``image`` as the second frame."""
    return {"save_all": True, "append_images": [image.copy()]}


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def gray16(width=40, height=30):
    """A 16-bit gray picture that uses all of the range."""
    values = np.linspace(0, 65535, width * height).astype("<u2")
    return Image.frombuffer("I;16", (width, height), values.tobytes(), "raw", "I;16", 0, 1)


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width, height):
    """A PNG that claims width×height gray pixels and holds next to none."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(100))) + png_chunk(b"IEND", b"")


def tiff_tile(side, tile, value=0):
    """A gray TIFF of side×side pixels, stored as one deflated tile of tile×tile."""
    data = zlib.compress(bytes([value]) * tile**2, 9)
    tags = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 325: len(data)}
    tags[324] = 8 + 2 + 12 * (len(tags) + 1) + 4  # where the data begins
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def files():
    """Name → file: every format, mode and structure that is read and has Pillow's own meaning."""
    image, turned = photo(), photo(seed=1).transpose(Image.Transpose.ROTATE_180)
    gray, palette = image.convert("L"), image.quantize(64)
    translucent = image.copy()
    translucent.putalpha(gray)
    return {
        "jpeg": encoded(image, "JPEG", quality=85),
        "jpeg-progressive": encoded(image, "JPEG", progressive=True),
        "jpeg-gray": encoded(gray, "JPEG"),
        "jpeg-cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "jpeg-mpo": encoded(image, "MPO", **followed_by(turned)),
        "png": encoded(image, "PNG"),
        "png-gray-alpha": encoded(gray.convert("LA"), "PNG"),
        "png-rgba": encoded(translucent, "PNG"),
        "png-colour-key": encoded(image, "PNG", transparency=(250, 40, 30)),
        "png-gray-key": encoded(gray, "PNG", transparency=7),
        "png-palette": encoded(palette, "PNG"),
        "png-palette-transparent": encoded(palette, "PNG", transparency=bytes(range(0, 256, 4))),
        "png-palette-one-transparent": encoded(palette, "PNG", transparency=3),
        "png-1bit": encoded(image.convert("1"), "PNG"),
        "png-animated": encoded(image, "PNG", **followed_by(turned)),
        "webp": encoded(image, "WEBP"),
        "webp-lossless-alpha": encoded(translucent, "WEBP", lossless=True),
        "webp-animated": encoded(image, "WEBP", **followed_by(turned)),
        "gif": encoded(palette, "GIF"),
        "gif-animated-transparent": encoded(palette, "GIF", **followed_by(turned), transparency=3),
        "bmp": encoded(image, "BMP"),
        "bmp-palette": encoded(palette, "BMP"),
        "bmp-1bit": encoded(image.convert("1"), "BMP"),
        "tiff": encoded(image, "TIFF"),
        "tiff-lzw": encoded(image, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": encoded(image, "TIFF", compression="jpeg"),
        "tiff-fax": encoded(image.convert("1"), "TIFF", compression="group4"),
        "tiff-palette": encoded(palette, "TIFF"),
        "tiff-cmyk": encoded(image.convert("CMYK"), "TIFF"),
        "tiff-lab": encoded(image.convert("LAB"), "TIFF"),
        "tiff-pages": encoded(image, "TIFF", **followed_by(turned)),
        "tiff-tiled": tiff_tile(16, 32, value=90),
    }
