"""Captions and questions on the command line, of the embedded models: what is printed, written and refused."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from command import gradcam, opened
from gradcam_service.core.options import ExplainOptions, PredictOptions
from gradcam_service.registry.repository import EMBEDDED

PICTURES = EMBEDDED.parents[1] / "pictures"
SCENE, CIRCLE, DOOR = (PICTURES / name for name in ("cross-star.jpg", "shape-circle.png", "doorkey-door.png"))
CAPTION = "a black cross left of a yellow star"
QUESTION = "what color is the circle?"


def test_predict_answers_a_question_and_scores_a_caption():
    answered = gradcam("predict", CIRCLE, "--model", "easy-vqa", "--question", QUESTION, "--top-k", 2)
    expected = opened("easy-vqa").predict(CIRCLE.read_bytes(), PredictOptions(question=QUESTION, top_k=2))
    assert answered.stdout == f"{expected.prediction}\n"
    assert answered.stdout.split()[:3] == ["1.000", "6", "teal"]
    own = gradcam("predict", SCENE, "--model", "scenes-captions", "--caption", "A red cross.").stdout.splitlines()
    assert [line.split()[-1] for line in own] == ["cross", "a", "red", "cross"]
    assert own[0] == "a red cross"
    assert gradcam("predict", SCENE, "--model", "scenes-captions").stdout.splitlines()[0] == CAPTION


def test_explain_writes_a_picture_a_word_in_their_order_and_a_strip_of_all(tmp_path):
    done = gradcam("explain", SCENE, "--model", "scenes-captions", "-o", tmp_path / "cam.png")
    assert done.returncode == 0, done.stderr
    words = CAPTION.split()
    files = [f"cam-{place}-{word}.png" for place, word in enumerate(words)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*files, "cam.png"])
    assert [line.split("  → ")[1] for line in done.stdout.splitlines()[:-1]] == [str(tmp_path / name) for name in files]
    assert done.stdout.splitlines()[-1] == f"{CAPTION} → {tmp_path}/cam.png"
    options = ExplainOptions(target=[{"word": 7}], output=["overlay"], format="png")
    (star,) = opened("scenes-captions").explain(SCENE.read_bytes(), options).explanations
    drawn = np.asarray(Image.open(io.BytesIO(star.overlay.data)), int)
    assert np.abs(np.asarray(Image.open(tmp_path / files[7]), int) - drawn).max() <= 2
    strip = Image.open(tmp_path / "cam.png")
    tile = Image.open(tmp_path / files[7]).resize((256, 256))
    shown = strip.crop((6 + 3 * 262, 6 + 284, 262 + 3 * 262, 262 + 284))  # the fourth of the second row of two
    assert np.abs(np.asarray(shown, int) - np.asarray(tile, int)).mean() < 1


def test_explain_takes_words_as_it_takes_classes(tmp_path):
    done = gradcam("explain", SCENE, "--model", "scenes-captions", "--target", "star", "-o", tmp_path / "a.png")
    by_index = gradcam("explain", SCENE, "--model", "scenes-captions", "--target", 7, "-o", tmp_path / "b.png")
    written = json.dumps({"word": "star"})
    as_json = gradcam("explain", SCENE, "--model", "scenes-captions", "--target", written, "-o", tmp_path / "c.png")
    assert {each.stdout.split("→")[0] for each in (done, by_index, as_json)} == {"  1.000     7  star  "}
    assert len({(tmp_path / f"{name}.png").read_bytes() for name in "abc"}) == 1


def test_explain_compares_answers_to_a_question(tmp_path):
    options = ("--question", QUESTION, "--target", "teal", "--against", "blue")
    done = gradcam("explain", CIRCLE, "--model", "easy-vqa", *options, "-o", tmp_path / "cam.png")
    assert done.stdout == f"  1.000     6  teal rather than blue  → {tmp_path}/cam.png\n"
    assert Image.open(tmp_path / "cam.png").size == (256, 256)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((CIRCLE, "--model", "easy-vqa"), "option 'question' is missing"),
        ((CIRCLE, "--model", "easy-vqa", "--question", "?"), "option 'question' has no words; it takes up to 9"),
        ((CIRCLE, "--model", "easy-vqa", "--question", "what colour is it"), "'colour' (did you mean 'color'?), 'it'"),
        ((CIRCLE, "--model", "easy-vqa", "--caption", "a circle"), "takes 'question' beside a picture"),
        ((SCENE, "--model", "scenes", "--question", "what"), "takes pictures alone"),
        ((SCENE, "--model", "scenes-captions", "--caption", "a dragon"), "doesn't know 'dragon'"),
        ((SCENE, "--model", "scenes-captions", "--caption", "a " * 14), "has 14 words; the model takes at most 13"),
        ((DOOR, DOOR, "--frames", "--model", "policy"), "2 frames came, but this model takes one picture"),
    ],
)
def test_what_is_missing_or_unknown_is_one_line_that_says_what_would_work(arguments, said, tmp_path):
    for command in (("predict",), ("explain", "-o", tmp_path / "cam.png")):
        refused = gradcam(*command, *arguments)
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
        assert said in refused.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["fish", "13", '{"word": 8}'])
def test_a_word_that_the_caption_has_not_is_refused_with_the_caption(target, tmp_path):
    options = ("--model", "scenes-captions", "--target", target, "-o", tmp_path / "cam.png")
    refused = gradcam("explain", SCENE, *options)
    assert refused.returncode == 2
    assert CAPTION in refused.stderr or "at most 13, from 0" in refused.stderr
