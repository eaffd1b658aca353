"""Captions, answers and actions on the page: what the service says of them, word by word, clicked and asked."""

import json
import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from api.calls import encoded, opened
from gradcam_service.zoo.policy.network import ACTIONS

from .conftest import admitted
from .test_snippets import SHELLS, code, downloaded, pixels, run

CAPTIONS = "#model=scenes-captions@1&picture=fish-star"
QUESTIONS = "#model=easy-vqa@1&picture=shape-circle"


@pytest.fixture
def caption(client):
    """The words that the model says of the page's picture."""
    data = client.get("/web/examples/fish-star.jpg").content
    answer = client.post("/predict", files={"image": data}, data={"model": "scenes-captions"}).json()
    return [word["word"] for word in answer["results"][0]["caption"]["words"]]


def words(playground, pressed=""):
    return playground.page.locator(f"#caption .word{pressed}").all_inner_texts()


def answers(playground):
    return playground.page.locator("#classes .text span").all_inner_texts()


def test_a_caption_has_every_word_explained_by_one_request_and_a_click_shows_one(playground, client, caption):
    playground.open(CAPTIONS, tiles=len(caption))
    assert words(playground) == playground.titles() == caption
    assert len(caption) > 5
    asked = [url for url in playground.asked if "/explain" in url]
    assert len(asked) == 1
    word = playground.page.locator("#caption .word").nth(2)
    word.press("Enter")
    playground.shows(caption[2])
    assert words(playground, "[aria-pressed=true]") == [caption[2]]
    assert word.evaluate("word => word === document.activeElement")  # the focus stays
    assert [url for url in playground.asked if "/explain" in url] == asked
    drawn = client.post(
        "/explain",
        files={"image": client.get("/web/examples/fish-star.jpg").content},
        data={"model": "scenes-captions", "target": json.dumps({"word": 2}), "max_side": 4096},
    ).json()["results"][0]["explanations"][0]["heatmap"]
    levels = np.asarray(opened(drawn)).astype(int)
    assert np.abs(playground.heat()[:, :, 3] - levels).max() <= 3
    assert f"“{caption[2]}”" in playground.page.locator("#meaning").inner_text()
    playground.page.get_by_role("button", name="Every word").click()
    playground.shows(*caption)


def test_a_caption_of_ones_own_is_explained_and_what_the_model_cannot_read_is_named(playground, caption):
    page = playground.open(CAPTIONS, tiles=len(caption)).page
    page.get_by_label("Another caption").fill("a dragon")
    page.get_by_label("Another caption").press("Enter")
    page.locator("#text-error").get_by_text("doesn't know 'dragon'").wait_for()
    assert page.locator("#text").get_attribute("aria-invalid") == "true"
    assert ["400" in said for said in playground.visit.complaints] == [True]
    page.get_by_label("Another caption").fill("A blue fish.")
    page.get_by_label("Another caption").press("Enter")
    playground.shows("a", "blue", "fish")
    assert page.locator("#text-error").inner_text() == ""
    assert "text=A+blue+fish." in playground.hash()
    page.reload()
    playground.shows("a", "blue", "fish")
    page.get_by_role("button", name="The model’s own").click()
    playground.shows(*caption)


def test_the_commands_of_a_caption_draw_its_words(playground, tmp_path):
    playground.open(f"{CAPTIONS}&targets=1,2&text=a+blue+fish", tiles=2)
    shown = {title: downloaded(playground, title) for title in ("blue", "fish")}
    for which, shell in SHELLS.items():
        folder = tmp_path / which
        folder.mkdir()
        run([*shell, code(playground, which)], folder)
        for place, (title, seen) in enumerate(shown.items(), 1):
            assert (np.abs(seen - pixels(folder / f"{place}-{title}.png")).max(axis=2) > 8).mean() < 0.02


def test_a_question_is_answered_and_another_one_and_an_answer_is_clicked(playground, client):
    page = playground.open(QUESTIONS).page
    playground.shows("teal")
    assert page.get_by_label("Question").input_value() == "what color is the shape?"
    assert page.locator("#method").input_value() == "hirescam"  # the model's own
    page.get_by_role("button", name="is there a circle?").click()
    playground.shows("yes")
    page.get_by_label("Question").fill("What shape is in the image?")
    page.get_by_role("button", name="Ask").click()
    playground.shows("circle")
    data = client.get("/web/examples/shape-circle.png").content
    asked = {"model": "easy-vqa", "question": "what shape is in the image"}
    expected = client.post("/predict", files={"image": data}, data=asked).json()["results"][0]["answers"]
    assert answers(playground) == [answer["label"] for answer in expected]
    playground.class_button("rectangle").click()
    playground.shows("rectangle")
    drawn = client.post("/explain", files={"image": data}, data=asked | {"target": "rectangle", "max_side": 4096})
    levels = np.asarray(opened(drawn.json()["results"][0]["explanations"][0]["heatmap"])).astype(int)
    assert np.abs(playground.heat()[:, :, 3] - levels).max() <= 3
    assert "'question=What shape is in the image?'" in code(playground, "curl")


