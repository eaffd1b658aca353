"""Questions, captions and frames in what other clients speak, and in Python: reachable, or refused by name."""

import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tasks import answerers
from tasks.agents import LABELS

from dialects.channel import Channel, output
from gradcam_service.api.grpc.protocol import inference_pb2
from gradcam_service.client import Client, Frames, Refused

from .calls import base64_of, encoded, photo, problem, result, values
from .test_frames import FILES
from .test_frames import truth as acted
from .test_questions import FILE, QUESTION, truth
from .v2 import binary, elements, tensors

CAPTION = "a red star"
EXPLAINED = {"image": base64_of(FILE), "question": QUESTION, "output": "map"}


@pytest.fixture(scope="module")
def client(traced):
    return traced.client


@pytest.fixture(scope="module")
def channel(traced):
    with Channel(traced) as opened:
        yield opened


@pytest.fixture(scope="module")
def python(traced):
    with Client(traced.url) as opened:
        yield opened


def native(client, model, **body):
    """What the service's own protocol answers."""
    return result(client.post("/explain", json={"model": model, "output": "map", **body}))


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


ASKED = {  # what is asked of models of four kinds: model, and the rest of the body
    "early": ("early", {"image": base64_of(FILE), "question": QUESTION, "target": ["red", 2]}),
    "late": ("late", {"image": base64_of(FILE), "question": "what shape", "target": ["circle", 0]}),
    "other question": ("late", {"image": base64_of(FILE), "question": "is it which"}),
    "caption": ("attends", {"image": base64_of(FILE), "caption": CAPTION}),
    "own caption": ("attends", {"image": base64_of(encoded(photo(32, 32, 5), "PNG"))}),
    "word": ("attends", {"image": base64_of(FILE), "target": {"word": 0}}),
    "action": ("agent", {"frames": [base64_of(file) for file in FILES]}),
    "value": ("agent", {"frames": [base64_of(file) for file in FILES[::-1]], "target": {"output": "value"}}),
    "class": ("scenes", {"image": base64_of(FILE), "target": "star"}),
}


def numbers(told):
    """All numbers of an answer without its maps."""
    if isinstance(told, dict):
        return [number for name in sorted(told) if name != "map" for number in numbers(told[name])]
    if isinstance(told, list):
        return [number for each in told for number in numbers(each)]
    return [told] if isinstance(told, int | float) else []


def test_all_kinds_at_once_are_each_answered_as_if_alone(client):
    asked = [ASKED[name] for name in ASKED] * 2
    alone = [native(client, model, **body) for model, body in asked[: len(ASKED)]] * 2
    with ThreadPoolExecutor(len(asked)) as threads:
        together = list(threads.map(lambda one: native(client, one[0], **one[1]), asked))
    for found, expected in zip(together, alone, strict=True):
        assert numbers(found) == pytest.approx(numbers(expected), rel=1e-5, abs=1e-5)
        for one, other in zip(found["explanations"], expected["explanations"], strict=True):
            maps = values(one["map"]), values(other["map"])
            np.testing.assert_allclose(*maps, rtol=0, atol=1e-6 * max(1, np.abs(maps[1]).max()))


def test_v1_takes_a_question_of_each_instance_and_captions(client):
    instances = [{"image": {"b64": base64_of(FILE)}, "question": each} for each in (QUESTION, "what shape")]
    said = client.post("/v1/models/late:predict", json={"instances": instances}).json()["predictions"]
    for found, question in zip(said, (QUESTION, "what shape"), strict=True):
        np.testing.assert_allclose(found, softmax(truth("late", question)), atol=1e-5)
    body = {"instances": instances, "parameters": {"target": "red"}}
    explained = client.post("/v1/models/late:explain", json=body).json()["explanations"]
    assert [one["explanations"][0]["target"]["label"] for one in explained] == ["red", "red"]
    del instances[1]["question"]
    fine, wrong = client.post("/v1/models/late:predict", json={"instances": instances}).json()["predictions"]
    np.testing.assert_allclose(fine, softmax(truth("late")), atol=1e-5)
    assert "'question' is missing" in wrong["error"]
    captioned = {"instances": [{"b64": base64_of(FILE)}], "parameters": {"caption": CAPTION}}
    (said,) = client.post("/v1/models/attends:predict", json=captioned).json()["predictions"]
    assert said["caption"]["text"] == CAPTION


