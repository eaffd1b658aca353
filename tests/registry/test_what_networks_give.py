"""model.yaml says what a network's outputs are: one logit, scores as they are, values, one of several."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from command import gradcam
from gradcam_service.api.results import PredictResult
from gradcam_service.errors import BadOption, ModelFailed, UnknownTarget
from gradcam_service.registry.loader import load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry
from gradcam_service.registry.spec import Spec
from gradcam_service.targets import Target, read
from gradcam_service.tasks import TASKS

NETWORKS = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes=1, end="scores"):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU())
        self.fc, self.end = nn.Linear(8, classes), end
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, 0.7)

    def forward(self, x):
        pooled = self.features(x).mean((2, 3))
        scores = self.fc(pooled)
        if self.end == "pair":
            return pooled, scores
        if self.end == "probabilities":
            return (scores.softmax(1) + (-scores).softmax(1)) / 2
        return scores
"""
TEXT = """\
source: python
architecture: what_networks_give:Net
preprocess: {resize: [24, 24], mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code")
    (folder / "what_networks_give.py").write_text(NETWORKS)
    return folder


def made(folder, code, more, labels=()):
    folder.mkdir(parents=True, exist_ok=True)
    if labels:
        (folder / "labels.txt").write_text("\n".join(labels))
        more += "labels: labels.txt\n"
    (folder / "model.yaml").write_text(TEXT + more)
    return load(Entry("mine", "1", LocalPlace(folder)), torch.device("cpu"), code)


@pytest.mark.parametrize(
    ("given", "labels"),
    [((), ["no", "yes"]), (("crack",), ["no", "crack"]), (("healthy", "ill"), ["healthy", "ill"])],
)
def test_one_logit_of_a_sigmoid_has_two_labels(tmp_path, code, given, labels):
    model = made(tmp_path, code, "activation: sigmoid\n", given)
    assert model.card.labels == labels
    assert [method.refused for method in model.card.methods] == [""] * len(model.card.methods)
    scores = model.network.scores(torch.zeros(1, 3, 24, 24))[0].numpy()
    no, yes = sorted(TASKS["classification"].predict(model.card, scores, 2).predictions, key=lambda one: one.index)
    assert (no.label, yes.label) == tuple(labels)
    assert no.logit == -yes.logit
    assert no.probability + yes.probability == pytest.approx(1, abs=1e-12)
    assert yes.probability == pytest.approx(1 / (1 + np.exp(-yes.logit)))
    assert read(labels[0], model.card) == Target("class_", 0)


def test_more_than_two_labels_of_one_logit_are_too_many(tmp_path, code):
    with pytest.raises(ModelFailed, match=r"the model has 2 classes, labels\.txt 3$"):
        made(tmp_path, code, "activation: sigmoid\n", ("a", "b", "c"))


def test_softmax_over_one_class_is_refused_naming_what_would_work(tmp_path, code):
    with pytest.raises(ModelFailed, match=r"whatever the picture; say activation: sigmoid.*task: regression"):
        made(tmp_path, code, "")


def test_which_output_the_scores_are_is_said_in_model_yaml(tmp_path, code):
    two = "options: {classes: 3, end: pair}\n"
    with pytest.raises(ModelFailed, match=r"0 \(N, 8\), 1 \(N, 3\).*as in output: 0"):
        made(tmp_path, code, two)
    model = made(tmp_path, code, two + "output: 1\n")
    assert model.card.labels == ["0", "1", "2"]
    assert model.card.digest != made(tmp_path, code, two + "output: 0\n").card.digest


def test_scores_as_they_are_are_probabilities_as_they_are(tmp_path, code):
    own = "options: {classes: 3, end: probabilities}\n"
    with pytest.raises(ModelFailed, match="activation: none"):
        made(tmp_path, code, own)
    model = made(tmp_path, code, own + "activation: none\n")
    scores = model.network.scores(torch.zeros(1, 3, 24, 24))[0].numpy()
    said = TASKS["classification"].predict(model.card, scores, 3).predictions
    assert [one.probability for one in said] == [one.logit for one in said]
    assert sum(one.probability for one in said) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            {"activation": "identity"},
            "identity goes with task regression; task classification takes softmax",
        ),
        (
            {"task": "regression", "activation": "softmax"},
            "softmax goes with task captioning or classification or policy or vqa; task regression takes identity",
        ),
    ],
)
def test_an_activation_of_another_task_is_refused(more, says):
    with pytest.raises(ValidationError, match=says):
        Spec(source="python", architecture="a:b", **more)


def test_a_value_is_its_own_activation():
    assert Spec(source="python", architecture="a:b", task="regression").activation == "identity"


def test_values_and_classes_are_told_each_in_its_own_way():
    value = PredictResult.model_validate({"predictions": [{"index": 0, "label": "value", "value": 1.5}]})
    assert value.predictions[0].value == 1.5
    assert not hasattr(value.predictions[0], "probability")
    classes = {"predictions": [{"index": 0, "label": "cat", "logit": 1.0, "probability": 0.5}]}
    assert PredictResult.model_validate(classes).predictions[0].probability == 0.5
    several = PredictResult.model_json_schema()["$defs"]
    assert sum("value" in kind.get("properties", {}) for kind in several.values()) >= 1


def test_several_values_are_all_told_and_each_is_a_target(tmp_path, code):
    model = made(tmp_path, code, "task: regression\noptions: {classes: 2}\n", ("width", "height"))
    scores = np.array([3.0, -1.0], np.float32)
    said = TASKS["regression"].predict(model.card, scores, top_k=1).predictions
    assert [(one.label, one.value) for one in said] == [("width", 3.0), ("height", -1.0)]
    assert read("height", model.card) == read(1, model.card) == Target("value", 1)
    assert TASKS["regression"].default_target(scores) == Target("value", 0)
    with pytest.raises(UnknownTarget):
        read("depth", model.card)
    with pytest.raises(BadOption, match="of a regressor, one of its values"):
        read({"class": 0, "against": 1}, model.card)


def test_the_command_line_predicts_a_value_and_explains_it(tmp_path, code):
    model = made(tmp_path / "ages" / "1", code, "task: regression\n")
    picture = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)).save(picture)
    pixels = torch.tensor(np.asarray(Image.open(picture))).permute(2, 0, 1)[None] / 255
    value = float(model.network.scores((pixels - 0.5) / 0.25))
    settings = {"model_repository": tmp_path, "python_path": code}
    said = gradcam("predict", picture, "--model", "ages", **settings)
    assert re.fullmatch(r"\s*(\S+)\s+0  value\n", said.stdout)
    assert float(said.stdout.split()[0]) == pytest.approx(value, rel=1e-3)
    out = tmp_path / "cam.png"
    assert gradcam("explain", picture, "--model", "ages", "--target", "value", "-o", out, **settings).returncode == 0
    assert Image.open(out).size == (24, 24)
    refused = gradcam("explain", picture, "--model", "ages", "--target", "3", "-o", out, **settings)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)


def test_gradcam_models_prints_what_checks_have_found(tmp_path, code):
    folder = tmp_path / "unbounded" / "1"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(TEXT + "options: {classes: 3}\nactivation: none\n")
    listed = gradcam("models", "--load", "unbounded", model_repository=tmp_path, python_path=code).stdout.splitlines()
    place = next(number for number, line in enumerate(listed) if line.startswith("unbounded@1"))
    assert "some below 0 or above 1" in listed[place + 1]