def test_another_model_is_shown_a_picture_that_it_knows_and_asked_what_it_understands(playground, caption):
    page = playground.open("#picture=fish-star&targets=4,10", tiles=2).page
    shown = {"scenes-captions@1": caption, "easy-vqa@1": ["teal"], "policy@1": ["forward"], "scenes@1": ["cross"]}
    for model, titles in shown.items():
        page.get_by_role("combobox", name="Model", exact=True).select_option(model)
        playground.shows(*titles)
        assert page.locator("#picture-note").is_hidden()
        assert page.get_by_label("Question").is_visible() == (model == "easy-vqa@1")
        assert page.locator("#examples button:visible").count() >= 3
    assert "text=" not in playground.hash()


def test_a_model_that_needs_a_question_waits_for_one(playground):
    page = playground.open(QUESTIONS).page
    page.get_by_role("button", name="is there a circle?").click()
    playground.shows("yes")
    playground.asked.clear()
    page.get_by_label("Question").fill(" ")
    page.get_by_label("Question").press("Enter")
    page.locator("#picture-note").get_by_text("Ask something about this picture").wait_for()
    assert (playground.asked, playground.tiles.count()) == ([], 0)


def test_an_agents_actions_and_the_value_of_what_it_sees(playground, client):
    playground.open("#model=policy@1&picture=doorkey-door")
    data = client.get("/web/examples/doorkey-door.png").content
    said = client.post("/predict", files={"image": data}, data={"model": "policy"}).json()["results"][0]
    assert answers(playground) == [*(action["label"] for action in said["actions"]), "value of the state"]
    assert set(answers(playground)) < {*ACTIONS, "value of the state"}
    playground.page.get_by_role("button", name="value of the state side by side").click()
    playground.shows(said["actions"][0]["label"], "value of the state")
    notes = playground.page.locator(".tile .note").all_inner_texts()
    assert float(notes[1].split(" ")[0]) == pytest.approx(said["value"], abs=1e-3)
    assert re.search(r"targets=\d,value", playground.hash())
    assert '\'target={"output":"value"}\'' in code(playground, "curl")
    playground.page.reload()
    playground.shows(said["actions"][0]["label"], "value of the state")
    playground.page.get_by_label("Another action").fill("value")
    playground.page.get_by_label("Another action").press("Enter")
    playground.shows("value of the state")


def frame(shade):
    return Image.fromarray(np.full((84, 84), shade, np.uint8))


def test_frames_are_given_together_or_as_an_animation(visit, guarded):
    playground = admitted(visit, guarded, "#model=agent@1")
    page = playground.page
    page.locator("#classes-title").get_by_text("What it sees").wait_for()  # it isn't loaded yet
    page.locator("#file").set_input_files(
        [{"name": f"{n}.png", "mimeType": "image/png", "buffer": encoded(frame(20 * n), "PNG")} for n in (10, 9, 8, 7)]
    )
    playground.settled(1)
    assert page.locator("#frames img").evaluate_all("frames => frames.map((frame) => frame.alt)") == [
        *("7.png", "8.png", "9.png", "10.png")  # in the order of their numbers
    ]
    together = answers(playground)
    assert together[-1] == "value of the state"
    assert code(playground, "curl").count("-F frames=@") == 4
    heat = playground.heat()
    animation = encoded(
        frame(140), "PNG", save_all=True, append_images=[frame(20 * n) for n in (8, 9, 10)], default_image=False
    )
    playground.paste(animation, "play.png", "image/png")
    playground.until("document.getElementById('curl').textContent.includes('play.png')")
    playground.settled(1)
    assert page.locator("#frames").is_hidden()
    assert answers(playground) == together
    assert np.abs(playground.heat().astype(int) - heat).max() <= 1
    playground.paste(encoded(frame(3), "PNG"), "one.png", "image/png")
    assert re.search(r"takes? 4", page.locator("#picture-error").get_by_text("frame").inner_text())


@pytest.mark.parametrize("fragment", [CAPTIONS, QUESTIONS, f"{CAPTIONS}&text=a+dragon"])
def test_axe_finds_no_violations_in_text(playground, fragment):
    page = playground.page
    page.goto(f"{playground.url}/{fragment}")
    page.locator(".tile[data-state=done], .tile[data-state=error]").first.wait_for()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