def test_torchserve_takes_questions_and_captions(client):
    said = client.post("/predictions/late", params={"question": QUESTION}, files={"data": FILE}).json()
    best = answerers.ANSWERS[int(truth("late").argmax())]
    assert said["answers"][0]["label"] == best
    said = client.post("/predictions/attends", params={"caption": CAPTION}, files={"data": FILE}).json()
    assert said["caption"]["text"] == CAPTION
    refused = client.post("/predictions/late", files={"data": FILE})
    assert (refused.status_code, "'question' is missing" in refused.text) == (400, True)


def v2(name, *files, shape=None, **parameters):
    """A request of pictures with options as parameters."""
    sent = ("image", "BYTES", shape or [len(files)], elements(files))
    return binary(sent, parameters=parameters, outputs=[{"name": name}])


def test_v2_takes_questions_captions_and_frames(client):
    scores = tensors(client.post("/v2/models/late/infer", **v2("scores", FILE, question=QUESTION)))["scores"]
    np.testing.assert_allclose(scores, softmax(truth("late"))[None], atol=1e-5)
    asked = v2("map", FILE, question=QUESTION, target="red,2")
    maps = tensors(client.post("/v2/models/late-explain/infer", **asked))["map"]
    expected = native(client, "late", **EXPLAINED, target=["red", 2])["explanations"]
    np.testing.assert_allclose(maps[0], [values(one["map"]) for one in expected], atol=1e-6)
    refused = client.post("/v2/models/late/infer", **v2("scores", FILE))
    assert (refused.status_code, "'question' is missing" in refused.text) == (400, True)
    words = tensors(client.post("/v2/models/attends/infer", **v2("map", FILE, caption=CAPTION)))["map"]
    assert words.shape == (1, 3, 8, 8)
    shape, value = [1, len(FILES)], json.dumps({"output": "value"})
    (cam,) = tensors(client.post("/v2/models/agent/infer", **v2("map", *FILES, shape=shape, target=value)))["map"]
    (expected,) = native(client, "agent", **ASKED["action"][1], target={"output": "value"})["explanations"]
    np.testing.assert_allclose(cam, values(expected["map"]), atol=1e-6)


def infer(channel, model, wanted, *files, shape=None, **parameters):
    """The answer to a call of gRPC."""
    it = inference_pb2
    image = it.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=shape or [len(files)])
    asked = {name: it.InferParameter(string_param=value) for name, value in parameters.items()}
    outputs = [it.ModelInferRequest.InferRequestedOutputTensor(name=wanted)]
    raw = [elements(files)]
    told, _ = channel.call(
        "ModelInfer", model_name=model, inputs=[image], outputs=outputs, raw_input_contents=raw, parameters=asked
    )
    return output(told, wanted)


def test_grpc_takes_questions_captions_and_frames(channel, client):
    scores = infer(channel, "late", "scores", FILE, question=QUESTION)
    np.testing.assert_allclose(scores, softmax(truth("late"))[None], atol=1e-5)
    (cam,) = infer(channel, "late", "map", FILE, question=QUESTION, target="circle")
    (expected,) = native(client, "late", **EXPLAINED, target="circle")["explanations"]
    np.testing.assert_allclose(cam, values(expected["map"]), atol=1e-6)
    assert infer(channel, "attends", "map", FILE, caption=CAPTION).shape == (1, 3, 8, 8)
    shape, value = [1, len(FILES)], json.dumps({"output": "value"})
    (cam,) = infer(channel, "agent", "map", *FILES, shape=shape, target=value)
    (expected,) = native(client, "agent", **ASKED["action"][1], target={"output": "value"})["explanations"]
    np.testing.assert_allclose(cam, values(expected["map"]), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "files", "shape", "says"),
    [
        ("late", [FILE], [1], "'question' is missing"),
        ("agent", FILES[:3], [1, 3], "3 frames came, but this model takes 4"),
        ("agent", FILES, [4], "1 frame came, but this model takes 4"),
        ("attends", [FILE], [1], "a model of task captioning has no scores of classes"),
    ],
)
def test_grpc_says_what_is_wrong(channel, model, files, shape, says):
    with pytest.raises(grpc.RpcError) as raised:
        infer(channel, model, "scores", *files, shape=shape)
    assert says in raised.value.details()


