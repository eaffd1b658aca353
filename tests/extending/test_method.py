"""A method is one file: ``tests/plugins/sensitivity.py``."""

import numpy as np
from safetensors.torch import load_file

from api.calls import BINARY, answered, encoded, photo, problem, values
from gradcam_service.registry.repository import EMBEDDED
from gradcam_service.zoo.scenes import CLASSES

PICTURE = encoded(photo(200, 150), "PNG")


def ask(client, **options):
    options = {"method": "sensitivity", "target": "star", "output": "map"} | options
    return client.post("/explain", content=PICTURE, headers=BINARY, params=options)


def test_a_method_explains_with_its_own_options(client):
    """The head of scenes is global average pooling → linear: dy/dA is w/Z in each of Z cells."""
    (result,) = answered(ask(client, power=2))["results"]
    found = values(result["explanations"][0]["map"])
    weights = load_file(EMBEDDED / "scenes" / "1" / "weights.safetensors")["fc.weight"][CLASSES.index("star")]
    expected = np.full(found.shape, (weights / found.size).square().sum())
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_ranges_of_its_options_are_checked(client):
    assert "power" in problem(ask(client, power=5), 400, "bad_option")


def test_a_method_is_listed_and_documented(client):
    assert "sensitivity" in client.get("/models/scenes").json()["methods"]
    assert '"power"' in client.get("/openapi.json").text
