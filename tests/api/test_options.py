"""An option that is unknown, out of range or given twice is refused, and the refusal says what would work."""

import pytest

from .calls import ask, base64_of, problem

MISSPELT = [  # options, status, code, what was meant
    ({"colourmap": "turbo"}, 400, "bad_option", "colormap"),
    ({"colormap": "turboo"}, 400, "bad_option", "turbo"),
    ({"output": "overley"}, 400, "bad_option", "overlay"),
    ({"scale": "sharde"}, 400, "bad_option", "shared"),
    ({"method": "gradcm"}, 422, "unsupported_method", "gradcam"),
    ({"method": "GradCAM"}, 422, "unsupported_method", "gradcam"),
    ({"model": "scenses"}, 404, "unknown_model", "scenes"),
    ({"model": "resnet18@stabel"}, 404, "unknown_model", "stable"),
]
OUT_OF_RANGE = [  # path, option, value, a part of the detail
    ("/predict", "top_k", "many", "integer"),
    ("/predict", "top_k", "", "integer"),
    ("/predict", "timeout_ms", "0", "1"),
    ("/predict", "timeout_ms", "600001", "600000"),
    ("/explain", "alpha", "-0.1", "0"),
    ("/explain", "alpha", "1.1", "1"),
    ("/explain", "alpha", "nan", "1"),
    ("/explain", "threshold", "0", "0"),
    ("/explain", "threshold", "1.01", "1"),
    ("/explain", "threshold", "inf", "1"),
    ("/explain", "max_side", "15", "16"),
    ("/explain", "max_side", "4097", "4096"),
    ("/explain", "size", "huge", "'map'"),
    ("/explain", "format", "gif", "'webp'"),
    ("/explain", "colormap", "rainbow", "'viridis'"),
    ("/explain", "output", "video", "'overlay'"),
    ("/explain", "output", "heatmap,map", "'overlay'"),
    ("/explain", "boxes", "perhaps", "true or false"),
    ("/explain", "boxes", "1", "true or false"),
]
UNKNOWN = [  # path, options, status, code, a part of the detail
    ("/predict", {"model": "nope"}, 404, "unknown_model", "scenes"),
    ("/predict", {"model": "resnet18@7"}, 404, "unknown_model", "stable"),
    ("/predict", {"model": "resnet18@latest"}, 404, "unknown_model", "stable"),
    ("/predict", {"model": "@1"}, 404, "unknown_model", "scenes"),
    ("/predict", {"model": "../scenes"}, 404, "unknown_model", "scenes"),
    ("/explain", {"target": "unicorn"}, 422, "unknown_target", "star"),
    ("/explain", {"target": ""}, 422, "unknown_target", "star"),
    ("/explain", {"target": ["star", "unicorn"]}, 422, "unknown_target", "unicorn"),
    ("/explain", {"target": -1}, 422, "unknown_target", "0 to 11"),
    ("/explain", {"target": 12}, 422, "unknown_target", "0 to 11"),
    ("/explain", {"target": 1000, "model": "resnet18"}, 422, "unknown_target", "0 to 999"),
    ("/explain", {"target": 10**30}, 422, "unknown_target", "0 to 11"),
    ("/explain", {"target": "9" * 5000}, 422, "unknown_target", "0 to 11"),
    ("/explain", {"method": "guesswork"}, 422, "unsupported_method", "gradcam"),
    ("/explain", {"method": ""}, 422, "unsupported_method", "gradcam"),
    ("/explain", {"layer": "layer9"}, 422, "unknown_layer", "layer3"),
    ("/explain", {"layer": "fc"}, 422, "unknown_layer", "auto"),
    ("/explain", {"layer": ""}, 422, "unknown_layer", "auto"),
]
WRONG_IN_JSON = [  # option, value of a wrong type
    ("target", True),
    ("target", 1.5),
    ("target", [[1]]),
    ("target", [None]),
    ("target", {"index": 1}),
    ("output", []),
    ("output", 7),
    ("model", 3),
    ("alpha", "half"),
    ("max_side", 100.5),
    ("boxes", 1),
    ("top_k", True),
    ("alpha", True),
]


