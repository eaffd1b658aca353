"""Models of other servers, asked over HTTP: their maps are those of the same model in this process."""

from itertools import count
from time import sleep

import numpy as np
import pytest
import torch
import yaml
from registry.predictors import SIZE, scored, serving, v1, v2
from torch import nn

from gradcam_service.errors import ModelFailed, PredictorFailed
from gradcam_service.explain.network import Network
from gradcam_service.question import Question
from gradcam_service.registry import predictor
from gradcam_service.registry.black_box import black_box
from gradcam_service.registry.loader import LoadedModel, load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry
from gradcam_service.worker import engine

FLOATS = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.2, 0.3], "resize": [SIZE, SIZE]}
PIXELS = {"mean": [0.2, 0.4, 0.6], "std": [1.0, 1.0, 1.0], "resize": [SIZE, SIZE]}
"""Whose mean colour is one of 8 bits, so that nothing is rounded where pictures are sent."""
QUESTIONS = [Question("occlusion", options={"window": 5, "stride": 3}), Question("rise", options={"masks": 70})]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(predictor, "_WAIT", 0.01)
    monkeypatch.setattr(predictor, "_READY_SECONDS", 0.05)


def loaded(folder, url, preprocess, /, **options):
    spec = {"source": "predictor", "activation": "none", "runtime": "eager", "preprocess": preprocess}
    spec["options"] = {"url": f"http://{url}", "model": "little"} | options
    (folder / "model.yaml").write_text(yaml.safe_dump(spec))
    return load(Entry("little", "1", LocalPlace(folder)), torch.device("cpu"))


def maps(model, questions=QUESTIONS):
    """Scores of a made-up picture, and the map of its top-1 class by each question."""
    pixels = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    result = engine.run(model, [{"image": pixels}] * len(questions), questions, 10_000)
    answers = [pending.finish() for pending in result.answers]
    return answers[0].scores, [answer.maps[0] for answer in answers]


def here(model):
    """The same model, in this process."""

    class Little(nn.Module):
        def forward(self, images):
            return torch.from_numpy(scored(images.numpy())).float()

    module = black_box(Little(), model.card.preprocess, (5,), "")
    return LoadedModel(model.spec, model.card, Network(module, (3, SIZE, SIZE), activation="none"), model.device)


@pytest.mark.parametrize(
    ("server", "options"),
    [
        (v1("little"), {"encoding": "nchw"}),
        (v1("little", "nhwc"), {"encoding": "nhwc", "protocol": "v1"}),
        (v2("little", "FP32", [-1, 3, SIZE, SIZE]), {}),
        (v2("little", "FP32", [-1, SIZE, SIZE, 3]), {"protocol": "v2"}),
    ],
)
def test_maps_are_those_of_the_same_model_in_this_process(tmp_path, server, options):
    with serving(server) as url:
        model = loaded(tmp_path, url, FLOATS, **options)
        scores, found = maps(model)
    expected_scores, expected = maps(here(model))
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert model.card.method_names() == ["occlusion", "rise"]


@pytest.mark.parametrize(
    "server", [v1("little", "png"), v2("little", "BYTES", [-1, 1]), v2("little", "UINT8", [-1, SIZE, SIZE, 3])]
)
def test_what_takes_pictures_is_sent_pictures(tmp_path, server):
    with serving(server) as url:
        scores, (occluded, _) = maps(loaded(tmp_path, url, PIXELS))
    pixels = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(scores, scored(pixels[None])[0], atol=1e-6)
    best, total, covered = int(scores.argmax()), np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    starts = [3 * i for i in range(5)]  # the last window ends at 17
    for y in starts:
        for x in starts:
            hidden = pixels.copy()
            hidden[:, y : y + 5, x : x + 5] = np.array([0.2, 0.4, 0.6])[:, None, None]
            total[y : y + 5, x : x + 5] += scored(pixels[None])[0, best] - scored(hidden[None])[0, best]
            covered[y : y + 5, x : x + 5] += 1
    np.testing.assert_allclose(occluded, total / covered, atol=1e-6)


def faulty(*failures):
    """The model of V1, but that the next answers to pictures are these."""
    sound, left = v1("little"), list(failures)

    def respond(path, body):
        return left.pop(0) if left and body else sound(path, body)

    return respond, left


def test_what_passes_is_tried_again(tmp_path):
    server, left = faulty()
    with serving(server) as url:
        model = loaded(tmp_path, url, FLOATS, encoding="nchw")
        left += [(503, {"error": "starting"}), (429, {})]
        found, _ = maps(model)
    assert not left
    np.testing.assert_allclose(found, maps(here(model))[0], atol=1e-6)


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ([(503, {"error": "too busy"})] * 3, "does not answer: 503 .*too busy"),
        ([(400, {"error": "no such instance"})], "does not answer: 400 .*no such instance"),
        ([(200, {"outputs": []})], "answers with no scores: .*predictions"),
        ([(200, {"predictions": [{"star": 0.5}]})], "answers with no scores"),
        ([(200, {"predictions": [[0.1], [0.2, 0.3]]})], "answers with no scores"),
        ([(200, {"predictions": [0.5]})], "answers 1 images with"),
    ],
)
def test_a_failing_predictor_is_named(tmp_path, failures, said):
    server, left = faulty()
    with serving(server) as url:
        model = loaded(tmp_path, url, FLOATS, encoding="nchw")
        left += failures
        with pytest.raises(PredictorFailed, match=f"the predictor at http://{url} {said}"):
            model.network.scores(torch.zeros(1, 3, SIZE, SIZE))


