"""Compiled models: what they answer, through the worker's own engine, is what the model in torch answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from command import gradcam
from gradcam_service import kinds
from gradcam_service.compiled import proof
from gradcam_service.compiled.model import CompiledModel
from gradcam_service.compiled.write import compile_model
from gradcam_service.errors import BadOption, ModelFailed, UnknownLayer, UnsupportedMethod
from gradcam_service.explain.method import Iterative, Need
from gradcam_service.explain.methods import METHODS
from gradcam_service.question import Measure, Question
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loader import LoadedModel
from gradcam_service.registry.loading import load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import EMBEDDED, Entry
from gradcam_service.targets import Target
from gradcam_service.worker import engine
from gradcam_service.worker.messages import Answer
from repository import EMBEDDED_MODELS, in_full

MODEL_YAML = """\
source: {source}
architecture: {architecture}
weights: random:0
runtime: eager
preprocess: {{resize: [{side}, {side}], mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}
"""
FAMILIES = {
    "squeezenet1_1": ("torchvision", 97),  # a head of convolutions, and a pooling that isn't its last
    "mobilenet_v3_small": ("torchvision", 64),  # of two linear layers
    "convnext_atto": ("timm", 64),  # of a normalisation and a linear layer
}
LONG = ("mobilenet_v3_small", "convnext_atto")
"""Those that wait for `make test-all`: the heads of the others, and each kind of head in test_lowering, don't."""
FOLDERS = TemporaryDirectory(prefix="compiled-")
ROOT = Path(FOLDERS.name)
LIMIT = 100_000
CHEAP = {"occlusion": {"window": 40, "stride": 40}, "rise": {"masks": 12}}


def entry(folder: Path) -> Entry:
    return Entry(folder.parent.name, folder.name, LocalPlace(folder))


@cache
def source(name: str) -> Path:
    if (EMBEDDED / name).exists():
        return EMBEDDED / name / "1"
    builder, side = FAMILIES[name]
    folder = ROOT / "sources" / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(MODEL_YAML.format(source=builder, architecture=name, side=side))
    return folder


@cache
def both(name: str) -> tuple[LoadedModel, CompiledModel]:
    """A model in torch, and what it was compiled to; of `scenes` at another layer, too."""
    model = load(entry(source(name)), "cpu")
    folder = ROOT / "models" / name / "1"
    layers = ("layer1",) if name == "scenes" else ()
    compile_model(model, ModelFolder(model.spec, source(name)), f"{name}@1", layers, folder)
    compiled = load(entry(folder), "cpu")
    assert isinstance(compiled, CompiledModel)
    return model, compiled


def pixels(model: LoadedModel, seed: int = 0) -> np.ndarray:
    shape = (*model.card.preprocess.input_size, model.card.input.count)
    blocks = np.random.default_rng(seed).integers(0, 256, (shape[0] // 8, -(-shape[1] // 8), shape[2]), np.uint8)
    large = blocks.repeat(9, 0).repeat(8, 1)
    return np.ascontiguousarray(large[: shape[0], : shape[1]])


def inputs(model: LoadedModel, seed: int = 0) -> dict[str, np.ndarray]:
    text = {} if model.card.text is None or model.card.speaks else {"tokens": model.card.text.example()}
    return {"image": pixels(model, seed), **text}


def answers(model: LoadedModel | CompiledModel, given: list, questions: list[Question | None]) -> list[Answer]:
    found = [
        answer.finish() if isinstance(answer, engine.Pending) else answer
        for answer in engine.run(model, given, questions, LIMIT).answers
    ]
    for answer in found:
        if isinstance(answer, Exception):
            raise answer
    return found


def near(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def check(name: str, questions: list[Question]) -> None:
    """Scores, layers, targets and maps of two pictures each, in one batch and one without a question."""
    model, compiled = both(name)
    given = [inputs(model, seed) for seed in range(len(questions) + 1)]
    asked = [*questions, None]
    for before, after in zip(answers(model, given, asked), answers(compiled, given, asked), strict=True):
        near(after.scores, before.scores)
        assert (after.layer, after.targets) == (before.layer, before.targets)
        near(after.maps, before.maps) if before.maps.size else None
        assert (after.tokens is None) == (before.tokens is None)
        assert after.tokens is None or [*after.tokens] == [*before.tokens]


@pytest.mark.parametrize(
    "name",
    ["scenes", *(pytest.param(name, marks=pytest.mark.exhaustive) if name in LONG else name for name in FAMILIES)],
)
def test_every_method_that_needs_no_gradient_at_the_picture_answers_alike(name):
    compiled = both(name)[1]
    able = compiled.card.method_names()
    in_torch = {name for name, method in METHODS.items() if Need.INPUT_GRADIENT in method.needs}
    assert not in_torch & {*able}
    quick = [name for name in able if not isinstance(METHODS[name], Iterative)]
    slow = [name for name in able if isinstance(METHODS[name], Iterative)] if name == "scenes" else []
    targets = (Target("class_", 3), Target("class_", 0))
    check(name, [Question(method, targets=targets, options=CHEAP.get(method, {})) for method in (*quick, *slow)])


@pytest.mark.parametrize("name", ["scenes", "squeezenet1_1"])
def test_the_top_class_and_contrasts_are_explained_by_the_same_graph(name):
    contrasts = (Target("contrast", [2, [5, 7]]), Target("contrast", [1, ()]), Target("class_", 4))
    check(name, [Question("gradcam"), Question("hirescam", targets=contrasts), Question("layercam", targets=contrasts)])


def test_another_layer_that_it_was_compiled_at():
    check("scenes", [Question("layercam", "layer1"), Question("gradcam_plus_plus", "layer1"), Question("gradcam")])
    with pytest.raises(UnknownLayer, match="layer3, layer1"):
        both("scenes")[1].card.check_question("gradcam", "layer2", {})


@pytest.mark.parametrize(
    "name", ["policy", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("easy-vqa", "scenes-captions"))]
)
def test_answers_captions_and_actions(name):
    check(name, [Question("gradcam"), Question("hirescam"), Question("eigencam")])


def test_the_quality_of_maps_is_measured_alike():
    measured = Question("gradcam", measure=Measure(4, "eigencam"), targets=(Target("class_", 2),))
    (before,), (after,) = (answers(model, [inputs(both("scenes")[0])], [measured]) for model in both("scenes"))
    (expected,), (found,) = before.quality, after.quality
    # Pixels of nearly equal values go in another order, by rounding.
    assert found.deletion == pytest.approx(expected.deletion, abs=2e-3)
    assert found.insertion == pytest.approx(expected.insertion, abs=2e-3)
    assert found.agreement == pytest.approx(expected.agreement, abs=1e-3)


@pytest.mark.parametrize("name", ["scenes", "squeezenet1_1"])
def test_scores_are_computed_once_unless_what_is_explained_depends_on_them(name):
    compiled, computed = both(name)[1], []

    def counted(*values: np.ndarray) -> list[np.ndarray]:
        computed.append(len(values[0]))
        return compiled.network.cut.head.graph(*values)

    cut = replace(compiled.network.cut, head=replace(compiled.network.cut.head, graph=counted))
    model = replace(compiled, network=replace(compiled.network, cuts={cut.layer.name: cut}))
    contrast = (Target("contrast", [2, [5, 7]]),)
    answers(model, [inputs(both(name)[0])] * 2, [Question("gradcam"), Question("hirescam", targets=contrast)])
    assert computed == [2]
    answers(model, [inputs(both(name)[0])], [Question("finercam")])
    assert computed == [2, 1, 1]


def test_what_needs_torch_is_refused_by_name():
    card = both("scenes")[1].card
    for method in ("guided_backprop", "guided_gradcam", "integrated_gradients", "smoothgrad"):
        with pytest.raises(UnsupportedMethod, match="the full model has, and needs torch; it can by gradcam"):
            card.check_question(method, "auto", {})


def test_its_card_is_that_of_the_model_but_for_what_it_can_not_do():
    model, compiled = both("scenes")
    for member in ("labels", "preprocess", "activation", "task", "layer", "batch", "input", "checks", "method"):
        assert getattr(compiled.card, member) == getattr(model.card, member), member
    assert [layer.name for layer in compiled.card.layers] == ["layer3", "layer1"]
    assert compiled.card.layers[0] == model.card.layers[-1]
    assert compiled.card.source == "compiled"
    assert compiled.manifest.card == model.card
    assert compiled.manifest.model == "scenes@1"


def test_normalised_tensors_and_pixels_may_be_mixed_in_a_batch():
    model, compiled = both("scenes")
    prepared = model.images([pixels(model, 1)])[0].numpy()
    given = [{"image": pixels(model, 0)}, {"tensor": prepared}]
    for before, after in zip(answers(model, given, [None] * 2), answers(compiled, given, [None] * 2), strict=True):
        near(after.scores, before.scores)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_each_runtime_that_opens_it_answers_alike(runtime, tmp_path):
    folder = altered(tmp_path, "scenes")
    with (folder / "model.yaml").open("a") as file:
        file.write(f"runtime: {runtime}\n")
    compiled, expected = load(entry(folder), "cpu"), both("scenes")[1]
    assert compiled.card.runtime == runtime
    given, asked = [inputs(both("scenes")[0])], [Question("gradcam")]
    near(answers(compiled, given, asked)[0].maps, answers(expected, given, asked)[0].maps)


def test_the_fastest_runtime_takes_over_and_answers_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where no race was run
    compiled = both("scenes")[1]
    faster = compiled.accelerated("float32", 0)
    if isinstance(faster, str):
        assert "openvino takes" in faster
    else:
        assert faster.card.runtime == "openvino"
        assert faster.card.digest == compiled.card.digest
        given, asked = [inputs(both("scenes")[0])], [Question("gradcam")]
        near(answers(faster, given, asked)[0].maps, answers(compiled, given, asked)[0].maps)


def altered(folder: Path, name: str) -> Path:
    """A copy of a compiled model, to be changed."""
    both(name)
    made = folder / name / "1"
    made.mkdir(parents=True)
    for file in (ROOT / "models" / name / "1").iterdir():
        (made / file.name).write_bytes(file.read_bytes())
    return made


@pytest.mark.parametrize("file", ["weights.bin", "head.onnx", "labels.json"])
def test_a_damaged_file_is_told_of(file, tmp_path):
    folder = altered(tmp_path, "scenes")
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(ModelFailed, match=f"{file} is not what gradcam compile wrote; compile the model again"):
        load(entry(folder), "cpu")


def test_a_missing_file_is_told_of(tmp_path):
    folder = altered(tmp_path, "scenes")
    (folder / "compiled.json").unlink()
    with pytest.raises(ModelFailed, match=r"compiled.json can't be read: No such file"):
        load(entry(folder), "cpu")


def test_a_runtime_that_opens_no_graphs_is_told_of(tmp_path):
    folder = altered(tmp_path, "scenes")
    with (folder / "model.yaml").open("a") as file:
        file.write("runtime: cuda_graphs\n")
    with pytest.raises(ModelFailed, match="opens no compiled models; these do: onnxruntime, openvino"):
        load(entry(folder), "cpu")


def test_graphs_that_answer_unlike_the_model_are_not_written(monkeypatch, tmp_path):
    model, _ = both("scenes")
    real = proof.load

    def bent(made: Entry) -> CompiledModel:
        weights = made.folder() / "weights.bin"
        content = np.frombuffer(weights.read_bytes(), np.float32).copy()
        content[: len(content) // 2] *= 1.01
        weights.write_bytes(content.tobytes())
        manifest = made.folder() / "compiled.json"
        told = json.loads(manifest.read_bytes())
        told["files"].pop("weights.bin")
        manifest.write_text(json.dumps(told))
        return real(made)

    monkeypatch.setattr(proof, "load", bent)
    with pytest.raises(UnsupportedMethod, match=r"differ from the model's by .*; nothing is written"):
        compile_model(model, ModelFolder(model.spec, source("scenes")), "scenes@1", (), tmp_path / "a" / "1")
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    with pytest.raises(BadOption, match="is there already"):
        compile_model(both("scenes")[0], ModelFolder(both("scenes")[0].spec, source("scenes")), "a@1", (), tmp_path)


def test_the_command_tells_of_a_layer_that_is_not_there_and_of_a_model_that_is_compiled_already(tmp_path):
    told = gradcam("compile", "scenes", "--layers", "layer9", "-o", tmp_path / "mine" / "1")
    assert told.returncode == 2
    assert "layer9" in told.stderr
    folder = altered(tmp_path / "models", "scenes")
    again = gradcam("compile", "scenes", "-o", tmp_path / "b" / "1", model_repository=folder.parents[1], embedded=False)
    assert again.returncode == 2
    assert "needs the full model; scenes@1 is a compiled one, made from scenes@1, which would work" in again.stderr
    assert not (tmp_path / "mine").exists()


ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""
WITHOUT_TORCH = (
    ABSENT
    + """
from pathlib import Path
from gradcam_service.core.options import ExplainOptions
from gradcam_service.local import load_all, open_model
from gradcam_service.registry.repository import scan
from gradcam_service.settings import Settings

repository, picture, name, *methods = sys.argv[1:]
settings = Settings(model_repository=(repository,), default_model="scenes", device="cpu")
local = open_model(name, settings)
picture = Path(picture).read_bytes()
for method in methods:
    options = {"masks": 10} if method == "rise" else {}
    told = local.explain(picture, ExplainOptions(method=method, output=["map"], **options))
    print(method, told.explanations[0].name)
listing = scan(settings.model_repository, True)
for tried in load_all(zip(listing, listing.models()), settings):
    print(tried.entry.name, tried.model.reason or tried.model.state)
"""
)


@pytest.mark.parametrize("name", ["scenes", pytest.param("scenes-captions", marks=pytest.mark.exhaustive)])
def test_without_torch_it_explains_and_what_needs_torch_says_so(name, tmp_path):
    folder = altered(tmp_path, name)
    in_full("easy-vqa", folder.parents[1])
    picture = next(Path(proof.__file__).parents[1].glob("pictures/*.jpg"))
    methods = both(name)[1].card.method_names() if name == "scenes" else ["gradcam"]
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, folder.parents[1], picture, name, *methods],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    explained, tried = ran.stdout.splitlines()[: len(methods)], ran.stdout.splitlines()[len(methods) :]
    assert [line.split()[0] for line in explained] == methods
    refused = "model needs torch: compile it, or use the full image"
    assert sorted(tried) == [f"{model} {refused if model == 'easy-vqa' else 'ready'}" for model in EMBEDDED_MODELS]


@pytest.mark.parametrize("command", [("evaluate", "scenes", "--model", "scenes"), ("export", "scenes")])
def test_a_command_that_needs_torch_says_so_where_there_is_none(command, tmp_path):
    folder = altered(tmp_path, "scenes")
    script = f"{ABSENT}from gradcam_service.cli import main\nmain()"
    ran = subprocess.run(
        [sys.executable, "-c", script, *command, "-o", tmp_path / "made.onnx"],
        env={**os.environ, "GRADCAM_MODEL_REPOSITORY": str(folder.parents[1]), "GRADCAM_DEVICE": "cpu"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("gradcam: this needs torch, which is not installed")
    assert "Traceback" not in ran.stderr


def test_a_target_that_is_written_in_torch_needs_the_full_model(monkeypatch):
    monkeypatch.setitem(kinds._PLUGINS["TARGET"], "product", Path(__file__).parents[1] / "plugins" / "product.py")
    model, compiled = both("scenes")
    for method in ("gradcam", "occlusion"):
        asked = [Question(method, targets=(Target("product", [0, 1]),), options=CHEAP.get(method, {}))]
        answers(model, [inputs(model)], asked)
        with pytest.raises(UnsupportedMethod, match="kind product is explained by differentiating it"):
            answers(compiled, [inputs(model)], asked)


def test_a_head_differentiates_no_objective_itself():
    _, compiled = both("scenes")
    cut = compiled.network.cut
    frontier = cut.frontier(compiled.images([pixels(both("scenes")[0])]))
    with pytest.raises(UnsupportedMethod, match="the full model has"):
        cut.head.gradients(frontier, lambda scores: torch.tensor(scores).prod(1))
