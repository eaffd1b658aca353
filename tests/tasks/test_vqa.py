"""Questions about pictures, where they meet early (FiLM) and late: answered and explained as the plain network says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gradcam_service.errors import BadOption
from gradcam_service.question import Question
from gradcam_service.registry.acceptance import compare
from gradcam_service.registry.loader import load
from gradcam_service.registry.repository import scan
from gradcam_service.targets import read
from gradcam_service.tasks import tokens_of
from gradcam_service.text import TOKENS
from gradcam_service.worker.engine import run

from .answerers import KINDS, network, written

QUESTIONS = [f"{a} {b}?" for a in ("what", "which", "colour") for b in ("shape", "colour", "it", "which")][:10]
PICTURES = np.random.default_rng(0).integers(0, 256, (10, 16, 20, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(tmp_path_factory.mktemp("answerers"), "answerers_alone")


@pytest.fixture(scope="module", params=KINDS)
def model(request, folder):
    (entry,) = [entry for entry in scan([folder["model_repository"]]).entries if entry.name == request.param]
    return request.param, load(entry, torch.device("cpu"), folder["python_path"])


def asked(model, pairs, questions):
    inputs = [{"image": PICTURES[at], TOKENS: tokens_of("vqa", model.card.text, {"question": q})} for at, q in pairs]
    return run(model, inputs, questions, 10_000).answers


def truth(kind, at, tokens, objective):
    """Scores and the Grad-CAM of an objective, in float64 by hooks on the plain module."""
    plain, kept = network(kind).double(), []
    plain.last.register_forward_hook(lambda module, given, out: kept.append(out))
    image = torch.from_numpy(PICTURES[at] / 255).permute(2, 0, 1)[None]
    scores = plain(image, torch.from_numpy(tokens)[None])[0]
    (gradient,) = torch.autograd.grad(objective(scores), kept[0])
    cam = torch.relu((gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1))[0]
    return scores.detach().numpy(), cam.detach().numpy()


@pytest.mark.parametrize("target", [None, "circle", {"class": "red", "against": "blue"}])
def test_ten_questions_in_one_batch_are_explained_as_the_plain_network_says(model, target):
    kind, loaded = model
    about = Question("gradcam", targets=() if target is None else (read(target, loaded.card),))
    pairs = [(at // 2, question) for at, question in enumerate(QUESTIONS)]  # two about each picture
    objective = {None: torch.Tensor.max, "circle": lambda scores: scores[2]}.get(
        target if not isinstance(target, dict) else "contrast", lambda scores: scores[0] - scores[1]
    )
    for (at, question), answer in zip(pairs, asked(loaded, pairs, [about] * 10), strict=True):
        tokens = tokens_of("vqa", loaded.card.text, {"question": question})
        scores, cam = truth(kind, at, tokens, objective)
        np.testing.assert_allclose(answer.scores, scores, rtol=0, atol=1e-4 * np.abs(scores).max())
        np.testing.assert_allclose(answer.maps[0], cam, rtol=0, atol=1e-4 * max(cam.max(), 1e-4))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_computes_what_needs_the_picture_alone_and_nothing_else(model, runtime):
    kind, loaded = model
    faster = replace(loaded, spec=loaded.spec.model_copy(update={"runtime": runtime})).accelerated("float32", 0)
    if kind == "early":
        assert faster == "the model looks at the picture by what its tokens are, which no runtime gives it yet"
        return
    assert faster.card.runtime == runtime
    pairs = [(at // 2, question) for at, question in enumerate(QUESTIONS)]
    for found, expected in zip(
        *(asked(one, pairs, [Question("gradcam")] * 10) for one in (faster, loaded)), strict=True
    ):
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-4 * np.abs(expected.scores).max())
        np.testing.assert_allclose(found.maps, expected.maps, rtol=0, atol=1e-4 * max(expected.maps.max(), 1e-4))
    _, tokens = loaded.batch([{"image": PICTURES[0], TOKENS: np.array([1, 3, 2, 0])}])
    images = torch.randn(2, 3, *loaded.card.preprocess.input_size)
    same = compare(loaded.network, faster.network, [images], (tokens,))
    assert same.accepted
    assert same.cosine > 0.9999
    other = faster.network.with_backbone(lambda given: loaded.network.of_images(-given))
    assert not compare(loaded.network, other, [images], (tokens,)).accepted


def test_what_is_wrong_with_a_question_is_said(model):
    text = model[1].card.text
    for given, says in (
        ({}, "'question' is missing"),
        ({"question": "what is it colour which"}, "at most 4"),
        ({"question": "what animal"}, "doesn't know 'animal'"),
        ({"caption": "what"}, "'question' beside a picture"),
    ):
        with pytest.raises(BadOption, match=says):
            tokens_of("vqa", text, given)


def test_methods_of_many_passes_ask_the_same_question_in_each(model):
    """Of the second of two questions about one picture in a batch, as the plain network has it in float64."""
    kind, loaded = model
    plain, target = network(kind).double(), (read("circle", loaded.card),)
    tokens = torch.from_numpy(tokens_of("vqa", loaded.card.text, {"question": QUESTIONS[1]}))[None]
    image = torch.from_numpy(PICTURES[0] / 255).permute(2, 0, 1)[None]
    methods = {"integrated_gradients": {"steps": 2}, "occlusion": {"window": 8, "stride": 8}}
    questions = [Question(method, targets=target, options=options) for method, options in methods.items()]
    pairs = [(0, QUESTIONS[0]), (0, QUESTIONS[1])]
    integrated, occluded = (asked(loaded, pairs, [one] * 2)[1].finish().maps[0] for one in questions)

    slopes = []
    for share in (0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5):  # of two points, each weighs a half
        path = (share * image).requires_grad_()
        slopes.append(torch.autograd.grad(plain(path, tokens)[0, 2], path)[0])
    expected = (image * sum(slopes) / 2)[0].permute(1, 2, 0).detach().numpy()
    np.testing.assert_allclose(integrated, expected, rtol=0, atol=1e-4 * np.abs(expected).max())

    covered = image.clone()
    covered[:, :, 8:, :8] = 0
    with torch.no_grad():
        loss = (plain(image, tokens) - plain(covered, tokens))[0, 2].item()
    assert occluded[15, 0] == pytest.approx(loss, abs=1e-5)
