"""Questions over HTTP, in every form of body: answers are ranked, and each is explained, for this question."""

import json

import numpy as np
import pytest
import torch
from inputs.files import npy
from tasks import answerers

from gradcam_service.explain.methods import METHODS

from .calls import answered, base64_of, encoded, photo, problem, result, values

QUESTION = "Which colour is it?"
PICTURE = photo(20, 16)
FILE = encoded(PICTURE, "PNG")
BINARY = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def client(traced):
    return traced.client


def truth(kind, question=QUESTION):
    """Logits of the plain network."""
    image = torch.from_numpy(np.asarray(PICTURE, np.float32) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        return answerers.network(kind)(image, torch.tensor([answerers.tokens(question)]))[0].numpy()


def explained(client, **options):
    data = {"model": "late", "question": QUESTION, "output": "map", **options}
    return result(client.post("/explain", files={"image": FILE}, data=data))


SENT = {
    "a form": {"files": {"image": FILE}, "data": {"question": QUESTION}},
    "JSON": {"json": {"image": base64_of(FILE), "question": QUESTION}},
    "several in JSON": {"json": {"images": [base64_of(FILE)], "question": QUESTION}},
    "a raw body": {"content": FILE, "headers": BINARY, "params": {"question": QUESTION}},
    "an array": {
        "content": npy(np.asarray(PICTURE)),
        "headers": {"Content-Type": "application/x-npy"},
        "params": {"question": QUESTION},
    },
}


@pytest.mark.parametrize("kind", answerers.KINDS)
@pytest.mark.parametrize("name", SENT)
def test_a_question_is_answered_in_every_form(client, name, kind):
    sent = SENT[name] | {"params": {"model": kind, "top_k": 9, **SENT[name].get("params", {})}}
    said = result(client.post("/predict", **sent))
    assert said.keys() == {"answers"}
    logits = truth(kind)
    assert [one["label"] for one in said["answers"]] == [answerers.ANSWERS[at] for at in np.argsort(-logits)]
    np.testing.assert_allclose([one["logit"] for one in said["answers"]], np.sort(logits)[::-1], atol=1e-5)
    (explanation,) = result(client.post("/explain", **sent))["explanations"]
    assert explanation["target"] == said["answers"][0] | {"chosen": "top-1"}


@pytest.mark.parametrize("kind", answerers.KINDS)
def test_the_answer_depends_on_the_question(client, kind):
    for question in ("what shape", "what colour is it"):
        said = explained(client, model=kind, question=question, top_k=4)
        found = {one["index"]: one["logit"] for one in said["answers"]}
        np.testing.assert_allclose([found[at] for at in range(4)], truth(kind, question), atol=1e-5)


@pytest.mark.parametrize("kind", answerers.KINDS)
def test_answers_are_explained_by_index_name_and_against_others(client, kind):
    contrast = {"class": "circle", "against": ["red", 1]}
    rest = {"class": "Blue", "against": "rest"}
    targets = ["2", "CIRCLE", json.dumps(contrast), json.dumps(rest)]
    index, name, compared, with_rest = explained(client, model=kind, target=targets)["explanations"]
    assert index["target"]["label"] == name["target"]["label"] == "circle"
    np.testing.assert_allclose(values(index["map"]), values(name["map"]), rtol=1e-5, atol=1e-9)
    logits = truth(kind)
    assert compared["target"]["value"] == pytest.approx(logits[2] - logits[:2].mean(), abs=1e-5)
    assert with_rest["target"]["value"] == pytest.approx(logits[1] - logits[[0, 2, 3]].mean(), abs=1e-5)
    both = np.abs(values(compared["map"])) + np.abs(values(index["map"])) + np.abs(values(with_rest["map"]))
    assert both.any()


CHEAP = {
    "rise": {"masks": 8},
    "smoothgrad": {"samples": 2},
    "integrated_gradients": {"steps": 2},
    "occlusion": {"window": 8, "stride": 8},
}


@pytest.mark.parametrize("kind", answerers.KINDS)
def test_every_method_explains_an_answer_or_says_why_not(client, kind):
    explained(client, model=kind)  # it is loaded then
    able = answered(client.get(f"/models/{kind}"))["methods"]
    assert {"gradcam", "layercam", "finercam", "scorecam", "rise", "guided_gradcam"} <= {*able}
    for name in METHODS:
        data = {"model": kind, "question": QUESTION, "target": "circle", "output": "map", "method": name}
        response = client.post("/explain", files={"image": FILE}, data=data | CHEAP.get(name, {}))
        if name in able:
            (explanation,) = result(response)["explanations"]
            assert np.isfinite(values(explanation["map"])).all()
        else:
            refused = problem(response, 422, "unsupported_method")
            assert f"can't be explained by '{name}': " in refused
            assert len(refused) > 100


@pytest.mark.parametrize(
    ("options", "code", "status", "says"),
    [
        ({}, "bad_option", 400, "'question' is missing; a model of task vqa answers nothing without it"),
        ({"question": " ?! "}, "bad_option", 400, "has no words; it takes up to 4"),
        ({"question": "what colour is it which"}, "bad_option", 400, "has 5 words; the model takes at most 4"),
        ({"question": "what anmial is shpae"}, "bad_option", 400, "doesn't know 'anmial', 'shpae'"),
        ({"question": "what shpae"}, "bad_option", 400, "did you mean 'shape'"),
        ({"question": QUESTION, "caption": "red"}, "bad_option", 400, "takes 'question' beside a picture"),
        ({"question": QUESTION, "target": "green"}, "unknown_target", 422, "'green'"),
        ({"question": QUESTION, "target": '{"word": 0}'}, "bad_option", 400, "is no target"),
        ({"question": QUESTION, "target": '{"output": "value"}'}, "bad_option", 400, "is no target"),
        ({"question": QUESTION, "model": "scenes"}, "bad_option", 400, "pictures alone"),
        ({"question": QUESTION, "model": "attends"}, "bad_option", 400, "takes 'caption' beside a picture"),
    ],
)
def test_what_is_wrong_is_said(client, options, code, status, says):
    asked = {"model": "late", **options}
    for path in ("/predict", "/explain"):
        if path == "/explain" or "target" not in options:
            assert says in problem(client.post(path, files={"image": FILE}, data=asked), status, code)
    body = {"image": base64_of(FILE), **asked}
    assert says in problem(client.post("/explain", json=body), status, code)
