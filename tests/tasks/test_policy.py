"""Agents: actions and the value of a state are predicted and explained as the plain network computes them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from gradcam_service.errors import ServiceError
from gradcam_service.question import Question
from gradcam_service.registry.loader import load
from gradcam_service.registry.repository import scan
from gradcam_service.targets import read
from gradcam_service.tasks import TASKS
from gradcam_service.worker.engine import run

from .agents import LABELS, YAML, network, written

STATES = np.random.default_rng(0).integers(0, 256, (10, 84, 84, 4)).astype(np.float32) / 255


def loaded(root, name, python_path=None):
    (entry,) = [entry for entry in scan([root]).entries if entry.name == name]
    return load(entry, torch.device("cpu"), python_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(tmp_path_factory.mktemp("agents"), "agents_alone")


@pytest.fixture(scope="module")
def agent(folder):
    return loaded(folder["model_repository"], "agent", folder["python_path"])


@pytest.fixture(scope="module")
def actor(folder):
    return loaded(folder["model_repository"], "actor", folder["python_path"])


def asked(model, states, questions):
    return run(model, [{"image": state} for state in states], questions, 10_000).answers


def question(model, *targets, method="gradcam"):
    return Question(method, targets=tuple(read(target, model.card) for target in targets))


def truth(state, objective):
    """Logits, value and the Grad-CAM of an objective of them, in float64 by hooks on the plain module."""
    plain, kept = network().double(), []
    plain.features.register_forward_hook(lambda module, given, out: kept.append(out))
    logits, value = plain(torch.from_numpy(255 * state.astype(np.float64)).permute(2, 0, 1)[None])
    (features,) = kept
    (gradient,) = torch.autograd.grad(objective(logits[0], value[0, 0]), features)
    cam = torch.relu((gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1))[0]
    return logits[0].detach().numpy(), value.item(), cam.detach().numpy()


OBJECTIVES = {
    "the chosen action": (None, lambda logits, value: logits.max()),
    "another": ("down", lambda logits, value: logits[3]),
    "an index": (0, lambda logits, value: logits[0]),
    "one against another": ({"class": "up", "against": "wait"}, lambda logits, value: logits[2] - logits[4]),
    "one against the rest": (
        {"class": "up", "against": "rest"},
        lambda logits, value: logits[2] - logits[[0, 1, 3, 4]].mean(),
    ),
    "the value": ({"output": "value"}, lambda logits, value: value),
    "the value by its name": ("value", lambda logits, value: value),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_ten_states_are_explained_as_the_plain_network_says(agent, name):
    target, objective = OBJECTIVES[name]
    about = question(agent) if target is None else question(agent, target)
    for state, answer in zip(STATES, asked(agent, STATES, [about] * len(STATES)), strict=True):
        logits, value, cam = truth(state, objective)
        np.testing.assert_allclose(answer.scores, [*logits, value], rtol=0, atol=1e-4 * np.abs(logits).max())
        np.testing.assert_allclose(answer.maps[0], cam, rtol=0, atol=1e-4 * cam.max())


def test_a_state_is_answered_in_a_batch_of_others_as_if_alone(agent):
    questions = [
        question(agent, {"output": "value"}, "left"),
        None,
        question(agent, method="layercam"),
        question(agent, {"class": "up", "against": "rest"}, {"output": "value"}),
    ]
    together = asked(agent, STATES[:4], questions)
    for state, about, answer in zip(STATES, questions, together, strict=False):
        (alone,) = asked(agent, [state], [about])
        np.testing.assert_allclose(answer.scores, alone.scores, atol=1e-5)
        assert answer.targets == alone.targets
        np.testing.assert_allclose(answer.maps, alone.maps, atol=1e-5 * max(1.0, np.abs(alone.maps).max(initial=0)))


def test_the_value_is_no_action(agent):
    """Not even one that is the best, like others, or one of the rest."""
    scores = np.array([0.0, 1.0, 2.0, 0.0, 0.0, 100.0], np.float32)
    said = TASKS["policy"].predict(agent.card, scores, 9)
    assert [action.label for action in said.actions] == ["up", "right", "left", "down", "wait"]
    assert said.value == 100
    assert sum(action.probability for action in said.actions) == pytest.approx(1)
    probability = agent.network.probabilities(torch.from_numpy(scores[None]))[0]
    assert probability[:5].sum().item() == pytest.approx(1)
    assert probability[5] == 100
    near = question(agent, "up", method="finercam")
    (answer,) = asked(agent, STATES[:1], [near])

    def finer(logits, value):
        others = logits[[0, 1, 3, 4]]
        nearest = others[(others - logits[2]).abs().argsort()[:3]]
        return logits[2] - (nearest.softmax(0) * nearest).sum()

    cam = truth(STATES[0], finer)[2]
    np.testing.assert_allclose(answer.maps[0], cam, atol=2e-4 * cam.max(initial=1e-3))


def test_the_value_is_explained_by_every_kind_of_method(agent):
    assert agent.card.has_value
    for method in ("gradcam", "hirescam", "layercam", "scorecam", "guided_backprop"):
        (answer,) = asked(agent, STATES[:1], [question(agent, {"output": "value"}, method=method)])
        found = answer if hasattr(answer, "maps") else answer.finish()
        assert found.maps.shape[0] == 1
        assert np.isfinite(found.maps).all()


def test_a_network_without_a_value_says_so(actor):
    assert not actor.card.has_value
    assert len(asked(actor, STATES[:1], [None])[0].scores) == 5
    for target in ({"output": "value"}, "value"):
        with pytest.raises(ServiceError, match="gives no value beside its actions"):
            question(actor, target)
    said = TASKS["policy"].predict(actor.card, np.arange(5, dtype=np.float32), 5)
    assert said.value is None
    with pytest.raises(ServiceError, match=r'the value of the state, \{"output": "value"\}'):
        question(actor, {"output": "advantage"})


class Flat(nn.Module):
    """Its value is (N,), its outputs a dictionary."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, frames):
        logits, value = self.inner(frames)
        return {"value": value[:, 0], "logits": logits}


@pytest.mark.parametrize("source", ["pt2", "onnx"])
def test_files_give_the_value_too(source, tmp_path, agent):
    folder = tmp_path / "filed" / "1"
    folder.mkdir(parents=True)
    example, batch = torch.zeros(2, 4, 84, 84), torch.export.Dim("batch")
    if source == "pt2":
        torch.export.save(torch.export.export(Flat(), (example,), dynamic_shapes=({0: batch},)), folder / "model.pt2")
    else:
        torch.onnx.export(network(), (example,), folder / "model.onnx", dynamic_shapes=({0: batch},), dynamo=True)
        assert len(onnx.load(folder / "model.onnx").graph.output) == 2
    text = YAML.replace("architecture: {code}:{factory}", f"weights: model.{source}").replace("python", source)
    (Path(folder) / "model.yaml").write_text(text.format())
    filed = loaded(tmp_path, "filed")
    assert filed.card.has_value
    assert filed.card.labels == LABELS
    about = [question(filed, "up", {"output": "value"})] * 2
    for found, expected in zip(asked(filed, STATES[:2], about), asked(agent, STATES[:2], about), strict=True):
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(found.maps, expected.maps, atol=1e-4 * expected.maps.max())
