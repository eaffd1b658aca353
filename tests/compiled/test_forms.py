"""Compiled forms of the embedded models: they answer as the models do, which come in for what these can't."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from api.calls import values
from compiled.test_compiled import entry, near
from compiled.test_worker import holds_torch, picture
from gradcam_service import kinds
from gradcam_service.api.results import _written
from gradcam_service.compiled.form import CompiledForm
from gradcam_service.compiled.proof import prove
from gradcam_service.core.options import ExplainOptions, PredictOptions
from gradcam_service.core.results import Answers
from gradcam_service.errors import NeedsFullModel
from gradcam_service.explain.method import Need
from gradcam_service.explain.methods import METHODS
from gradcam_service.local import Local, open_model
from gradcam_service.question import Measure, Question
from gradcam_service.registry.card import Computed
from gradcam_service.registry.loader import LoadedModel
from gradcam_service.registry.loading import load, load_form
from gradcam_service.registry.repository import EMBEDDED, scan
from gradcam_service.settings import Settings
from gradcam_service.targets import Target
from gradcam_service.worker.models import Models
from gradcam_service.worker.poller import Snapshot
from live import PATIENCE, Service, repeated, running
from repository import EMBEDDED_MODELS


def form_of(folder: Path) -> CompiledForm | None:
    found = load_form(entry(folder), "cpu")
    assert found is None or isinstance(found, CompiledForm)
    return found


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_an_embedded_form_answers_as_its_model_and_says_of_itself_what_that_says(name):
    model, form = load(entry(EMBEDDED / name / "1"), "cpu"), form_of(EMBEDDED / name / "1")
    assert isinstance(model, LoadedModel)
    assert form is not None, "it is stale: make compiled"
    prove(model, form.folder)
    told = msgspec.structs.replace(
        model.card, runtime="onnxruntime", memory=(form.folder / "weights.bin").stat().st_size, torch=""
    )
    assert form.card == told


def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EMBEDDED / "scenes" / "1", tmp_path / "scenes" / "1"))


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("compiled/weights.bin", "weights.bin is not what gradcam compile wrote"),
        ("compiled/compiled.json", "compiled.json is not what gradcam compile writes"),
        ("weights.safetensors", "it was made of other files than the version has"),
        ("labels.txt", "it was made of other files"),
    ],
)
def test_one_that_is_damaged_or_of_other_files_is_set_aside(file, reason, tmp_path, caplog):
    version = copied(tmp_path)
    content = (version / file).read_bytes()
    (version / file).write_bytes(content[: len(content) // 2] + b"?" + content[len(content) // 2 + 1 :])
    with caplog.at_level(logging.WARNING):
        assert form_of(version) is None
    (told,) = [record.fields["reason"] for record in caplog.records]
    assert reason in told


@pytest.mark.parametrize(
    ("changed", "to", "named"),
    [("activation: sigmoid", "activation: softmax", "activation"), ("- 0.25\n", "- 0.5\n", "preprocess")],
)
def test_its_own_model_yaml_can_not_make_it_answer_otherwise_under_the_models_digest(
    changed, to, named, tmp_path, caplog
):
    file = copied(tmp_path) / "compiled" / "model.yaml"
    file.write_text(file.read_text().replace(changed, to))
    with caplog.at_level(logging.WARNING):
        assert form_of(file.parents[1]) is None
    (told,) = [record.fields["reason"] for record in caplog.records]
    assert named in told


@pytest.mark.parametrize(
    ("more", "usable"),
    [
        ("runtime: onnxruntime\ndescription: mine\nprecision: auto\n", True),
        ("runtime: eager\n", False),
        ("batch: 4\n", False),  # it has another digest
    ],
)
def test_it_is_used_where_the_rest_of_model_yaml_allows_it(more, usable, tmp_path):
    version = copied(tmp_path)
    text = (version / "model.yaml").read_text().replace("batch: 8\n", "").replace("description", "# was")
    (version / "model.yaml").write_text(text + more)
    form = form_of(version)
    assert (form is not None) == usable
    assert form is None or (form.spec.runtime, form.spec.description, form.spec.precision) == (
        "onnxruntime",
        "mine",
        "auto",
    )


def test_what_it_leaves_to_the_full_model(monkeypatch):
    monkeypatch.setitem(kinds._PLUGINS["TARGET"], "product", Path(__file__).parents[1] / "plugins" / "product.py")
    form = form_of(EMBEDDED / "scenes" / "1")
    in_torch = {name for name, method in METHODS.items() if Need.INPUT_GRADIENT in method.needs}
    assert in_torch < {*form.card.method_names()}
    assert {name for name in form.card.method_names() if not form.answers(Question(name))} == in_torch
    assert form.answers(None)
    assert form.answers(Question("gradcam", form.card.layer, (Target("contrast", [2, [5, 7]]),)))
    assert form.answers(Question("gradcam", measure=Measure(4, "eigencam")))
    assert not form.answers(Question("gradcam", measure=Measure(4, "guided_backprop")))
    assert not form.answers(Question("gradcam", "layer1"))
    assert not form.answers(Question("gradcam", targets=(Target("class_", 0), Target("product", [0, 1]))))


def test_an_answer_says_what_computed_it_where_that_was_not_the_form():
    local = open_model("scenes", Settings())
    full = local.model.card
    in_bfloat16 = full.on_runtime("openvino", "bfloat16", 0)
    local = replace(local, model=replace(local.model, card=in_bfloat16))
    for method, computed in (
        ("gradcam", in_bfloat16.computed),
        ("smoothgrad", Computed("eager", "float32", full.digest)),
    ):
        result = local.explain(picture(), ExplainOptions(method=method, output=["map"]))
        written = b"".join(_written(Answers(local.entry, in_bfloat16, [result]), "1", None))
        told = json.loads(written)["model"]
        assert Computed(told["runtime"], told["precision"], told["digest"]) == computed


def test_one_of_another_model_is_set_aside_when_that_is_brought_in(tmp_path, caplog):
    version = copied(tmp_path)
    file, digest, other = version / "compiled" / "compiled.json", form_of(version).card.digest, f"sha256:{'0' * 64}"
    file.write_text(file.read_text().replace(digest, other))
    woken = threading.Event()
    models = Models("cpu", 0, None, woken.set)
    models.apply(Snapshot(scan((tmp_path,), embedded=False)))

    def settled(digest: str) -> None:
        while (card := models.status()[0].card) is None or card.digest != digest or card.runtime == "eager":
            assert woken.wait(PATIENCE)
            woken.clear()
            models.collect()

    settled(other)
    with pytest.raises(NeedsFullModel):
        models.find("scenes@1", other, Question("smoothgrad"))
    assert models.load("scenes@1", again=False, whole=True)
    settled(digest)  # and faster, since torch knows no threads where it traces
    assert isinstance(models.find("scenes@1", digest, Question("smoothgrad")), LoadedModel)
    (told,) = [record.fields["reason"] for record in caplog.records if "set aside" in record.getMessage()]
    assert told == f"its compiled form answers for {other}, and the model is {digest}; compile it again"


@pytest.fixture(scope="module")
def service():
    """The service with nothing configured but a port, the CPU and longer deadlines: this machine may be slow."""
    with running(default_model="imagenet", device="cpu", timeout_ms=170_000) as started:
        yield started


def explained(service: Service, **options: object) -> np.ndarray:
    told = service.post("/explain", files={"image": picture()}, data={"output": "map", **options})
    assert told.status_code == 200, told.text
    return values(told.json()["results"][0]["explanations"][0]["map"])


def in_torch(local: Local, **options: object) -> np.ndarray:
    return local.explain(picture(), ExplainOptions(output=["map"], **options)).explanations[0].map


def test_with_no_settings_torch_comes_with_the_first_request_that_needs_it_and_compiled_models_answer_on(
    service: Service,
):
    scenes, imagenet = (open_model(name, Settings(device="cpu")) for name in ("scenes", "imagenet"))
    near(explained(service), in_torch(imagenet))
    for method in ("gradcam", "scorecam"):
        near(explained(service, model="scenes", method=method), in_torch(scenes, method=method))
    said = service.post("/predict", files={"image": picture()}).json()["results"][0]["predictions"][0]["logit"]
    assert said == pytest.approx(imagenet.predict(picture(), PredictOptions()).scores.max(), rel=1e-4)
    told = service.get("/models/scenes").json()
    assert [one["name"] for one in told["layers"]] == [one.name for one in scenes.model.card.layers]
    assert {*told["methods"]} == {*scenes.model.card.method_names()}
    assert told["digest"] == scenes.model.card.digest
    assert not holds_torch(service)

    expected, answered = in_torch(imagenet), []
    with repeated(lambda _: answered.append(explained(service)), threads=1, pause=0.2):
        found = explained(service, model="scenes", method="smoothgrad", samples=4)
        before = len(answered)
    assert holds_torch(service)
    assert before > 0
    near(np.stack(answered), np.stack([expected] * len(answered)))
    near(found, in_torch(scenes, method="smoothgrad", samples=4))
    for options in ({"layer": "layer1"}, {"method": "guided_backprop"}):
        near(explained(service, model="scenes", **options), in_torch(scenes, **options))
    assert service.get("/models/scenes").json()["memory"] > told["memory"]
