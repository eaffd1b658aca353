"""A source is one file, ``tests/plugins/colours.py``, and so is a runtime, ``tests/plugins/double.py``."""

import numpy as np
import pytest
from PIL import Image

from api.calls import BINARY, answered, encoded

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
PICTURE = encoded(Image.fromarray(PIXELS), "PNG")


def test_a_source_builds_what_model_yaml_says_and_a_runtime_computes_it(client):
    """Each class's score is the mean of its colour, normalised and after a ReLU."""
    (said,) = answered(client.post("/predict?model=shades", content=PICTURE, headers=BINARY))["results"]
    expected = np.maximum((PIXELS / 255 - 0.2) / 0.5, 0).mean((0, 1))
    logits = {each["label"]: each["logit"] for each in said["predictions"]}
    assert logits == pytest.approx({"blue": expected[2], "red": expected[0]}, abs=1e-5)
    model = client.get("/models/shades").json()
    assert (model["source"], model["runtime"], model["precision"]) == ("colours", "double", "float32")


def test_a_source_and_a_runtime_are_in_the_schema_of_model_yaml(client):
    fields = client.get("/docs/model.schema.json").json()["properties"]
    assert {"colours", "torchvision"} <= set(fields["source"]["enum"])
    assert {"double", "auto", "eager", "onnxruntime"} <= set(fields["runtime"]["enum"])