@pytest.mark.parametrize(("path", "option", "value", "part"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_a_400_that_names_option_and_range(client, png, path, option, value, part):
    detail = problem(ask(client, path, png, **{option: value}), 400, "bad_option")
    assert f"'{option}'" in detail
    assert part in detail


@pytest.mark.parametrize(("path", "options", "status", "code", "part"), UNKNOWN)
def test_what_a_model_does_not_have_is_refused_with_what_it_has(client, png, path, options, status, code, part):
    assert part in problem(ask(client, path, png, **options), status, code)
    as_json = client.post(path, json={"image": base64_of(png), **options})
    assert part in problem(as_json, status, code)


@pytest.mark.parametrize(("options", "status", "code", "meant"), MISSPELT)
def test_what_is_misspelt_is_refused_with_what_was_meant(client, png, options, status, code, meant):
    said = f"(did you mean {meant!r}?)"
    assert said in problem(ask(client, "/explain", png, **options), status, code)
    in_form = client.post("/explain", files={"image": png}, data=options)
    assert said in problem(in_form, status, code)
    in_json = client.post("/explain", json={"image": base64_of(png), **options})
    assert said in problem(in_json, status, code)


@pytest.mark.parametrize(("option", "value"), WRONG_IN_JSON)
def test_a_value_of_a_wrong_type_is_a_400_that_names_the_option(client, png, option, value):
    response = client.post("/explain", json={"image": base64_of(png), option: value})
    assert f"'{option}'" in problem(response, 400, "bad_option")


@pytest.mark.parametrize("number", ["9" * 5000, "1e400", "-" + "9" * 400])
def test_a_number_beyond_all_bounds_is_a_400(client, png, number):
    body = f'{{"image": "{base64_of(png)}", "top_k": {number}}}'
    response = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert response.json()["code"] in ("malformed", "bad_option")


@pytest.mark.parametrize(
    ("path", "option"), [("/predict", "topk"), ("/predict", "image"), ("/predict", "target"), ("/explain", "targets")]
)
def test_an_unknown_option_is_a_400_that_lists_the_known_ones(client, png, path, option):
    detail = problem(ask(client, path, png, **{option: "1"}), 400, "bad_option")
    assert f"'{option}'" in detail
    assert "model, top_k, timeout_ms" in detail
    as_field = client.post(path, files={"image": png}, data={"optional": "1"})
    assert "'optional'" in problem(as_field, 400, "bad_option")


def test_an_option_given_twice_is_refused_unless_it_may_be_repeated(client, png):
    detail = problem(ask(client, "/explain", png, top_k=["1", "2"]), 400, "bad_option")
    assert "'top_k'" in detail
    assert "target and output" in detail
    twice = client.post("/explain", files={"image": png}, data={"alpha": ["0.1", "0.1"]})
    assert "'alpha'" in problem(twice, 400, "bad_option")


@pytest.mark.parametrize("option", ["top_k", "target"])
def test_an_option_in_the_query_and_in_the_body_is_refused(client, png, option):
    in_json = client.post("/explain", json={"image": base64_of(png), option: 1}, params={option: 1})
    assert f"'{option}'" in problem(in_json, 400, "bad_option")
    in_form = client.post("/explain", files={"image": png}, data={option: "1"}, params={option: 1})
    assert f"'{option}'" in problem(in_form, 400, "bad_option")


def test_a_detail_stays_readable_however_long_what_was_sent_is(client, png):
    for options in ({"target": "x" * 5000}, {"model": "x" * 5000}, {"method": "x" * 5000}, {"layer": "x" * 5000}):
        assert len(ask(client, "/explain", png, **options).json()["detail"]) < 2000


def test_seventeen_targets_are_too_many(client, png):
    response = ask(client, "/explain", png, target=[1] * 17, output="map")
    assert "16" in problem(response, 422, "too_many_targets")
    assert len(ask(client, "/explain", png, target=[1] * 16, output="map").json()["results"][0]["explanations"]) == 16
