"""Frames over HTTP, in every form of body and every dialect: an agent's actions, and the value of what it sees."""

import io
import json

import numpy as np
import pytest
from inputs.files import npy
from PIL import Image
from tasks.agents import LABELS, network

from command import gradcam

from .calls import base64_of, opened, problem, result, values
from .v2 import binary, elements

FRAMES = np.random.default_rng(1).integers(0, 256, (4, 84, 84), np.uint8)
VALUE = json.dumps({"output": "value"})


@pytest.fixture(scope="module")
def client(traced):
    return traced.client


def png(frame):
    return saved([frame])


def saved(frames, encoding="PNG"):
    file = io.BytesIO()
    first, *others = map(Image.fromarray, frames)
    more = {"save_all": True, "append_images": others} if others else {}
    first.save(file, encoding, **more)
    return file.getvalue()


FILES = [png(frame) for frame in FRAMES]
TEXTS = [base64_of(file) for file in FILES]


def parts(name="frames", files=FILES):
    return [(name, (f"{at}.png", file, "image/png")) for at, file in enumerate(files)]


def truth():
    import torch

    logits, value = network()(torch.from_numpy(FRAMES.astype(np.float32))[None])
    return logits[0].detach().numpy(), value.item()


SENT = {
    "parts": {"files": parts()},
    "parts as PHP writes them": {"files": parts("frames[]")},
    "members": {"json": {"frames": TEXTS}},
    "one of several stacks": {"json": {"images": [TEXTS]}},
    "an animated PNG": {"content": saved(FRAMES), "headers": {"Content-Type": "image/png"}},
    "an animated GIF": {"files": {"image": ("play.gif", saved(FRAMES, "GIF"), "image/gif")}},
    "an array": {"content": npy(FRAMES), "headers": {"Content-Type": "application/x-npy"}},
}


@pytest.mark.parametrize("name", SENT)
def test_a_stack_is_answered_in_every_form(client, name):
    said = result(client.post("/predict", params={"model": "agent"}, **SENT[name]))
    assert said.keys() == {"actions", "value"}
    logits, value = truth()
    found = {action["index"]: action for action in said["actions"]}
    np.testing.assert_allclose([found[at]["logit"] for at in range(5)], logits, atol=1e-4)
    assert [found[at]["label"] for at in range(5)] == LABELS
    assert sum(action["probability"] for action in said["actions"]) == pytest.approx(1)
    assert said["value"] == pytest.approx(value, abs=1e-4)


def test_without_a_value_none_is_said(client):
    said = result(client.post("/predict", params={"model": "actor"}, files=parts()))
    assert said.keys() == {"actions"}


def test_actions_and_the_value_are_explained_on_the_newest_frame(client):
    asked = {"model": "agent", "target": ["wait", "2", VALUE], "output": ["map", "overlay"], "format": "png"}
    said = result(client.post("/explain", data=asked | {"alpha": 0}, files=parts()))
    *actions, value = said["explanations"]
    assert [one["target"]["label"] for one in actions] == ["wait", "up"]
    assert value["target"] == {"output": "value", "value": said["value"]}
    for one in said["explanations"]:
        assert one["image_size"] == [84, 84]
        assert values(one["map"]).shape == (7, 7)
        shown = np.asarray(opened(one["overlay"]))
        np.testing.assert_array_equal(shown, np.repeat(FRAMES[-1][..., None], 3, axis=2))
    (chosen,) = result(client.post("/explain", data={"model": "agent"}, files=parts()))["explanations"]
    assert chosen["target"] == said["actions"][0] | {"chosen": "top-1"}
    contrast = {"class": "up", "against": "rest"}
    body = {"model": "agent", "frames": TEXTS, "target": [contrast]}
    (compared,) = result(client.post("/explain", json=body))["explanations"]
    logits, _ = truth()
    assert compared["target"]["value"] == pytest.approx(logits[2] - logits[[0, 1, 3, 4]].mean(), abs=1e-4)


def test_stacks_of_one_request_are_answered_apart(client):
    other = [base64_of(png(frame)) for frame in FRAMES[::-1]]
    answer = client.post("/predict", json={"model": "agent", "images": [TEXTS, other, TEXTS[:3]]}).json()
    first, second, wrong = answer["results"]
    assert first["actions"] != second["actions"]
    assert "3 frames came, but this model takes 4" in wrong["error"]["detail"]


