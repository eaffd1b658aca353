"""Captions over HTTP: JSON, form fields, queries, several pictures, dialects."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gradcam_service.core.options import PredictOptions


def answered(response):
    assert response.status_code == 200, response.text
    return response.json()["results"]


def fields(client, path, picture, **options):
    return answered(client.post(path, files={"image": picture}, data={"model": "attends", **options}))[0]


def maps(result):
    return [np.frombuffer(base64.b64decode(told["map"]["data"]), "<f4") for told in result["explanations"]]


def test_a_picture_is_captioned_and_every_word_explained(client, pictures):
    said = fields(client, "/predict", pictures[0])["caption"]
    assert said["text"].split() == [word["word"] for word in said["words"]]
    assert said["log_probability"] == pytest.approx(sum(word["log_probability"] for word in said["words"]))
    result = fields(client, "/explain", pictures[0], output="map")
    assert result["caption"] == said
    told = [one["target"] for one in result["explanations"]]
    assert told == [{**word, "chosen": "caption"} for word in said["words"]]


def test_every_form_of_body_says_the_same(client, pictures):
    target, options = {"word": "star"}, {"caption": "a red star", "output": "map", "model": "attends"}
    form = fields(client, "/explain", pictures[0], target=json.dumps(target), **options)
    query = client.post(
        "/explain",
        content=pictures[0],
        params={**options, "target": json.dumps(target)},
        headers={"Content-Type": "image/png"},
    )
    body = {"image": base64.b64encode(pictures[0]).decode(), "target": target, **options}
    for other in (answered(query)[0], answered(client.post("/explain", json=body))[0]):
        assert other["explanations"] == form["explanations"]


@pytest.mark.parametrize("beam", [1, 3, 8])
def test_a_beam_is_as_wide_as_in_this_process(client, opened, pictures, beam):
    expected = opened("attends").predict(pictures[0], PredictOptions(beam=beam)).prediction.caption
    for path in ("/predict", "/explain"):
        said = fields(client, path, pictures[0], beam=str(beam))["caption"]
        assert said["text"] == expected.text
        assert said["log_probability"] == pytest.approx(expected.log_probability, abs=1e-4)


def test_pictures_of_one_batch_are_answered_as_if_alone(client, pictures):
    asked = [{"caption": "a red star"}, {"beam": "4"}, {}, {"target": '{"word": 0}'}, {"beam": "2"}] * 2
    alone = [fields(client, "/explain", picture, output="map", **one) for picture, one in zip(pictures, asked)]  # noqa: B905
    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(
            pool.map(
                lambda pair: fields(client, "/explain", pair[0], output="map", **pair[1]),
                zip(pictures, asked),  # noqa: B905
            )
        )
    for one, other in zip(alone, together, strict=True):
        assert one["caption"]["text"] == other["caption"]["text"]
        for expected, found in zip(maps(one), maps(other), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * max(expected.max(), 1e-6))


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ({"caption": "a green star"}, "bad_option", "'green'"),
        ({"caption": "a red star", "model": "scenes"}, "bad_option", "pictures alone"),
        ({"target": '{"word": "dragon"}'}, "unknown_target", "the word 'dragon'; it knows a, red, blue, "),
        ({"caption": "a fish", "target": '{"word": 5}'}, "unknown_target", "'a fish'"),
    ],
)
def test_what_is_wrong_is_a_problem_that_says_so(client, pictures, options, code, said):
    response = client.post("/explain", files={"image": pictures[0]}, data={"model": "attends", **options})
    problem = response.json()
    assert (response.is_client_error, problem["code"]) == (True, code), problem
    assert said in problem["detail"]


def test_protocols_give_captions(client, pictures):
    picture = base64.b64encode(pictures[0]).decode()
    said = fields(client, "/predict", pictures[0])["caption"]
    (given,) = client.post("/v1/models/attends:predict", json={"instances": [{"b64": picture}]}).json()["predictions"]
    assert given["caption"] == said
    assert client.post("/predictions/attends", content=pictures[0]).json()["caption"] == said


def test_tensors_hold_a_caption_and_a_map_of_each_word(client, pictures):
    result = fields(client, "/explain", pictures[0], output="map")
    count = len(result["explanations"])

    def asked(face, *outputs, **parameters):
        image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(pictures[0]).decode()]}
        wanted = {"outputs": [{"name": name} for name in outputs]} if outputs else {}
        return client.post(f"/v2/models/{face}/infer", json={"inputs": [image], "parameters": parameters, **wanted})

    def given(response):
        assert response.status_code == 200, response.text
        return {output["name"]: output for output in response.json()["outputs"]}

    (said,) = given(asked("attends")).values()
    assert (said["name"], said["datatype"], said["shape"]) == ("prediction", "BYTES", [1, 1])
    assert json.loads(said["data"][0]) == {"caption": result["caption"]}
    explained = given(asked("attends-explain"))
    promised = {one["name"]: one["shape"] for one in client.get("/v2/models/attends-explain").json()["outputs"]}
    assert explained.keys() == promised.keys() == {"overlay", "heatmap", "map", "target", "prediction"}
    for name, output in explained.items():
        shape = output["shape"]
        assert [size if fixed > 0 else -1 for size, fixed in zip(shape, promised[name], strict=True)] == promised[name]
        assert shape[1] == (1 if name == "prediction" else count)
    found = np.reshape(explained["map"]["data"], (count, -1))
    np.testing.assert_allclose(found, maps(result), rtol=0, atol=1e-6 * np.max(maps(result)))
    one = given(asked("attends-explain", "map", "target", target='{"word": 1}'))
    assert (one["map"]["shape"][0], one["target"]["data"]) == (1, explained["target"]["data"][1:2])
    refused = asked("attends", "scores")
    assert refused.status_code == 501
    assert "a model of task captioning has no scores of classes; output 'prediction'" in refused.json()["error"]


@pytest.mark.parametrize("path", ["/explain", "/explanations/attends"])
def test_a_picture_is_the_answer_of_one_word_and_not_of_a_caption(client, pictures, path):
    headers = {"Accept": "image/png", "Content-Type": "image/png"}
    asked = {"model": "attends"}
    one = client.post(path, params=asked | {"target": '{"word": 0}'}, content=pictures[0], headers=headers)
    assert (one.status_code, one.headers["content-type"]) == (200, "image/png")
    all_of_them = client.post(path, params=asked, content=pictures[0], headers=headers)
    assert (all_of_them.status_code, all_of_them.json()["code"]) in ((400, "bad_option"), (400, 400))
    assert 'target={"word": 0} would work' in all_of_them.text.replace("\\", "")


def test_openapi_knows_captions(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert {"Caption", "Word", "ExplainedWord"} <= schemas.keys()
    assert "caption" in schemas["PredictResult"]["properties"]
