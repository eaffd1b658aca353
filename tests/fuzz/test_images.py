"""Damaged pictures: whatever bytes arrive, the answer is a picture's or a problem's, and no process dies of them."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from api.calls import BINARY, encoded
from gradcam_service.zoo.scenes import scene
from live import Service, running_eagerly

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
CONNECTIONS = 4


@pytest.fixture(scope="module")
def guarded():
    with running_eagerly(max_pixels=4_000_000) as service:
        yield service


def original(encoding: str) -> bytes:
    return encoded(Image.fromarray(scene(7, size=64).image), encoding)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """The file with bits flipped, numbers made extreme, a part cut out, doubled or moved, or the end missing."""
    array = np.frombuffer(data, np.uint8).copy()
    for _ in range(int(rng.integers(1, 5))):
        # Half of the damage is done to the first bytes, where the headers are.
        reach = min(64, len(array)) if rng.random() < 0.5 else len(array)
        at = int(rng.integers(0, max(1, reach - 8)))
        length = int(rng.integers(1, 64))
        match rng.integers(0, 6):
            case 0:
                array[at] ^= np.uint8(1 << rng.integers(0, 8))
            case 1:
                array[at : at + 4] = rng.choice([0, 127, 128, 255])
            case 2:
                array = array[: max(1, int(rng.integers(0, len(array))))]
            case 3:
                array = np.delete(array, slice(at, at + length))
            case 4:
                array = np.insert(array, at, array[at : at + length])
            case _:
                array[at : at + length] = rng.integers(0, 256, len(array[at : at + length]), np.uint8)
        if not len(array):
            return b"\0"
    return array.tobytes()


@pytest.mark.parametrize("encoding", FORMATS)
def test_a_damaged_picture_is_answered_or_refused(guarded: Service, encoding: str, fuzz: bool):
    data, cases = original(encoding), 1000 if fuzz else 300
    statuses: Counter[int] = Counter()
    wrong: list[tuple[int, str]] = []

    def send(first: int) -> None:
        with httpx.Client(base_url=guarded.url, timeout=60) as client:
            for seed in range(first, cases, CONNECTIONS):
                body = damaged(data, np.random.default_rng(seed))
                path = ("/predict", "/explain?output=overlay")[seed % 2]
                answer = client.post(path, content=body, headers=BINARY)
                statuses[answer.status_code] += 1
                if answer.status_code not in (200, 413, 422):
                    wrong.append((seed, answer.text))

    processes = guarded.children()
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(send, range(CONNECTIONS)))
    assert not wrong, wrong[:3]
    assert set(guarded.children()) == set(processes)  # none died
    assert statuses[422] > 0  # else nothing was damaged


def test_damaged_pictures_leave_no_memory_behind(guarded: Service, fuzz: bool):
    def send(seeds: range) -> None:
        for seed in seeds:
            body = damaged(original(FORMATS[seed % len(FORMATS)]), np.random.default_rng(seed))
            guarded.client.post("/predict", content=body, headers=BINARY)

    def memory() -> int:
        """Resident bytes."""
        return sum(process.memory_info().rss for process in guarded.children())

    send(range(300))
    before = memory()
    send(range(300, 2300 if fuzz else 600))
    assert memory() - before < 20e6
