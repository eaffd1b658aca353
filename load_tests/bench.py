"""Measures what PERFORMANCE.md claims, in one run: ``python load_tests/bench.py [--rounds N]``.

Both sides of every ratio are measured in turns, several times; a ratio is that of their medians. The table is printed
and written to build/bench.md.
"""

from __future__ import annotations

import base64
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import compute
import psutil
from compute import Aside
from dialect_rates import dialect_rates
from drive import Answers, Request, as_they_come, one_after_the_other, one_by_one
from fairness import IMAGES, SMALL, TARGETS, fairness
from record import Row, in_turns, once, record
from subject import DRAWN, MODEL, PHOTO, photograph, resident, runtime_of, settled

from live import Service, free_port, running, until

HERE = Path(__file__).parent
KINDS = ("vit_b_16", "swin_t", "convnext_tiny", "densenet121", "vgg16")
"""Networks of other kinds than ResNet, in both precisions."""
BFLOAT16 = "precision: bfloat16\n"
MODELS = {"resnet50": MODEL.format("resnet50")} | {
    f"{name}{of}": MODEL.format(name) + more + "load: demand\n"
    for name in ("resnet50", "resnet18", *KINDS)
    for of, more in (("", ""), ("-bfloat16", BFLOAT16))
    if (name, of) != ("resnet50", "")
}

PARTS = ("engine", "kinds", "methods", "resnet50", "imagenet", "scenes", "start", "dialects")


