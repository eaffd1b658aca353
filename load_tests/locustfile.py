"""Load for locust: users that behave like services, in several shapes, with thresholds that decide the exit code.

See README.md beside this file.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from locust import FastHttpUser, LoadTestShape, constant_throughput, events, task
from locust.env import Environment
from locust.runners import WorkerRunner
from urllib3 import encode_multipart_formdata

import gradcam_service

SHAPES: dict[str, tuple[float, Callable[[float], float]]] = {
    "steady": (60, lambda done: 1),
    "ramp": (120, lambda done: done),
    "spike": (60, lambda done: 1 if 1 / 3 <= done < 2 / 3 else 0.1),
    "soak": (3600, lambda done: 0.5),
}
"""Name → how long it takes unless told otherwise, seconds, and the share of the users at each point from 0 to 1."""

USERS = 10
"""Unless told otherwise; locust's own default is one."""
RATE = 2
"""Requests a second of each user."""

EXAMPLES = Path(gradcam_service.__file__).parent / "api/web/examples"
PICTURES = [(EXAMPLES / f"{name}.jpg").read_bytes() for name in ("camera", "cat", "coffee")]
KEY = {"Authorization": f"Bearer {key}"} if (key := os.environ.get("GRADCAM_API_KEY")) else {}


@dataclass(frozen=True)
class Body:
    """Pictures and options in one of the forms that the service takes."""

    data: bytes
    content_type: str
    query: str = ""


def multipart(pictures: list[bytes], targets: list[int]) -> Body:
    """Parts of a form."""
    fields: list[tuple[str, Any]] = [("image", ("picture", picture, "image/jpeg")) for picture in pictures]
    return Body(*encode_multipart_formdata([*fields, *(("target", str(target)) for target in targets)]))


def as_json(pictures: list[bytes], targets: list[int]) -> Body:
    """Base64 in JSON."""
    images = [base64.b64encode(picture).decode() for picture in pictures]
    options = {"target": targets} if targets else {}
    return Body(json.dumps({"images": images} | options).encode(), "application/json")


def raw(pictures: list[bytes], targets: list[int]) -> Body:
    """The picture itself; there can be one."""
    (picture,) = pictures
    return Body(picture, "application/octet-stream", "?" + "&".join(f"target={target}" for target in targets))


FORMS = {"multipart": multipart, "json": as_json, "raw": raw}


class Caller(FastHttpUser):
    """A service that asks twice a second, or as often as it is answered if that is less."""

    abstract = True
    wait_time = constant_throughput(RATE)

    def ask(self, path: str, what: str, form: str, images: int = 1, targets: int = 0) -> None:
        """Send a request, and note what the answer says of its stages."""
        body = FORMS[form](random.choices(PICTURES, k=images), random.sample(range(10), targets))
        headers = {"Content-Type": body.content_type} | KEY
        response = self.client.post(path + body.query, data=body.data, headers=headers, name=f"{path} {what}, {form}")
        for stage, milliseconds in re.findall(r"(\w+);dur=([\d.]+)", (response.headers or {}).get("server-timing", "")):
            # a row of its own, which is no request and so doesn't count among them
            self.environment.stats.get(stage, "stage").log(float(milliseconds), 0)


class Predictor(Caller):
    """Wants to know what is in a picture."""

    weight = 5

    @task
    def predict(self) -> None:
        """One picture, in each form as often."""
        self.ask("/predict", "1 image", random.choice(list(FORMS)))


class Explainer(Caller):
    """Wants to know where the model looks."""

    weight = 4

    @task(3)
    def explain(self) -> None:
        """One picture and one class."""
        self.ask("/explain", "1 target", random.choice(list(FORMS)), targets=1)

    @task(1)
    def compare(self) -> None:
        """One picture and several classes."""
        self.ask("/explain", "4 targets", random.choice(list(FORMS)), targets=4)


class Batcher(Caller):
    """Has many pictures."""

    weight = 1
    forms: ClassVar = ["multipart", "json"]

    @task
    def predict(self) -> None:
        """Eight pictures in one request."""
        self.ask("/predict", "8 images", random.choice(self.forms), images=8)

    @task
    def explain(self) -> None:
        """Eight pictures in one request, for one class."""
        self.ask("/explain", "8 images", random.choice(self.forms), images=8, targets=1)


class Shape(LoadTestShape):
    """How many users there are, over time.

    Attributes:
        asked: requests that they would have made by now, had each been answered at once.
    """

    use_common_options = True
    asked = 0.0
    _users, _since = 0, 0.0

    def tick(self) -> tuple[int, float] | None:
        """Users now and how many more may begin in a second; None when it is over."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        usual, share = SHAPES[options.shape]
        now = self.get_run_time()
        self.asked += self._users * RATE * (now - self._since)
        done = now / (options.run_time or usual)
        self._users, self._since = max(1, round(options.num_users * share(done))), now
        return (self._users, self._users) if done < 1 else None


@events.init_command_line_parser.add_listener
def add_arguments(parser: ArgumentParser) -> None:
    """Options of this load, beside locust's own."""
    parser.set_defaults(num_users=USERS)
    parser.add_argument("--shape", choices=SHAPES, default="steady", help="how the number of users changes")
    parser.add_argument("--max-failures", type=float, default=0.1, help="most requests that may fail, percent")
    parser.add_argument("--min-load", type=float, default=80, help="least share of the load to be put on, percent")
    parser.add_argument("--max-p95", type=float, default=1000, help="what 95 %% of requests may take at most, ms")


@events.quitting.add_listener
def judge(environment: Environment, **_: object) -> None:
    """Set the exit code: 0 if every threshold was met."""
    if isinstance(environment.runner, WorkerRunner):  # the master has the figures of all
        return
    total, allowed = environment.stats.total, environment.parsed_options
    assert allowed is not None
    failures, p95 = 100 * total.fail_ratio, total.get_response_time_percentile(0.95)
    unmet = []
    shape = environment.shape_class
    assert isinstance(shape, Shape)
    if total.num_requests < allowed.min_load / 100 * shape.asked or total.num_requests == 0:
        unmet.append(
            f"{total.num_requests} requests were made of {shape.asked:.0f} that the users make if they are answered "
            f"at once; {allowed.min_load:g} % were to be"
        )
    if failures > allowed.max_failures:
        unmet.append(f"{failures:.2f} % of requests failed; {allowed.max_failures:g} % may")
    if p95 > allowed.max_p95:
        unmet.append(f"95 % of requests took up to {p95:.0f} ms; {allowed.max_p95:g} ms were allowed")
    print("\n".join(["", *(unmet or ["every threshold was met"])]))
    environment.process_exit_code = 1 if unmet else 0
