"""A task is one file: ``tests/plugins/maturity.py``."""

import json

import pytest
from web.conftest import Playground

from api.calls import BINARY, answered, encoded, photo
from browser import CHROMIUM, Visit, chromium
from command import gradcam
from gradcam_service.zoo.scenes import CLASSES, scene

from .conftest import STAGES

PICTURE = encoded(photo(200, 150), "PNG")


def explained(client, **options):
    response = client.post("/explain", content=PICTURE, headers=BINARY, params={"model": "plants", **options})
    return answered(response)["results"][0]


def test_a_task_says_what_is_predicted(client):
    sent = client.post("/predict", content=PICTURE, headers=BINARY, params={"model": "plants"})
    (said,) = answered(sent)["results"]
    assert said.keys() == {"maturity", "nearest", "stages"}
    assert 0 <= said["maturity"] <= 11
    assert said["nearest"] == STAGES[round(said["maturity"])]


def test_a_task_says_what_is_explained_and_how_it_is_told(client):
    result = explained(client)
    assert result.keys() == {"maturity", "nearest", "stages", "explanations"}
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


def test_torchserves_dialect_tells_all_of_it(client):
    sent = client.post("/predict", content=PICTURE, headers=BINARY, params={"model": "plants"})
    (said,) = answered(sent)["results"]
    assert answered(client.post("/predictions/plants", content=PICTURE, headers=BINARY)) == said


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_the_page_lists_its_stages_and_shows_each(client, service):
    explained(client)  # which loads the model
    picture = client.get("/web/examples/coffee.jpg").content
    asked = {"content": picture, "headers": {"Content-Type": "image/jpeg"}, "params": {"model": "plants"}}
    (said,) = answered(client.post("/predict", **asked))["results"]
    stages = [stage["label"] for stage in said["stages"]]
    with chromium() as browser:
        visit = Visit(browser.new_page(reduced_motion="reduce"))
        playground = Playground(visit, service).open("#model=plants@1&picture=coffee")
        page = playground.page
        assert page.locator("#classes-title").inner_text() == "How far it is"
        assert page.locator("#classes .text span").all_inner_texts() == stages
        assert "12 stages" in page.locator("#model-note").inner_text()
        playground.shows(stages[0])
        playground.class_button(stages[1]).click()
        playground.shows(stages[1])
        stage = STAGES.index(stages[1])
        assert f'target={{"stage":{stage}}}' in page.locator("#curl").inner_text()
        page.get_by_label("Another stage").fill(STAGES[0])
        page.get_by_label("Another stage").press("Enter")
        playground.shows(STAGES[0])
        page.get_by_role("combobox", name="Rather than").select_option(str(stage))
        playground.shows(f"{STAGES[0]} rather than {stages[1]}")
        assert visit.complaints == []


def test_its_models_are_evaluated(plugged, tmp_path):
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    report = tmp_path / "report"
    asked = ("--model", "plants", "--classes", tmp_path / "classes.txt", "--protocols", "pointing", "--limit", 2)
    done = gradcam("evaluate", "scenes", *asked, "-o", report, cpus=1, **plugged)
    assert done.returncode == 0, done.stderr
    figures = json.loads((report / "results.json").read_text())["protocols"]["pointing"]["methods"]["gradcam"]
    assert figures["hit"]["values"] == sum(len(scene(seed).objects) for seed in range(2))


def test_other_models_are_what_they_were(client):
    sent = client.post("/explain", content=PICTURE, headers=BINARY)
    (result,) = answered(sent)["results"]
    assert result.keys() == {"predictions", "explanations"}
    best = result["predictions"][0]
    assert result["explanations"][0]["target"] == best | {"chosen": "top-1"}


def test_the_command_line_knows_a_task_too(plugged):
    listed = gradcam("models", **plugged).stdout
    assert [line.split()[:2] for line in listed.splitlines() if line.startswith("plants")] == [["plants@1", "unloaded"]]
