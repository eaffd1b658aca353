"""Load for locust: users that behave like services, in several shapes, with thresholds that decide the exit code.

See README.md beside this file.
"""

from __future__ import annotations

import base64
import html
import json
import os
import random
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from locust import FastHttpUser, LoadTestShape, constant_throughput, events, task
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner
from urllib3 import encode_multipart_formdata

import gradcam_service

with suppress(ImportError):  # a worker on another machine is sent this file alone, and judges nothing
    from verdict import Moment, Thresholds, judged, table

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
MOMENTS = 1000
"""Of longer runs, every other moment is forgotten."""

EXAMPLES = Path(gradcam_service.__file__).parent / "pictures"
KEY = {"Authorization": f"Bearer {key}"} if (key := os.environ.get("GRADCAM_API_KEY")) else {}


@dataclass(frozen=True)
class Body:
    """Pictures and options in one of the forms that the service takes."""

    data: bytes
    content_type: str
    query: str = ""


def multipart(pictures: list[bytes], options: list[tuple[str, str]]) -> Body:
    """Parts of a form."""
    fields: list[tuple[str, Any]] = [("image", ("picture", picture)) for picture in pictures]
    return Body(*encode_multipart_formdata([*fields, *options]))


def as_json(pictures: list[bytes], options: list[tuple[str, str]]) -> Body:
    """Base64 in JSON."""
    members: dict[str, Any] = {"images": [base64.b64encode(picture).decode() for picture in pictures]}
    members |= {name: value for name, value in options if name != "target"}
    if targets := [int(value) for name, value in options if name == "target"]:
        members["target"] = targets
    return Body(json.dumps(members).encode(), "application/json")


def raw(pictures: list[bytes], options: list[tuple[str, str]]) -> Body:
    """The picture itself; there can be one."""
    (picture,) = pictures
    return Body(picture, "application/octet-stream", "?" + urlencode(options))


FORMS = {"multipart": multipart, "json": as_json, "raw": raw}


@cache
def pictures_in(folder: str | None) -> list[bytes]:
    """Every file of a folder; without one, the playground's photographs."""
    if folder is None:
        return [(EXAMPLES / f"{name}.jpg").read_bytes() for name in ("camera", "cat", "coffee")]
    files = [file for file in sorted(Path(folder).iterdir()) if file.is_file() and not file.name.startswith(".")]
    return [file.read_bytes() for file in files]


class Caller(FastHttpUser):
    """A service that asks twice a second, or as often as it is answered if that is less.

    Attributes:
        classes: how many the model has; 0 where that isn't known, so that explanations are of the best.
    """

    abstract = True
    wait_time = constant_throughput(RATE)
    classes = 0

    def ask(self, path: str, what: str, form: str, images: int = 1, targets: int = 0) -> None:
        """Send a request, and note what the answer says of its stages."""
        given = self.environment.parsed_options
        assert given is not None
        options = [("model", given.model)] if given.model else []
        if given.method and path == "/explain":
            options.append(("method", given.method))
        drawn = random.sample(range(Caller.classes), min(targets, Caller.classes))
        options += [("target", str(target)) for target in drawn]
        body = FORMS[form](random.choices(pictures_in(given.pictures), k=images), options)
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
        moments: what has been counted at the beginning, and by each moment that a number of users was told.
    """

    use_common_options = True

    def __init__(self) -> None:
        super().__init__()
        self.moments: list[Moment] = []  # of a worker, which never begins and may not have the class

    def reset_time(self) -> None:
        """Begin anew."""
        super().reset_time()
        self.moments = [Moment(0.0)]

    def tick(self) -> tuple[int, float] | None:
        """Users now and how many more may begin in a second; None when it is over."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        usual, share = SHAPES[options.shape]
        now = self.get_run_time()
        last = self.moments[-1]
        asked = last.asked + last.users * RATE * (now - last.at)
        done = now / (options.run_time or usual)
        users = max(1, round(options.num_users * share(done)))
        self.moments.append(counted(self.runner.environment, now, users, asked))
        if len(self.moments) > MOMENTS:
            del self.moments[1:-1:2]
        return (users, users) if done < 1 else None


def counted(environment: Environment, at: float, users: int, asked: float) -> Moment:
    """What has been counted by now."""
    total = environment.stats.total
    stages = {
        name: entry.total_response_time for (name, kind), entry in environment.stats.entries.items() if kind == "stage"
    }
    return Moment(at, users, asked, total.num_requests, total.num_failures, dict(total.response_times), stages)


