"""How long small requests wait beside a large one: twenty of one picture and one target, and one of 32 and 16 each."""

from __future__ import annotations

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from drive import Answers, Request, one_by_one

SMALL, IMAGES, TARGETS, CLASSES = 20, 32, 16, 12
"""`scenes`, the model that is asked, has twelve classes, of which four are explained twice."""


@dataclass
class Fairness:
    """What the small requests waited.

    Attributes:
        alone: without the large one.
        beside: sent at the same time, right after the large one.
        large: what that took.
        overtaken: how often it was answered after all of the small ones.
    """

    alone: Answers = field(default_factory=Answers)
    beside: Answers = field(default_factory=Answers)
    large: Answers = field(default_factory=Answers)
    overtaken: int = 0


def fairness(url: str, picture: bytes, rounds: int) -> Fairness:
    """Ask a service's ``scenes`` for explanations of a JPEG file, alone and beside the large request in turns."""
    small = Request(f"{url}/explain?model=scenes", picture)
    targets = [i % CLASSES for i in range(TARGETS)]
    images = [base64.b64encode(picture).decode()] * IMAGES
    asked = {"model": "scenes", "images": images, "target": targets, "output": "overlay", "max_side": 256}
    large = Request(f"{url}/explain", json.dumps(asked).encode(), "application/json")
    found = Fairness()
    with ThreadPoolExecutor(1) as thread:
        for _ in range(rounds):
            found.alone.add(one_by_one(small, SMALL, SMALL))
            accepted = thread.submit(one_by_one, large, 1, 1)
            time.sleep(0.2)  # until it has been read
            found.beside.add(one_by_one(small, SMALL, SMALL))
            found.overtaken += not accepted.done()
            found.large.add(accepted.result())
    assert {*found.alone.latencies, *found.beside.latencies, *found.large.latencies} == {200}
    return found
