"""How pictures are read from other protocols' bodies: what it costs, and that no other request waits for it."""

import asyncio
import json
import threading
import tracemalloc
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from starlette.requests import Request

from gradcam_service.api import instances
from gradcam_service.api.dialects import torchserve
from gradcam_service.core.admission import Capacity
from gradcam_service.core.options import PredictOptions
from gradcam_service.errors import BadRequest, TooLarge
from gradcam_service.settings import Settings

from .calls import base64_of
from .raw import part

LARGE = base64_of(bytes(2**20))
NUMBERS = np.zeros((400, 500, 3), int).tolist()
BODIES = {
    "JSON": ("application/json", json.dumps({"data": LARGE}).encode()),
    "numbers": ("application/json", json.dumps({"data": NUMBERS}).encode()),
    "an envelope": ("application/json", json.dumps({"instances": [{"data": LARGE}]}).encode()),
    "text in a form": (
        "multipart/form-data; boundary=x",
        part(['Content-Disposition: form-data; name="data"'], LARGE.encode()) + b"--x--\r\n",
    ),
    "urlencoded": ("application/x-www-form-urlencoded", b"data=" + LARGE.encode()),
}


@pytest.mark.parametrize("name", BODIES)
def test_the_pictures_of_long_bodies_are_read_beside_the_event_loop(name, monkeypatch):
    content_type, body = BODIES[name]
    picture, threads = instances.picture, []

    def noted(row, place):
        threads.append(threading.current_thread())
        return picture(row, place)

    async def reading():
        settings = Settings(cpus=1)

        async def receive():
            return {"type": "http.request", "body": body}

        app = SimpleNamespace(state=SimpleNamespace(settings=settings))
        headers = [(b"content-type", content_type.encode())]
        request = Request({"type": "http", "headers": headers, "query_string": b"", "app": app}, receive)
        with Capacity(settings).admit() as admission:
            return await torchserve._asked(request, PredictOptions, "scenes", admission)

    monkeypatch.setattr(instances, "picture", noted)
    (instance,) = asyncio.run(reading()).instances
    assert instance.error is None
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


@pytest.mark.parametrize("kind", [int, float])
def test_other_threads_get_their_turn_while_numbers_are_read(kind, monkeypatch):
    """Nothing that keeps the interpreter to itself is given more than a few numbers."""
    values, given = np.arange(200 * 300 * 3).reshape(200, 300, 3) % 256 + (kind is float) / 2, []
    array, convert = np.array, msgspec.convert

    def counted(work):
        def noted(numbers, *more):
            given.append(np.size(numbers))
            return work(numbers, *more)

        return noted

    written = values.astype(kind).tolist()
    monkeypatch.setattr(np, "array", counted(array))
    monkeypatch.setattr(msgspec, "convert", counted(convert))
    read = instances.picture(written, "it")
    assert sum(given) >= 2 * values.size
    assert max(given) <= 2**14
    np.testing.assert_array_equal(read, values if kind is int else values.transpose(2, 0, 1))


@pytest.mark.parametrize(("columns", "error"), [(1, TooLarge), (10**5, BadRequest)])
def test_columns_are_counted_before_anything_is_made_of_them(columns, error):
    members = {"inputs": {f"{number}": [0] * (10**6 // columns) for number in range(columns)}}
    tracemalloc.start()
    try:
        with pytest.raises(error):
            instances.rows_of(members, 32)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