def known(host: str, reference: str | None) -> dict[str, Any]:
    """What the service says of a model, or of its default one; nothing where the service can't be reached.

    Raises:
        ValueError: it refuses the key, or has no such model.
    """
    try:
        with urlopen(Request(f"{host.rstrip('/')}/models", headers=KEY), timeout=10) as answer:
            listed = json.load(answer)
    except HTTPError as error:
        if error.code in (401, 403):
            wrong = "the service refuses the key that it was given" if KEY else "the service needs a key, KEY=…"
            raise ValueError(f"{wrong}: {error.read().decode()}") from None
        return {}
    except (URLError, ValueError):
        return {}
    name, _, version = (reference or listed["default"]).partition("@")
    for model in reversed(listed["models"]):
        if model["name"] == name and version in ("", model["version"], *model["aliases"]):
            return dict(model)
    names = ", ".join(sorted({model["name"] for model in listed["models"]}))
    raise ValueError(f"the service has no model {reference!r}; it has {names}")


def _folder(text: str) -> str:
    """A folder with pictures."""
    if not Path(text).is_dir() or not pictures_in(text):
        raise ArgumentTypeError(f"{text!r} is no folder with pictures")
    return text


@events.init_command_line_parser.add_listener
def add_arguments(parser: ArgumentParser) -> None:
    """Options of this load, beside locust's own."""
    parser.set_defaults(num_users=USERS)
    load = parser.add_argument_group("Options of this load", "GRADCAM_API_KEY has the key, if one is needed.")
    for name, kind, default, metavar, what in (
        ("shape", str, "steady", None, "how the number of users changes"),
        ("model", str, None, "NAME", "as in requests: NAME, NAME@VERSION or NAME@ALIAS"),
        ("method", str, None, "NAME", "of explanation"),
        ("pictures", _folder, None, "DIR", "folder of what to send, in place of photographs"),
        ("max-failures", float, 0.1, "PERCENT", "most requests that may fail"),
        ("min-load", float, 80.0, "PERCENT", "least share of the load that must be put on, at any time"),
        ("max-growth", float, 2.0, "TIMES", "most that the median may grow without more users"),
        ("max-p95", float, 1000.0, "MS", "what 95 %% of requests may take at most"),
    ):
        what += "" if default is None else " (default: %(default)s)"
        choices = SHAPES if name == "shape" else None
        load.add_argument(f"--{name}", type=kind, default=default, metavar=metavar, choices=choices, help=what)


@events.init.add_listener
def check(environment: Environment, **_: object) -> None:
    """End at once what would be refused request by request."""
    options = environment.parsed_options
    if isinstance(environment.runner, WorkerRunner) or options is None or not (options.headless and environment.host):
        return
    try:
        methods = known(environment.host, options.model).get("methods", [])
    except ValueError as error:
        sys.exit(str(error))
    if options.method and methods and options.method not in methods:
        sys.exit(f"the model can't be explained by {options.method!r}; it can by {', '.join(methods)}")


@events.test_start.add_listener
def look(environment: Environment, **_: object) -> None:
    """Ask how many classes there are, where users ask for them."""
    if not isinstance(environment.runner, MasterRunner) and environment.parsed_options and environment.host:
        with suppress(ValueError):
            Caller.classes = known(environment.host, environment.parsed_options.model).get("classes", 0)


@events.quitting.add_listener
def judge(environment: Environment, **_: object) -> None:
    """Set the exit code: 0 if every threshold was met. The verdict is printed last, and heads the report."""
    if isinstance(environment.runner, WorkerRunner):  # the master has the figures of all
        return
    given, shape = environment.parsed_options, environment.shape_class
    assert given is not None
    assert isinstance(shape, Shape)
    if len(shape.moments) < 2:  # nobody began
        return
    *before, last = shape.moments
    moments = [*before, counted(environment, last.at, last.users, last.asked)]  # now that all processes' reports are in
    refused = sum(error.occurrences for error in environment.stats.errors.values() if "code=429" in str(error.error))
    thresholds = Thresholds(given.max_failures, given.min_load, given.max_growth, given.max_p95)
    met, sentences = judged(moments, thresholds, refused)
    said, verdict = table(moments), "\n".join(sentences)
    if given.html_file and (report := Path(given.html_file)).exists():
        text = report.read_text()
        shown = html.escape(f"\n{verdict}\n\n{said}")
        report.write_text(text.replace("<body>", f'<body>\n<pre style="margin: 24px">{shown}</pre>', 1))
        verdict += f"\nreport: {report}"
    environment.events.quit.add_listener(lambda **_: print(f"\n{said}\n\n{verdict}"))  # below locust's own tables
    environment.process_exit_code = 0 if met else 1