REFUSED = {
    "too few": ({"files": parts(files=FILES[:2])}, 422, "unfit_input", "2 frames came, but this model takes 4"),
    "too many": ({"files": parts(files=[*FILES, FILES[0]])}, 422, "unfit_input", "5 frames came"),
    "one picture": ({"files": {"image": FILES[0]}}, 422, "unfit_input", "1 frame came, but this model takes 4"),
    "of different sizes": (
        {"files": parts(files=[*FILES[:3], png(FRAMES[0, :80])])},
        422,
        "unfit_input",
        "the frames are of different sizes, 84×84, 84×80; frames of one size would work",
    ),
    "no picture": ({"files": parts(files=[*FILES[:3], b"text"])}, 422, "undecodable_image", "send a JPEG"),
    "an empty one": ({"files": parts(files=[*FILES[:3], b""])}, 400, "malformed", "an empty one"),
    "none": ({"json": {"frames": []}}, 400, "malformed", "the frames of one picture, oldest first, would work"),
    "no list": ({"json": {"frames": TEXTS[0]}}, 400, "malformed", '"frames" must be a list'),
    "both": ({"files": [*parts(), *parts("image")]}, 400, "malformed", "either would work"),
    "both members": ({"json": {"frames": TEXTS, "image": TEXTS[0]}}, 400, "malformed", '"frames", those of one'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said(client, name):
    sent, status, code, says = REFUSED[name]
    assert says in problem(client.post("/explain", params={"model": "agent"}, **sent), status, code)


def test_a_model_of_one_picture_refuses_frames(client):
    refused = client.post("/predict", params={"model": "scenes"}, files=parts())
    assert "4 frames came, but this model takes one picture" in problem(refused, 422, "unfit_input")


def test_a_value_that_there_is_not_is_refused(client):
    refused = client.post("/explain", params={"model": "actor", "target": VALUE}, files=parts())
    assert "gives no value" in problem(refused, 422, "unknown_target")
    refused = client.post("/explain", params={"model": "agent", "target": VALUE, "method": "finercam"}, files=parts())
    assert "finercam can't explain value" in problem(refused, 422, "unsupported_method")


def test_a_model_says_what_it_takes(client):
    taken = client.get("/models/agent").json()["input"]
    assert (taken["channels"], taken["frames"], taken["width"]) == (1, 4, 84)
    assert "frames" not in client.get("/models/xray").json()["input"]


def test_v1_takes_frames(client):
    instance = {"frames": [{"b64": text} for text in TEXTS]}
    said = client.post("/v1/models/agent:predict", json={"instances": [instance, {"frames": TEXTS}]}).json()
    for found in said["predictions"]:
        assert found["actions"][0]["label"] == LABELS[int(truth()[0].argmax())]
    said = client.post("/v1/models/agent:explain", json={"instances": [instance]}).json()
    assert said["explanations"][0]["actions"][0]["label"] == LABELS[int(truth()[0].argmax())]


def test_v2_scores_actions_and_predicts_the_value_beside_them(client):
    wanted = [{"name": "scores"}, {"name": "prediction", "parameters": {"binary_data": False}}]
    sent = binary(("image", "BYTES", [2, 4], elements([*FILES, *FILES])), outputs=wanted)
    scores, said = (output["data"] for output in client.post("/v2/models/agent/infer", **sent).json()["outputs"])
    logits, value = truth()
    expected = np.exp(logits - logits.max())
    np.testing.assert_allclose(np.reshape(scores, (2, 5)), [expected / expected.sum()] * 2, atol=1e-5)
    for one in map(json.loads, said):
        assert one["value"] == pytest.approx(value, abs=1e-4)
        assert one["actions"][0]["label"] == LABELS[int(logits.argmax())]


def test_torchserve_takes_an_animation(client):
    said = client.post("/predictions/agent", files={"data": saved(FRAMES)}).json()
    assert said["actions"][0]["label"] == LABELS[int(truth()[0].argmax())]


def test_the_command_line_takes_frames(numbers, tmp_path):
    paths = [tmp_path / f"{at}.png" for at in range(4)]
    for path, file in zip(paths, FILES, strict=True):
        path.write_bytes(file)
    done = gradcam("predict", *paths, "--frames", "--model", "agent", **numbers)
    assert "value of the state" in done.stdout
    assert LABELS[int(truth()[0].argmax())] in done.stdout.splitlines()[0]
    cam = tmp_path / "cam.png"
    done = gradcam("explain", *paths, "--frames", "--model", "agent", "--target", VALUE, "-o", cam, **numbers)
    assert Image.open(cam).size == (84, 84)
    assert "value of the state" in done.stdout