def test_python_has_answers(python):
    answers = python.predict(FILE, model="late", question=QUESTION, top_k=4)
    logits = truth("late")
    assert [one.label for one in answers.answers] == [answerers.ANSWERS[at] for at in np.argsort(-logits)]
    assert repr(answers).startswith("<Result of late@1: answers=[{'index': ")
    (circle, compared) = python.explain(
        FILE, model="late", question=QUESTION, target=["circle", {"class": "red", "against": "blue"}]
    ).explanations
    assert (circle.target.index, circle.target.label) == (2, "circle")
    assert compared.target.value == pytest.approx(logits[0] - logits[1], abs=1e-5)
    with pytest.raises(Refused, match="'question' is missing"):
        python.predict(FILE, model="late")


def test_python_has_captions(python):
    result = python.explain(FILE, model="attends", caption=CAPTION, output="map")
    assert [word.word for word in result.caption.words] == CAPTION.split()
    assert repr(result) == f"<Result of attends@1: caption={CAPTION!r}>"
    for place, (explanation, word) in enumerate(zip(result.explanations, result.caption.words, strict=True)):
        target = explanation.target
        assert (target.index, target.label, target.word, target.chosen) == (place, word.word, word.word, "caption")
        assert (target.logit, target.log_probability) == (word.logit, word.log_probability)
    (star,) = python.explain(FILE, model="attends", caption=CAPTION, target={"word": "star"}).explanations
    assert (star.target.index, star.target.label, star.target.chosen) == (2, "star", "request")


def test_python_has_actions_and_values(python):
    result = python.explain(Frames(FILES), model="agent", target=["up", {"output": "value"}], output="map")
    logits, value = acted()
    assert result.actions[0].label == LABELS[int(logits.argmax())]
    assert result.value == pytest.approx(value, abs=1e-4)
    assert "actions=[{" in repr(result)
    assert f"value={result.value!r}" in repr(result)
    action, of_state = (explanation.target for explanation in result.explanations)
    assert (action.index, action.label, action.chosen) == (2, "up", "request")
    assert (of_state.index, of_state.label, of_state.output, of_state.value) == (None, "value", "value", result.value)
    first, second = python.predict([Frames(FILES), Frames(FILES[::-1])], model="agent")
    assert first.actions[0].logit == pytest.approx(result.actions[0].logit, abs=1e-5)
    assert first.value != second.value
    with pytest.raises(Refused, match="3 frames came, but this model takes 4"):
        python.predict(Frames(FILES[:3]), model="agent")


def test_a_caption_without_words_is_an_answer_of_which_nothing_can_be_shown(client, channel, python):
    """A list of no explanations is one; a picture, or tensors, of none there aren't."""
    said = native(client, "silent", image=base64_of(FILE))
    assert (said["caption"]["words"], said["explanations"]) == ([], [])
    assert python.explain(FILE, model="silent").explanations == []
    asked = {"files": {"image": FILE}, "data": {"model": "silent"}, "headers": {"Accept": "image/png"}}
    assert "the caption is empty" in problem(client.post("/explain", **asked), 422, "unknown_target")
    for name in ("map", "target", "overlay"):
        assert "the caption is empty" in client.post("/v2/models/silent/infer", **v2(name, FILE)).json()["error"]
    with pytest.raises(grpc.RpcError, match="the caption is empty"):
        infer(channel, "silent", "map", FILE)
    assert client.post("/explanations/silent", files={"data": FILE}).json() == []
    body = {"instances": [{"b64": base64_of(FILE)}]}
    assert client.post("/v1/models/silent:explain", json=body).json()["explanations"][0]["explanations"] == []
