"""What the page says when something is wrong, where it is wrong."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from api.calls import encoded
from live import PATIENCE

from .conftest import KEY, NAMES, Playground, admitted

NO_PICTURES = [
    (b"%PDF-1.7 and more", "paper.pdf", "application/pdf", "look like PDF"),
    (b"\x89PNG\r\n\x1a\n and nothing", "half.png", "image/png", "PNG can't be decoded"),
    (b"hello", "words.txt", "text/plain", "look like text"),
]


def test_a_file_that_is_no_picture_is_told_of_beside_the_pictures(playground):
    playground.open("#picture=fish-star")
    for data, name, media_type, said in NO_PICTURES:
        playground.paste(data, name, media_type)
        playground.page.locator("#picture-error").get_by_text(said).wait_for()
        assert playground.titles() == ["fish"]  # what was there is still there
    playground.page.get_by_role("button", name="a cross and a star").click()
    playground.until("document.getElementById('picture-error').textContent === ''")


def test_what_the_service_warns_of_is_said_beside_the_pictures(playground):
    playground.open("#picture=fish-star")
    dark = Image.fromarray(np.random.default_rng(0).integers(0, 9, (64, 64, 3), np.uint8))
    playground.paste(encoded(dark, "PNG"), "dark.png", "image/png")
    playground.page.locator("#picture-note").get_by_text("its numbers are from 0 to 8").wait_for()
    playground.page.get_by_role("button", name="a cross and a star").click()
    playground.page.locator("#picture-note").wait_for(state="hidden")


def test_a_model_that_fails_says_why_and_the_others_go_on(playground):
    playground.open("#picture=fish-star")
    model = playground.page.get_by_role("combobox", name="Model", exact=True)
    assert any(option.startswith("resnet50@1 · ") for option in model.locator("option").all_inner_texts())
    model.select_option("resnet50@1")
    playground.page.locator("#model-error").get_by_text("resnet50-11ad3fa6.pth").wait_for()
    playground.page.locator(".tile[data-state=error]").get_by_text("resnet50-11ad3fa6.pth").wait_for()
    assert playground.page.get_by_role("button", name="Try again").is_visible()
    assert "resnet50@1 · failed" in model.locator("option").all_inner_texts()
    model.select_option("scenes@1")
    playground.settled(1)
    assert playground.page.locator("#model-error").inner_text() == ""


def test_a_model_in_the_address_that_is_not_there_is_said(playground):
    playground.open("#picture=fish-star&model=nothing@3")
    playground.page.get_by_text("There is no model nothing@3 here").wait_for()
    assert playground.page.get_by_role("combobox", name="Model", exact=True).input_value() == "scenes@1"


def test_an_alias_in_the_address_is_understood(playground):
    playground.open("#model=resnet18@stable")
    assert playground.page.get_by_role("combobox", name="Model", exact=True).input_value() == "resnet18@1"
    assert playground.hash() == "#picture=camera&model=resnet18@1"  # a photograph, as it may know such


def test_a_service_that_is_gone_is_said_and_asked_again(playground):
    playground.open("#picture=fish-star")
    playground.page.context.set_offline(True)
    playground.class_button("star").click()
    playground.page.locator(".tile[data-state=error]").get_by_text("can’t be reached").wait_for()
    playground.page.context.set_offline(False)
    playground.page.get_by_role("button", name="Try again").click()
    playground.settled(1)
    assert playground.titles() == ["star"]


@pytest.mark.parametrize(
    ("control", "wrong", "right", "said"),
    [
        ("layer", "attic", "layer2", "no layer 'attic'"),
        ("method", "magic", "layercam", "can't be explained by 'magic'"),
    ],
)
def test_a_wrong_choice_is_said_beside_it_in_the_services_words_until_it_is_mended(
    playground, control, wrong, right, said
):
    playground.open(f"#picture=fish-star&{control}={wrong}", tiles=0)
    playground.page.locator(".tile[data-state=error]").get_by_text(said).wait_for()
    beside, chosen = playground.page.locator(f"#{control}-error"), playground.page.locator(f"#{control}")
    assert said in beside.inner_text()
    assert (chosen.input_value(), chosen.get_attribute("aria-invalid")) == (wrong, "true")
    chosen.select_option(right)
    playground.settled(1)
    assert (beside.inner_text(), chosen.get_attribute("aria-invalid")) == ("", "false")


def assert_commands_work(page, folder):
    """Whoever has the key in the environment may run them as they are."""
    for shell, which in ((["bash", "-e", "-c"], "curl"), ([sys.executable, "-c"], "python")):
        command = page.locator(f"#{which}").inner_text()
        assert KEY not in command
        subprocess.run(
            [*shell, command], cwd=folder, env=os.environ | {"GRADCAM_API_KEY": KEY}, check=True, timeout=PATIENCE
        )
        pictures = [*folder.glob("*.png")]
        assert len(pictures) == 2
        for picture in pictures:
            Image.open(picture).verify()
            picture.unlink()


def test_it_asks_for_the_key_and_keeps_it_in_memory_only(visit, guarded, tmp_path):
    page = visit.page
    page.goto(guarded.url)
    key = page.get_by_label("This service asks for an API key")
    key.wait_for()
    assert page.evaluate("document.activeElement.id") == "key-value"
    assert page.locator("main").is_hidden()
    key.fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("That key is not accepted.").wait_for()
    key.fill(KEY)
    page.keyboard.press("Enter")
    Playground(visit, guarded).settled(2)
    assert key.is_hidden()
    assert_commands_work(page, tmp_path)
    stores = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    assert KEY not in page.evaluate(stores) + page.content()
    assert page.evaluate("indexedDB.databases().then((found) => found.length)") == 0
    assert KEY not in "".join(visit.requests)
    page.reload()
    key.wait_for()
    assert key.input_value() == ""
    assert visit.strangers(guarded.url) == []


@pytest.fixture
def odd(visit, guarded):
    """The page where the model with the hostile labels explains a cat."""
    playground = admitted(visit, guarded, "#picture=cat&model=odd@1")
    playground.settled(1)
    return playground


def test_a_file_of_bands_is_shown_as_the_service_draws_it_and_an_example_refused(visit, guarded):
    playground = admitted(visit, guarded, "#picture=cat&model=bands@1")
    refused = playground.page.locator("#picture-error")
    refused.get_by_text("which takes (H, W, 4)").wait_for()
    assert ".npy" in playground.page.locator("#file").get_attribute("accept").split(",")
    playground.page.reload()
    visit.page.goto("about:blank")
    playground = admitted(visit, guarded, "#model=bands@1")
    playground.page.get_by_text("Open a TIFF or .npy file").wait_for()
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).integers(0, 65536, (48, 80, 4), np.uint16))
    playground.paste(file.getvalue(), "bands.npy", "")
    playground.settled(1)
    assert refused.inner_text() == ""
    natural = "image => [image.naturalWidth, image.naturalHeight]"
    assert playground.page.locator(".photo").evaluate(natural) == [80, 48]


def test_a_class_is_what_the_service_takes_its_name_for(odd):
    """A label, a number or a name in any case; of a name of several classes, the service tells the numbers."""
    typing, said = odd.page.get_by_label("Another class"), odd.page.locator("#class-name-error")
    for typed, label in {"Tabby": NAMES[0], "2": NAMES[2], "tabby_cat": NAMES[0], "Crane": NAMES[3]}.items():
        typing.fill(typed)
        typing.press("Enter")
        odd.shows(label)
    typing.fill("CRANE")
    typing.press("Enter")
    said.get_by_text("1 'crane', 3 'Crane', 4 'crane'").wait_for()
    odd.class_button("<img").first.click()
    odd.settled(1)
    assert said.inner_text() == ""


def test_a_model_that_grad_cam_cannot_explain_begins_with_a_method_that_can(visit, guarded):
    playground = admitted(visit, guarded, "#picture=cat&model=flat@1")  # which is loaded only now
    playground.settled(1)
    assert playground.page.locator("#method").input_value() == "guided_backprop"
    assert playground.page.locator("#method-error").inner_text() == ""


def test_labels_are_text_whatever_they_hold(visit, odd):
    page = visit.page
    assert page.locator(".tile strong").inner_text().startswith("<img src=x onerror=alert(1)> ")
    assert "<img src=x onerror=alert(1)> " in page.locator("#classes").inner_text()
    assert "<img" in page.locator("#meaning").inner_text()
    assert page.locator("img[src=x]").count() == 0
    assert visit.complaints == ["Failed to load resource: the server responded with a status of 401 (Unauthorized)"]
