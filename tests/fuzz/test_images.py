"""Damaged pictures and arrays: whatever arrives, the answer is a result or a problem, and no process dies of it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from inputs.files import npy, of_16_bits, png, smooth, tiff
from PIL import Image

from api.calls import BINARY, encoded
from gradcam_service.zoo.scenes import scene
from live import Service, fresh

PICTURE = Image.fromarray(scene(7, size=64).image)
GRAY, BANDS = of_16_bits((48, 64)), of_16_bits((48, 64, 4))
FORMATS = {
    **{encoding: ("scenes", encoded(PICTURE, encoding)) for encoding in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")},
    "PNG of 16 bits": ("xray", png(GRAY)),
    "TIFF of 16 bits": ("xray", tiff(GRAY)),
    "TIFF of floats": ("thermal", tiff(smooth((48, 64)).astype(np.float32))),
    "TIFF of bands": ("satellite", tiff(BANDS, planarconfig="contig")),
    "TIFF of bands, deflated": ("satellite", tiff(BANDS, planarconfig="contig", compression="zlib")),
    "NPY": ("satellite", npy(BANDS)),
}
"""What is damaged: the model that takes it, and the file."""
CONNECTIONS = 4


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
    (model, data), cases = FORMATS[encoding], 1000 if fuzz else 50
    statuses: Counter[int] = Counter()
    wrong: list[tuple[int, str]] = []

    def send(first: int) -> None:
        with fresh(guarded.url) as client:
            for seed in range(first, cases, CONNECTIONS):
                body = damaged(data, np.random.default_rng(seed))
                path, options = (("/predict", {}), ("/explain", {"output": "overlay"}))[seed % 2]
                answer = client.post(path, params={"model": model} | options, content=body, headers=BINARY)
                statuses[answer.status_code] += 1
                if answer.status_code not in (200, 413, 422):
                    wrong.append((seed, answer.text))

    processes = guarded.lasting()
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(send, range(CONNECTIONS)))
    assert not wrong, wrong[:3]
    assert guarded.lasting() == processes  # none died
    assert statuses[422] > 0  # else nothing was damaged


@pytest.mark.exhaustive
def test_damaged_pictures_leave_no_memory_behind(guarded: Service, fuzz: bool):
    files = list(FORMATS.values())

    def send(seeds: range) -> None:
        for seed in seeds:
            model, data = files[seed % len(files)]
            body = damaged(data, np.random.default_rng(seed))
            guarded.client.post("/predict", params={"model": model}, content=body, headers=BINARY)

    def memory() -> int:
        """Resident bytes."""
        return sum(process.memory_info().rss for process in guarded.children())

    send(range(100))
    before = memory()
    send(range(100, 2100 if fuzz else 300))
    assert memory() - before < 20e6
