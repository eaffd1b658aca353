"""A task is one file: ``tests/plugins/maturity.py``."""

import json

from api.calls import BINARY, answered, encoded, photo
from command import gradcam

from .conftest import STAGES

PICTURE = encoded(photo(200, 150), "PNG")


def explained(client, **options):
    response = client.post("/explain", content=PICTURE, headers=BINARY, params={"model": "plants", **options})
    return answered(response)["results"][0]


def test_a_task_says_what_is_predicted(client):
    sent = client.post("/predict", content=PICTURE, headers=BINARY, params={"model": "plants"})
    (said,) = answered(sent)["results"]
    assert said.keys() == {"maturity", "nearest"}
    assert 0 <= said["maturity"] <= 11
    assert said["nearest"] == STAGES[round(said["maturity"])]


def test_a_task_says_what_is_explained_and_how_it_is_told(client):
    result = explained(client)
    assert result.keys() == {"maturity", "nearest", "explanations"}
    (by_default,) = result["explanations"]
    stage = round(result["maturity"])
    assert by_default["target"] == {"stage": stage, "label": STAGES[stage], "chosen": "nearest"}
    (asked,) = explained(client, target=json.dumps({"stage": STAGES[stage]}))["explanations"]
    assert asked["target"] == {"stage": stage, "label": STAGES[stage], "chosen": "request"}
    assert asked["heatmap"] == by_default["heatmap"]


def test_a_task_is_in_the_documentation_and_in_the_schema_of_model_yaml(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert {"predictions", "maturity", "nearest"} <= schemas["PredictResult"]["properties"].keys()
    assert {"classification", "maturity"} <= set(
        client.get("/docs/model.schema.json").json()["properties"]["task"]["enum"]
    )
    assert client.get("/models/plants").json()["task"] == "maturity"


def test_other_models_are_what_they_were(client):
    sent = client.post("/explain", content=PICTURE, headers=BINARY)
    (result,) = answered(sent)["results"]
    assert result.keys() == {"predictions", "explanations"}
    best = result["predictions"][0]
    assert result["explanations"][0]["target"] == best | {"chosen": "top-1"}


def test_the_command_line_knows_a_task_too(plugged):
    listed = gradcam("models", **plugged).stdout
    assert [line.split()[:2] for line in listed.splitlines() if line.startswith("plants")] == [["plants@1", "unloaded"]]
