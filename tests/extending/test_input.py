"""A made-up kind of input, places as text, is explained, drawn on, documented and refused like any other."""

import numpy as np
import pytest
from inputs.files import npy

from api.calls import opened, problem, result, values
from browser import CHROMIUM, Visit, chromium

DOTS = b"30 40\n31 40\n90 100\n"
IMAGE = np.zeros((128, 128, 3), np.uint8)
for row, column in (30, 40), (31, 40), (90, 100):
    IMAGE[row, column] = 255


def explained(client, data, media_type, **options):
    return client.post("/explain", params=options, content=data, headers={"Content-Type": media_type})


def test_it_is_answered_as_the_same_pixels_are(client):
    asked = {"output": ["map", "overlay"], "format": "png", "alpha": 0}
    dots = result(explained(client, DOTS, "text/x-dots", model="dotted", **asked))
    pixels = result(explained(client, npy(IMAGE), "application/x-npy", model="undotted", **asked))
    assert dots["predictions"] == pixels["predictions"]
    (explanation,), (expected,) = dots["explanations"], pixels["explanations"]
    np.testing.assert_array_equal(values(explanation["map"]), values(expected["map"]))
    np.testing.assert_array_equal(np.asarray(opened(explanation["overlay"])), IMAGE)


def test_it_says_what_is_wrong_with_what_is_sent(client):
    refused = explained(client, b"30 128\n", "text/x-dots", model="dotted")
    assert "from 0 to 127" in problem(refused, 422, "unfit_input")


def test_it_is_listed_and_documented(client):
    told = client.get("/models/dotted").json()["input"]
    assert (told["media_types"], told["endings"]) == (["text/x-dots"], [".dots"])
    document = client.get("/openapi.json").json()
    assert "text/x-dots" in document["paths"]["/explain"]["post"]["requestBody"]["content"]
    assert "`text/x-dots`" in document["info"]["description"]


def test_who_sends_something_else_is_told_that_it_may_be_sent(client):
    assert "text/x-dots" in problem(explained(client, DOTS, "text/x-lines"), 415, "unsupported_media_type")
    assert "text/x-dots" in problem(explained(client, b"", "text/x-dots"), 400, "malformed")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_page_says_what_it_takes_and_explains_a_file_of_it(client):
    explained(client, DOTS, "text/x-dots", model="dotted")  # which loads the model
    with chromium() as browser:
        page = Visit(browser.new_page(reduced_motion="reduce")).page
        page.goto(f"{client.base_url}/#model=dotted@1")
        page.get_by_text("takes no pictures, but text/x-dots. Open a file of that (.dots)").wait_for()
        assert page.locator("#file").get_attribute("accept") == "text/x-dots,.dots"
        page.locator("#file").set_input_files({"name": "some.dots", "mimeType": "", "buffer": DOTS})
        page.locator(".tile[data-state=done]").wait_for()