class Bench:
    """All measurements, one after the other.

    Args:
        repository: with `MODELS`.
        rounds: how often each side of a ratio is measured.
    """

    def __init__(self, repository: Path, rounds: int) -> None:
        self._repository = repository
        self._rounds = rounds
        self._floor = Aside()
        self._ours = Aside(GOMP_SPINCOUNT="10000")  # as the service has it
        self._theirs = Aside()
        self._picture = photograph()
        self._bfloat16 = bool(self._floor.run(compute.has_bfloat16))

    def rows(self, parts: Sequence[str]) -> Iterator[Row]:
        """Every row of these `PARTS`, as soon as it is known."""
        if not self._bfloat16:
            yield Row("all in bfloat16", None, "", detail="left out: this processor has no units for it")
        known = (
            *(self._engine, self._kinds, self._methods, self._resnet50),
            *(self._imagenet, self._scenes, self._start, self._dialects),
        )
        for name, measured in zip(PARTS, known, strict=True):
            if name in parts:
                yield from measured()

    def _resnet50(self) -> Iterator[Row]:
        with running(model_repository=self._repository, default_model="resnet50") as service:
            settled(service, "resnet50")
            if self._bfloat16:
                settled(service, "resnet50-bfloat16")
            yield from self._http(service)
            yield from self._arrivals(service)

    def _turns(self, **sides: Callable[[], float]) -> dict[str, float]:
        return in_turns(self._rounds, **sides)

    def _rate(self, model: str, batch: int, method: str | None) -> Callable[[], float]:
        """Images a second through the worker's engine."""
        return lambda: batch / self._ours.run(compute.engine, self._repository, model, batch, method)

    def _bare(self, batch: int, engine: str = "onnxruntime") -> Callable[[], float]:
        """ResNet-50's images a second through a bare forward pass."""
        return lambda: batch / self._floor.run(compute.bare, "resnet50", batch, engine)

    def _engine(self) -> Iterator[Row]:
        for batch in (1, 4, 8):
            rate = self._turns(
                onnxruntime=self._bare(batch),
                openvino=self._bare(batch, "openvino"),
                predict=self._rate("resnet50", batch, None),
                explain=self._rate("resnet50", batch, "gradcam"),
            )
            detail = each(rate)
            yield Row(
                f"engine: explain ÷ predict, batch {batch}", rate["explain"] / rate["predict"], "≥ 0.95", detail=detail
            )
            yield Row(
                f"engine: predict ÷ the faster of ONNX Runtime and OpenVINO, batch {batch}",
                rate["predict"] / max(rate["onnxruntime"], rate["openvino"]),
                "≥ 0.98",
                detail=detail,
            )
            if self._bfloat16:
                rate = self._turns(
                    openvino=self._bare(batch, "openvino-bfloat16"),
                    explain=self._rate("resnet50-bfloat16", batch, "gradcam"),
                )
                yield Row(
                    f"engine in bfloat16: explain ÷ OpenVINO in bfloat16, batch {batch}",
                    rate["explain"] / rate["openvino"],
                    "≥ 0.9",
                    detail=each(rate),
                )

    def _kinds(self) -> Iterator[Row]:
        for name in KINDS if self._bfloat16 else ():
            rate = self._turns(
                float32=self._rate(name, 8, "gradcam"), bfloat16=self._rate(f"{name}-bfloat16", 8, "gradcam")
            )
            yield Row(
                f"engine: explain by {name} in bfloat16 ÷ in float32, batch 8",
                rate["bfloat16"] / rate["float32"],
                "≥ 2",
                detail=each(rate),
            )

    def _methods(self) -> Iterator[Row]:
        # the first ones take so many passes in a call that one call tells
        for model, method, goal, turns in (
            ("resnet18", "ablationcam", 50, once),
            ("resnet18", "scorecam", 2, once),
            ("resnet18-bfloat16", "scorecam", 5, once),
            ("resnet18", "guided_gradcam", 2, self._turns),
        ):
            if model != "resnet18" and not self._bfloat16:
                continue
            seconds = turns(
                ours=lambda model=model, method=method: self._ours.run(
                    compute.engine, self._repository, model, 1, method
                ),
                theirs=lambda method=method: self._theirs.run(compute.grad_cam_package, method),
            )
            detail = f"{model}, {1e3 * seconds['ours']:.0f} and {1e3 * seconds['theirs']:.0f} ms an image"
            what = f"{method}{' in bfloat16' if model != 'resnet18' else ''} ÷ pytorch-grad-cam"
            yield Row(what, seconds["theirs"] / seconds["ours"], f"≥ {goal}", detail=detail)

    def _http(self, service: Service) -> Iterator[Row]:
        explain, predict = (Request(f"{service.url}/{path}", self._picture) for path in ("explain", "predict"))
        bfloat16 = Request(f"{service.url}/explain?model=resnet50-bfloat16", self._picture)
        several = Request(f"{service.url}/explain?" + "&".join(f"target={index}" for index in range(5)), self._picture)
        single = Request(f"{service.url}/explain?target=0", self._picture)
        coded = json.dumps({"image": base64.b64encode(self._picture).decode()}).encode()
        with peer("naive.py") as naive, peer("batched.py") as batched:
            sides = {
                "floor": self._bare(4),
                "explain": lambda: one_by_one(explain, 8, 64).rate(),
                "predict": lambda: one_by_one(predict, 8, 64).rate(),
                "batched": lambda: one_by_one(Request(f"{batched}/predict", coded, "application/json"), 8, 24).rate(),
                "naive": lambda: one_by_one(Request(f"{naive}/explain", self._picture), 8, 16).rate(),
            }
            if self._bfloat16:
                sides["bfloat16"] = lambda: one_by_one(bfloat16, 8, 128).rate()
            rate = self._turns(**sides)
        detail = each(rate)
        yield Row(
            "HTTP, 8 connections: explain ÷ ONNX Runtime, batch 4",
            rate["explain"] / rate["floor"],
            "≥ 0.85",
            detail=detail,
        )
        for other, name, goal in (
            ("ONNX Runtime in float32, batch 4", "floor", 3),
            ("LitServe + Captum", "batched", 9),
            ("FastAPI + pytorch-grad-cam", "naive", 25),
        ):
            if self._bfloat16:
                yield Row(
                    f"HTTP, 8 connections: explain in bfloat16 ÷ {other}",
                    rate["bfloat16"] / rate[name],
                    f"≥ {goal}",
                    detail=f"on {runtime_of(service, 'resnet50-bfloat16')}, {detail}",
                )
        yield Row("HTTP, 8 connections: explain ÷ predict", rate["explain"] / rate["predict"], "", detail=detail)
        yield Row(
            "HTTP, 8 connections: explain ÷ LitServe + Captum", rate["explain"] / rate["batched"], "≥ 3", detail=detail
        )
        yield Row(
            "HTTP, 8 connections: explain ÷ FastAPI + pytorch-grad-cam",
            rate["explain"] / rate["naive"],
            "≥ 9",
            detail=detail,
        )
        ms = self._turns(
            floor=lambda: 1e3 * self._floor.run(compute.bare, "resnet50", 1),
            explain=lambda: 1e3 * one_by_one(explain, 1, 15).percentile(0.5),
            one=lambda: 1e3 * one_by_one(single, 1, 15).percentile(0.5),
            five=lambda: 1e3 * one_by_one(several, 1, 15).percentile(0.5),
        )
        detail = ", ".join(f"{name} {value:.1f} ms" for name, value in ms.items())
        yield Row(
            "one connection: p50 of explain − ONNX Runtime, batch 1", ms["explain"] - ms["floor"], "≤ 8", "ms", detail
        )
        yield Row("one connection: explain of 5 targets ÷ of 1", ms["five"] / ms["one"], "≤ 1.15", detail=detail)

    def _arrivals(self, service: Service) -> Iterator[Row]:
        explain = Request(f"{service.url}/explain", self._picture)
        capacity = statistics.median(one_by_one(explain, 8, 64).rate() for _ in range(self._rounds))
        arrivals = (0.8 * capacity, 10.0 * self._rounds)
        calm = as_they_come(explain, *arrivals)
        alone = one_after_the_other(1 / capacity, *arrivals)
        detail = f"{calm.rate():.1f}/s, p50 {ms_of(calm, 0.5)}, p99 {ms_of(calm, 0.99)}"
        yield Row(
            "80 % of saturation, random arrivals: p99 ÷ p50",
            calm.percentile(0.99) / calm.percentile(0.5),
            "≤ 3",
            detail=f"{detail}; one after the other, without any overhead: {ms_of(alone, 0.5)}, {ms_of(alone, 0.99)}",
        )
        floods: list[Answers] = []

        def flood() -> float:
            floods.append(as_they_come(explain, 5 * capacity, 20.0))
            return floods[-1].rate()

        rate = once(calm=lambda: one_by_one(explain, 8, 160).rate(), flood=flood)
        refusals = statistics.median(one.rate(429) for one in floods)
        answers, refused = (max(one.percentile(0.99, status) for one in floods) for status in (200, 429))
        detail = f"{rate['calm']:.1f}/s, then {rate['flood']:.1f}/s and {refusals:.0f} refusals/s, p99 {answers:.1f} s"
        yield Row("5 × saturation: answers ÷ saturation", rate["flood"] / rate["calm"], "≥ 0.95", detail=detail)
        yield Row("5 × saturation: p99 of refusals", 1e3 * refused, "≤ 50", "ms", detail)

    def _imagenet(self) -> Iterator[Row]:
        start = time.perf_counter()
        with running(default_model="imagenet") as service:
            ready = time.perf_counter() - start
            settled(service, "imagenet")
            predict, explain = (Request(f"{service.url}/{path}", self._picture) for path in ("predict", "explain"))
            loop = (compute.bare_loop, self._repository, self._picture, 100)
            rate = self._turns(
                predict=lambda: one_by_one(predict, 8, 240).rate(),
                explain=lambda: one_by_one(explain, 8, 240).rate(),
                bare=lambda: 1 / self._floor.run(*loop, False),
                drawn=lambda: 1 / self._floor.run(*loop, True),
            )
            detail = f"on {runtime_of(service, 'imagenet')}, "
        detail += ", ".join(f"{name} {value:.0f}/s" for name, value in rate.items())
        http = "imagenet: HTTP, 8 connections"
        yield Row(f"{http}: predict ÷ decode and ONNX Runtime", rate["predict"] / rate["bare"], "≥ 0.85", detail=detail)
        yield Row(
            f"{http}: explain ÷ decode, ONNX Runtime and render",
            rate["explain"] / rate["drawn"],
            "≥ 0.85",
            detail=detail,
        )
        yield Row(f"{http}: explain ÷ predict", rate["explain"] / rate["predict"], "", detail=detail)
        yield Row("imagenet: ready after start", ready, "", "s")
        if self._bfloat16:
            yield self._imagenet_in_bfloat16()

    def _imagenet_in_bfloat16(self) -> Row:
        with running(default_model="imagenet", precision="bfloat16") as service:
            settled(service, "imagenet")
            explain = Request(f"{service.url}/explain", self._picture)
            loop = (compute.bare_loop, self._repository, self._picture, 100, True, "openvino-bfloat16")
            rate = self._turns(
                explain=lambda: one_by_one(explain, 8, 480).rate(), drawn=lambda: 1 / self._floor.run(*loop)
            )
            detail = f"on {runtime_of(service, 'imagenet')}, {each(rate)}"
        return Row(
            "imagenet in bfloat16: HTTP, 8 connections: explain ÷ decode, OpenVINO in bfloat16 and render",
            rate["explain"] / rate["drawn"],
            "≥ 1.2",
            detail=detail,
        )

    def _scenes(self) -> Iterator[Row]:
        picture = DRAWN.read_bytes()
        with running() as service:
            settled(service, "scenes")
            explain = Request(f"{service.url}/explain", picture)
            rate = self._turns(
                http=lambda: one_by_one(explain, 8, 400).rate(),
                loop=lambda: 1 / self._ours.run(compute.plain_loop, self._repository, "scenes", picture, 100),
            )
            detail = f"{rate['http']:.0f}/s, {rate['loop']:.0f}/s"
            yield Row(
                "scenes: HTTP explain, 8 connections ÷ a plain loop",
                rate["http"] / rate["loop"],
                "≥ 0.65",
                detail=detail,
            )
            (worker,), (api,) = (map(psutil.Process, service.pids(name)) for name in ("worker", "api"))
            before = resident(worker)
            one_by_one(explain, 8, 10_000)
            yield Row("resident memory of an API process", resident(api), "≤ 120", "MB")
            yield Row(
                "growth of the worker over 10,000 explanations",
                resident(worker) - before,
                "≤ 5",
                "MB",
                f"of {before:.0f} MB",
            )
            yield self._fairness(service)

    def _fairness(self, service: Service) -> Row:
        found = fairness(service.url, PHOTO.read_bytes(), self._rounds)
        return Row(
            f"scenes: p99 of {SMALL} requests beside one of {IMAGES} pictures, {TARGETS} targets each ÷ alone",
            found.beside.percentile(0.99) / found.alone.percentile(0.99),
            "≤ 3",
            detail=f"{ms_of(found.beside, 0.99)}, {ms_of(found.alone, 0.99)}; the large one took "
            f"{ms_of(found.large, 0.5)}, and was answered after them {found.overtaken} times of {self._rounds}",
        )

    def _start(self) -> Iterator[Row]:
        ready, ratios = [], []
        for _ in range(self._rounds):
            start = time.perf_counter()
            with running() as service:
                ready.append(time.perf_counter() - start)
                explain = Request(f"{service.url}/explain", DRAWN.read_bytes())
                first = one_by_one(explain, 1, 1).percentile(0.5)
                settled(service, "scenes")
                ratios.append(first / one_by_one(explain, 1, 50).percentile(0.5))
        yield Row("scenes: ready after start", statistics.median(ready), "≤ 5", "s")
        yield Row("scenes: first request after ready ÷ steady p50", statistics.median(ratios), "≤ 2")

    def _dialects(self) -> Iterator[Row]:
        rate = dialect_rates(self._rounds)
        goals = (("V2 binary", "raw body", "≥ 0.95"), ("gRPC", "raw body", "≥ 0.95"), ("V1 JSON", "JSON", "≥ 0.9"))
        for name, of, goal in goals:
            yield Row(
                f"scenes: explain in {name} ÷ in the service's own {of}",
                rate[name] / rate[of],
                goal,
                detail=f"{rate[name]:.0f}/s, {rate[of]:.0f}/s",
            )


def each(rate: dict[str, float]) -> str:
    """Every rate by its name."""
    return ", ".join(f"{name} {value:.1f}/s" for name, value in rate.items())


def ms_of(answers: Answers, share: float) -> str:
    """A percentile for people."""
    return f"{1e3 * answers.percentile(share):.0f} ms"


@contextmanager
def peer(file: str) -> Iterator[str]:
    """Another server, once it listens; gives its address."""
    port = free_port()
    process = subprocess.Popen([sys.executable, HERE / "peers" / file, str(port)], stdout=subprocess.DEVNULL)

    def listens() -> bool:
        try:
            urlopen(f"http://127.0.0.1:{port}/docs").close()
        except OSError:
            return False
        return True

    try:
        until(listens, seconds=120)
        yield f"http://127.0.0.1:{port}"
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.terminate()
        process.terminate()
        process.wait()


if __name__ == "__main__":
    record("bench.md", PARTS, lambda *given: Bench(*given[:2]).rows(given[2]), MODELS, "no GPU used")
