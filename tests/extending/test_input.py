"""A made-up kind of input, places as text, is explained, drawn on, documented and refused like any other."""

import numpy as np
from inputs.files import npy

from api.calls import opened, problem, result, values

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
    assert client.get("/models/dotted").json()["input"]["media_types"] == ["text/x-dots"]
    body = client.get("/openapi.json").json()["paths"]["/explain"]["post"]["requestBody"]["content"]
    assert "text/x-dots" in body