def test_an_answer_that_never_ends_is_not_waited_for(tmp_path):
    server, left = faulty()
    with serving(server) as url:
        model = loaded(tmp_path, url, FLOATS, encoding="nchw", seconds=0.5)
        left += [(200, iter(lambda: sleep(0.1) or " ", None))]
        with pytest.raises(PredictorFailed, match=r"does not answer: nothing within 0\.5 s"):
            model.network.scores(torch.zeros(1, 3, SIZE, SIZE))


def test_one_that_has_become_another_model_is_named(tmp_path):
    server, left = faulty()
    with serving(server) as url:
        model = loaded(tmp_path, url, FLOATS, encoding="nchw")
        left += [(200, {"predictions": [[0.25, 0.75]]})]
        with pytest.raises(PredictorFailed, match="answers with 2 scores for each image, where it had 5"):
            model.network.scores(torch.zeros(1, 3, SIZE, SIZE))


def test_another_version_behind_it_is_told_once_and_another_digest_at_the_next_load(tmp_path, caplog):
    sound, version = v2("little", "FP32", [-1, 3, SIZE, SIZE]), ["1"]

    def respond(path, body):
        status, said = sound(path, body)
        if path.endswith("/infer"):
            said |= {"model_version": version[0]}
        return status, said | {"versions": version} if path == "/v2/models/little" else said

    def digest():
        return loaded(tmp_path, url, FLOATS).card.digest

    with serving(respond) as url:
        model = loaded(tmp_path, url, FLOATS)
        assert digest() == model.card.digest
        for version[0] in ("2", "1", "2"):
            model.network.scores(torch.zeros(1, 3, SIZE, SIZE))
        assert digest() != model.card.digest
    said = f"the predictor at http://{url} answers by version 2 of its model, too"
    assert [record.message for record in caplog.records if "version" in record.message] == [said]


def test_a_version_for_each_answer_is_not_remembered_for_ever(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(predictor, "_VERSIONS", 3)
    sound, answers = v2("little", "FP32", [-1, 3, SIZE, SIZE]), count(1)

    def respond(path, body):
        status, said = sound(path, body)
        return status, said | ({"model_version": str(next(answers))} if path.endswith("/infer") else {})

    with serving(respond) as url:
        model = loaded(tmp_path, url, FLOATS)
        for _ in range(6):
            model.network.scores(torch.zeros(1, 3, SIZE, SIZE))
    assert len([record for record in caplog.records if "answers by version" in record.message]) == 2


def test_one_that_is_gone_is_named(tmp_path):
    with serving(v1("little")) as url:
        model = loaded(tmp_path, url, FLOATS, encoding="nchw")
    with pytest.raises(PredictorFailed, match=f"the predictor at http://{url} does not answer: ConnectError"):
        model.network.scores(torch.zeros(1, 3, SIZE, SIZE))


def test_what_keeps_it_from_being_ready_is_told_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(predictor, "_READY_SECONDS", 10)
    monkeypatch.setattr(predictor, "sleep", lambda _: None)
    asked = []

    def respond(path, body):
        asked.append(path)
        return (503, {}) if len(asked) < 6 else v1("little")(path, body)

    with serving(respond) as url:
        loaded(tmp_path, url, FLOATS, protocol="v1", encoding="nchw")
    said = f"waiting for the predictor at http://{url} to be ready: GET /v1/models/little answers 503"
    assert [record.message for record in caplog.records if "predictor" in record.name] == [said]


def test_one_that_does_not_become_ready_or_takes_no_pictures_fails_to_load(tmp_path):
    with serving(v1("another")) as url, pytest.raises(ModelFailed, match=r"did not become ready .*/v1/models/little"):
        loaded(tmp_path, url, FLOATS)
    with serving(v2("little", "FP32", [-1, 4])) as url, pytest.raises(ModelFailed, match="takes one input, images"):
        loaded(tmp_path, url, FLOATS)
    with serving(v2("little", "FP32", [-1, 3, 8, 8])) as url, pytest.raises(ModelFailed, match="--preprocess imagenet"):
        loaded(tmp_path, url, None)
    with serving(v2("little", "FP32", [-1, 3, SIZE, SIZE])) as url:
        assert loaded(tmp_path, url, None, preprocess="imagenet").card.preprocess.input_size == (SIZE, SIZE)
    with serving(v1("little")) as url, pytest.raises(ModelFailed, match=r"options.protocol: .*v1"):
        loaded(tmp_path, url, FLOATS, protocol="v3")
