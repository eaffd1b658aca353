"""The pipeline without HTTP, on the embedded model in this process: the deadline holds in every stage."""

from __future__ import annotations

import asyncio
import gc
import io
import threading
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import Any, Literal, NoReturn

import msgspec
import numpy as np
import pytest
from PIL import Image

from gradcam_service.cli import _watched
from gradcam_service.compiled.network import CompiledNetwork
from gradcam_service.core.admission import Capacity
from gradcam_service.core.options import Call, ExplainOptions, PredictOptions
from gradcam_service.core.pipeline import Pipeline, Unobserved
from gradcam_service.core.results import Result
from gradcam_service.errors import DeadlineExceeded, Internal, ModelFailed, ServiceError
from gradcam_service.gallery import gallery
from gradcam_service.images.grid import labelled_grid
from gradcam_service.local import Local, open_model
from gradcam_service.maps import MapKind
from gradcam_service.settings import Settings
from gradcam_service.worker.messages import Answer, Timings
from repository import ROOT

SCENE = (ROOT / "service/gradcam_service/api/examples/scene.jpg").read_bytes()


@pytest.fixture(scope="module")
def scenes() -> Local:
    return open_model("scenes", Settings(device="cpu", cpus=1))


class Hindered:
    """An engine whose answers come when every thread for pixels has become busy with somebody else's work.

    Args:
        engine: what answers.
        capacity: has the threads.
        go: set when the threads may go on.
    """

    def __init__(self, engine: Local, capacity: Capacity, go: threading.Event) -> None:
        self._capacity, self._go = capacity, go
        self._engine = engine
        self.ready_model = engine.ready_model

    async def infer(self, *asked: Any) -> tuple[Answer, Timings]:
        answer = await self._engine.infer(*asked)
        begun = threading.Event()
        asyncio.ensure_future(  # noqa: RUF006  the threads hold it
            self._capacity.threads.run("somebody", monotonic() + 60, lambda: begun.set() or self._go.wait(60))
        )
        while not begun.is_set():
            await asyncio.sleep(0)
        return answer


class Looking:
    """An engine that looks, when it is asked, for pictures of a size that somebody holds.

    Args:
        engine: what answers.
        size: (width, height).
    """

    def __init__(self, engine: Local, size: tuple[int, int]) -> None:
        self._engine, self._size = engine, size
        self.ready_model = engine.ready_model
        self.seen: list[int] = []

    async def infer(self, *asked: Any) -> tuple[Answer, Timings]:
        gc.collect()
        self.seen.append(sum(isinstance(one, Image.Image) and one.size == self._size for one in gc.get_objects()))
        return await self._engine.infer(*asked)


@pytest.mark.parametrize("output", ["heatmap", "overlay"])
def test_no_original_is_held_while_the_worker_is_waited_for(scenes: Local, output: Literal["heatmap", "overlay"]):
    size = (1203, 907)
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, "JPEG")
    capacity, engine = Capacity(scenes.settings), Looking(scenes, size)

    async def asked() -> None:
        with capacity.admit() as admission:
            call = Call([file.getvalue()], ExplainOptions(output=[output], max_side=256))
            await Pipeline(engine, capacity).answer(call, admission, Unobserved())

    asyncio.run(asked())
    assert engine.seen == [0]


class Stumbling:
    """An engine that fails at its second question in a way that nobody foresaw.

    Args:
        engine: what answers the others.
    """

    def __init__(self, engine: Local) -> None:
        self._engine = engine
        self.ready_model = engine.ready_model
        self._asked = 0

    async def infer(self, *asked: Any) -> tuple[Answer, Timings]:
        self._asked += 1
        if self._asked == 2:
            raise ZeroDivisionError
        return await self._engine.infer(*asked)


def test_whatever_goes_wrong_with_one_image_the_others_are_answered(scenes: Local):
    capacity = Capacity(scenes.settings)

    async def asked() -> list[Result | ServiceError]:
        with capacity.admit() as admission:
            call = Call([SCENE] * 3, PredictOptions())
            return (await Pipeline(Stumbling(scenes), capacity).answer(call, admission, Unobserved())).results

    results = asyncio.run(asked())
    assert [result.code for result in results if isinstance(result, ServiceError)] == [Internal.code]
    one, other = (result for result in results if isinstance(result, Result))
    assert one == other


def test_a_grid_leaves_out_what_can_not_explain_a_contrast_and_says_why(scenes: Local):
    target = {"class": "star", "against": "flower"}
    grid, left_out = gallery(
        scenes, "scene.jpg", SCENE, ExplainOptions(target=[target]), ["gradcam", "finercam", "layercam"]
    )
    without, none = gallery(scenes, "scene.jpg", SCENE, ExplainOptions(target=[target]), ["gradcam", "layercam"])
    assert none == []
    assert np.array_equal(np.asarray(grid), np.asarray(without))
    (reason,) = left_out
    assert reason.startswith("finercam can't explain star rather than flower: ")


