"""How the tests make pictures, send them, and read what comes back."""

import base64
import io
import socket
import struct
import zlib
from contextlib import ExitStack, contextmanager

import numpy as np
from PIL import Image, ImageDraw

from gradcam_service.zoo.shapes import OUTLINES
from live import ADMIN_TOKEN, PATIENCE, until

BINARY = {"Content-Type": "application/octet-stream"}
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


def photo(width, height, seed=0):
    """A photo-like picture (RGB) without any symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (255 * x / width, 255 * y / height, 255 * (1 - x / width) * (1 - y / height))
    noise = np.random.default_rng(seed).integers(-20, 21, (height, width, 3))
    image = Image.fromarray(np.clip(np.stack(channels, axis=-1) + noise, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width * 0.1, height * 0.2, width * 0.4, height * 0.6), fill=(250, 40, 30))
    draw.rectangle((width * 0.6, height * 0.65, width * 0.95, height * 0.9), fill=(20, 60, 240))
    return image


STAR = {"scenes": "star", "resnet18": 5, "alexnet": 5}
"""A class of each model that has a map on `a_star`: the shape's own, or with random weights one that happens to."""


def drawn(size, shapes):
    """A smooth canvas with shapes on it, as a PNG file, and the pixels (H, W) bool that each shape covers.

    Each shape is (its class, centre, radius, colour); where they overlap, the later one is on top.
    """
    width, height = size
    ramp = np.linspace(0, 1, width)[None, :, None]
    canvas = (1 - ramp) * np.array([40, 70, 110]) + ramp * np.array([120, 150, 170])
    image = Image.fromarray(np.repeat(canvas, height, axis=0).astype(np.uint8)).resize((width * 3, height * 3))
    masks = []
    turn = np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    for name, centre, radius, colour in shapes:
        outline = OUTLINES[name] @ turn * radius + centre
        ImageDraw.Draw(image).polygon([tuple(point) for point in outline * 3], fill=colour)
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).polygon([tuple(point) for point in outline], fill=1)
        masks.append(np.asarray(mask) > 0)
    return encoded(image.reduce(3), "PNG"), masks


def a_star(size):
    """A star off the centre of a canvas."""
    width, height = size
    return drawn(size, [("star", (0.4 * width, 0.55 * height), 0.37 * min(size), (240, 210, 60))])[0]


def encoded(image, encoding, **options):
    """An image as the bytes of a file."""
    file = io.BytesIO()
    image.copy().save(file, encoding, **options)  # a copy: saving leaves the encoder's settings on an image
    return file.getvalue()


def png16(pixels):
    """A PNG file of big 16-bit samples, (H, W) gray or (H, W, 3) RGB, which Pillow can't write."""
    height, width = pixels.shape[:2]
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    header = struct.pack(">IIBBBBB", width, height, 16, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    body = zlib.compress(np.insert(rows, 0, 0, axis=1).tobytes())
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def base64_of(data):
    return base64.b64encode(data).decode("ascii")


def ask(client, path, data, **options):
    """The response to one picture sent as the body, options in the query string."""
    return client.post(path, content=data, headers=BINARY, params=options)


def answered(response):
    """The body of a response that must be an answer."""
    assert response.status_code == 200, response.text[:500]
    assert response.headers["content-type"] == "application/json"
    return response.json()


def result(response):
    """The one result of a response that must be an answer."""
    (only,) = answered(response)["results"]
    return only


def predict(client, data, **options):
    """Predictions for one picture."""
    return result(ask(client, "/predict", data, **options))["predictions"]


def explain(client, data, **options):
    """The one explanation of one picture."""
    (only,) = result(ask(client, "/explain", data, **options))["explanations"]
    return only


def values(body):
    """A `map` as an array."""
    assert body.keys() == {"shape", "dtype", "data"}
    assert body["dtype"] == "float32"
    return np.frombuffer(base64.b64decode(body["data"], validate=True), "<f4").reshape(body["shape"])


def opened(body):
    """A `heatmap` or `overlay` as an image, once its media type and size have proved true."""
    assert body.keys() == {"media_type", "width", "height", "data"}
    image = Image.open(io.BytesIO(base64.b64decode(body["data"], validate=True)))
    assert Image.MIME[image.format] == body["media_type"]
    assert image.size == (body["width"], body["height"])
    image.load()
    return image


def problem(response, status, code):
    """The detail of a response that must be that problem."""
    assert response.status_code == status, response.text[:500]
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body.keys() >= {"type", "title", "status", "code", "detail", "request_id"}
    assert (body["status"], body["code"]) == (status, code), body
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["title"]
    return body["detail"]


def logged(started, response):
    """The line of the access log about a request."""

    def lines():
        request = response.headers["x-request-id"]
        return [record for record in started.records() if record.get("request_id") == request]

    until(lambda: len(lines()), 1)
    return lines()[0]


@contextmanager
def announced(client, size, path="/predict"):
    """A request whose head says that so many bytes follow, of which none has come."""
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: image/png\r\nContent-Length: {size}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=PATIENCE) as connection:
        connection.sendall(head.encode())
        yield connection


def in_flight(client):
    return next(line for line in client.get("/metrics").text.splitlines() if line.startswith("gradcam_in_flight"))


@contextmanager
def full_queue(client, images):
    """While the block runs, requests hold so many places, which are all that the queue has; they cost nothing else."""
    with ExitStack() as held:
        for _ in range(images):
            held.enter_context(announced(client, 1000))
        until(lambda: in_flight(client), f"gradcam_in_flight {images}.0")
        yield
    until(lambda: in_flight(client), "gradcam_in_flight 0.0")
