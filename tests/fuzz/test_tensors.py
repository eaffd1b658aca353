"""Damaged requests of the Open Inference Protocol: each is answered or refused, and no process dies of it."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from inputs.files import of_16_bits

from api.calls import encoded
from api.v2 import LENGTH, binary, elements, in_json, pictures
from live import Service, fresh

from .test_images import CONNECTIONS, PICTURE, damaged

FILE = encoded(PICTURE, "JPEG")
TENSOR = np.zeros((1, 3, 128, 128), "<f4")
PIXELS = np.asarray(PICTURE)[None]
BANDS = of_16_bits((24, 32, 4))[None].astype("<u2")
WANTED = {"outputs": [{"name": "map"}, {"name": "scores", "parameters": {"classification": 2}}]}
TARGET = ("target", "BYTES", [1, 2], elements([b"star", b"flower"]))
REQUESTS = {
    "files": ("scenes", pictures(FILE, FILE)),
    "files and targets": ("scenes-explain", binary(("image", "BYTES", [1], elements([FILE])), TARGET, **WANTED)),
    "base64": ("scenes-explain", {"content": json.dumps(in_json(FILE, **WANTED)["json"]).encode(), "headers": {}}),
    "pixels": ("scenes", binary(("image", "UINT8", PIXELS.shape, PIXELS.tobytes()), **WANTED)),
    "bands": ("satellite", binary(("image", "UINT16", BANDS.shape, BANDS.tobytes()))),
    "prepared": ("scenes-tensor", binary(("input", "FP32", TENSOR.shape, TENSOR.tobytes()))),
    "raw": ("scenes", {"content": FILE, "headers": {LENGTH: "0"}}),
}
"""What is damaged: the face that takes it, and the request."""


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_damaged_request_is_answered_or_refused(guarded: Service, kind: str, fuzz: bool):
    (face, request), cases = REQUESTS[kind], 1000 if fuzz else 40
    statuses: Counter[int] = Counter()
    wrong: list[tuple[int, str]] = []

    def send(first: int) -> None:
        with fresh(guarded.url) as client:
            for seed in range(first, cases, CONNECTIONS):
                rng = np.random.default_rng(seed)
                body, headers = request["content"], dict(request["headers"])
                length = int(headers.get(LENGTH, len(body)))
                if rng.random() < 0.5:  # the JSON, which the rest hangs on
                    head = damaged(body[:length], rng) if length else b""
                    body = head + body[length:]
                else:
                    body = damaged(body, rng)
                if LENGTH in headers and rng.random() < 0.2:
                    headers[LENGTH] = str(length + int(rng.integers(-3, 4)))
                answer = client.post(f"/v2/models/{face}/infer", content=body, headers=headers)
                statuses[answer.status_code] += 1
                if answer.status_code not in (200, 400, 413, 501):
                    wrong.append((seed, answer.text))

    processes = guarded.lasting()
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(send, range(CONNECTIONS)))
    assert not wrong, wrong[:3]
    assert guarded.lasting() == processes  # none died
    assert statuses[400] > 0  # else nothing was damaged