def test_the_tiles_of_a_grid_are_the_overlays_that_each_method_has_alone(scenes: Local):
    methods, options = ["gradcam", "layercam", "guided_backprop"], {"target": ["star", "flower"], "scale": "shared"}
    tiles, kinds = [("scene.jpg", Image.open(io.BytesIO(SCENE)))], set[MapKind]()
    for method in methods:
        alone = ExplainOptions(method=method, output=["overlay", "heatmap"], format="png", **options)
        for explanation in scenes.explain(SCENE, alone).explanations:
            shown = explanation.heatmap if explanation.kind == "signed_colour" else explanation.overlay
            tiles.append((f"{explanation.name}: {method}", Image.open(io.BytesIO(shown.data))))
            kinds.add(explanation.kind)
    grid, _ = gallery(scenes, "scene.jpg", SCENE, ExplainOptions(**options), methods)
    assert np.array_equal(np.asarray(grid), np.asarray(labelled_grid(tiles, kinds)))


def test_the_picture_of_a_grid_passes_the_network_once_for_all_methods_that_need_no_more(scenes: Local):
    passed = list[int]()

    class Counting(CompiledNetwork):
        def predict(self, images: np.ndarray, *others: np.ndarray, alike: Sequence[int] | None = None) -> Any:
            passed.append(len(images if alike is None else set(alike)))
            return super().predict(images, *others, alike=alike)

    counting = replace(scenes.model, network=Counting(**vars(scenes.model.network)))
    options = ExplainOptions(target=["star"])
    gallery(replace(scenes, model=counting), "scene.jpg", SCENE, options, ["gradcam", "cam", "layercam", "eigencam"])
    assert passed == [1]


@pytest.mark.parametrize(("targets", "layer"), [(["star"], "auto"), (["star", "flower"], "layer2")])
def test_what_an_explanation_will_cost_is_what_is_done_by_its_end(scenes: Local, targets: list[str], layer: str):
    methods, done = ["gradcam", "guided_gradcam", "cam", "integrated_gradients"], list[int]()
    options = ExplainOptions(target=targets, layer=layer)
    expected = scenes.passes(options, [*methods, "guesswork"])
    gallery(replace(scenes, progress=done.append), "scene.jpg", SCENE, options, methods)
    assert sum(done) == expected
    assert len(done) > len(methods)  # step by step, not all at the end
    if layer == "auto":
        assert expected == sum(card.forward_passes for card in scenes.model.card.methods if card.name in methods)


def test_the_pace_is_measured_where_it_may_be_told(scenes: Local, monkeypatch: pytest.MonkeyPatch):
    measured, terminal = list[int](), io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(Local, "pace", lambda _, passes: measured.append(passes) or 60.0)
    own = replace(scenes.model, card=msgspec.structs.replace(scenes.model.card, method="smoothgrad"))
    for local, method, first in (
        (scenes, "gradcam", True),
        (scenes, None, True),
        (scenes, "smoothgrad", False),
        (scenes, "smoothgrad", True),
        (replace(scenes, model=own), None, True),
    ):
        options = ExplainOptions(target=["star"], method=method)
        with _watched(local, options, first):
            pass
    assert measured == [scenes.passes(options, ["smoothgrad"])] * 2
    assert f"{measured[0]} minutes a picture" in terminal.getvalue()


def test_a_model_that_fails_while_its_pace_is_measured_is_to_blame(scenes: Local):
    class Failing(CompiledNetwork):
        def predict(self, *_: object) -> NoReturn:
            raise ZeroDivisionError("division by zero")

    failing = replace(scenes.model, network=Failing(**vars(scenes.model.network)))
    with pytest.raises(ModelFailed, match=r"the model scenes@1 fails on this picture: .*division by zero"):
        replace(scenes, model=failing).pace(10)


def test_each_method_of_a_grid_takes_the_options_that_it_has(scenes: Local):
    options, done = ExplainOptions(method="all", target=["star"], samples=2, window=8), list[int]()
    methods = ["gradcam", "smoothgrad", "occlusion"]
    _, notes = gallery(replace(scenes, progress=done.append), "scene.jpg", SCENE, options, methods)
    (left_out,) = notes
    assert left_out.startswith("occlusion is left out: stride")  # 16 if nothing else is said
    each = {name: scenes.passes(options, [name]) for name in methods}
    assert (sum(done), each["occlusion"]) == (sum(each.values()), 0)
    default = ExplainOptions(target=["star"])
    assert each["smoothgrad"] < scenes.passes(default, ["smoothgrad"])
    assert each["gradcam"] == scenes.passes(default, ["gradcam"])


def test_an_empty_map_is_told_of_in_the_grid(scenes: Local):
    nothing = io.BytesIO()
    Image.new("RGB", (128, 128), (128, 128, 128)).save(nothing, "PNG")
    options = ExplainOptions(target=["star"])
    assert [scenes.explain(nothing.getvalue(), options).explanations[0].max] == [0]
    _, notes = gallery(scenes, "nothing.png", nothing.getvalue(), options, ["gradcam", "layercam"])
    assert notes[1:] == ["star: gradcam is empty, all zero: nothing speaks for it in this layer"]


def test_who_waits_for_a_drawing_is_told_in_time_though_every_thread_is_busy(scenes: Local):
    capacity, go = Capacity(scenes.settings), threading.Event()
    options = ExplainOptions(target=["star", "flower"], timeout_ms=5000)

    async def asked() -> list[object]:
        try:
            with capacity.admit() as admission:
                pipeline = Pipeline(Hindered(scenes, capacity, go), capacity)
                return (await pipeline.answer(Call([SCENE], options), admission, Unobserved())).results
        finally:
            go.set()

    (result,) = asyncio.run(asked())
    assert isinstance(result, DeadlineExceeded)
    assert capacity.images == scenes.settings.queue_size
