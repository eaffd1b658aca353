"""``/openapi.json`` is sound, and what it documents is what happens."""

import re

import pytest

from .calls import ADMIN, answered, ask, base64_of, full_queue, problem
from .schema import ANNOTATIONS, CHECKED, resolve, violations

METHODS = {"get", "post", "put", "delete", "patch", "head", "options"}
INFERENCE = ("/predict", "/explain")
INSTANCES = ("/v1/models/{name}:predict", "/v1/models/{name}:explain")
V2 = "/v2/models/{name}"
DIALECTS = (
    *("/v1/models", "/v1/models/{name}", "/ping", *INSTANCES),
    *("/predictions/{name}", "/explanations/{name}"),
    *("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models", "/v2/models/stats"),
    *(V2, f"{V2}/ready", f"{V2}/config", f"{V2}/stats", f"{V2}/infer"),
    *("/v2/repository/index", "/v2/repository/models/{name}/{action}"),
)


@pytest.fixture(scope="module")
def document(client):
    return client.get("/openapi.json").json()


def operations(document):
    """(path, method, operation) of each operation."""
    return [
        (path, method, item[method]) for path, item in document["paths"].items() for method in METHODS & item.keys()
    ]


def nodes(value):
    """Every object within the document."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(child)


def wrong(response, document, path, method="post"):
    """What of a response is not as documented for its status and content type."""
    documented = document["paths"][path][method]["responses"]
    assert str(response.status_code) in documented, f"{path} doesn't document {response.status_code}"
    content = documented[str(response.status_code)]["content"]
    media_type = response.headers["content-type"].partition(";")[0]
    assert media_type in content, f"{path} doesn't document {media_type} for {response.status_code}"
    return violations(response.json(), content[media_type]["schema"], document)


def test_the_document_has_the_form_that_openapi_prescribes(document):
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"] == "gradcam-service"
    assert document["info"]["version"]
    identifiers = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(identifiers)) == len(identifiers)
    for path, method, operation in operations(document):
        assert path.startswith("/")
        parameters = operation.get("parameters", [])
        assert all(parameter["in"] in ("path", "query", "header") and "schema" in parameter for parameter in parameters)
        assert len({(p["name"], p["in"]) for p in parameters}) == len(parameters)
        in_path = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        assert all(parameter["required"] for parameter in parameters if parameter["in"] == "path")
        assert operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5](\d\d|XX)", status), (path, method)
            assert response["description"]


def test_every_reference_leads_somewhere(document):
    references = [node["$ref"] for node in nodes(document) if isinstance(node.get("$ref"), str)]
    assert references
    for reference in references:
        assert reference.startswith("#/")
        assert resolve(reference, document)


def test_every_schema_is_one_that_the_tests_can_check(document):
    found = [node["schema"] for node in nodes(document) if "schema" in node]
    found += list(document["components"]["schemas"].values())
    seen = 0
    while found:
        schema = found.pop()
        assert schema.keys() <= ANNOTATIONS | CHECKED, schema
        seen += 1
        found += [child for name in ("anyOf", "oneOf", "prefixItems") for child in schema.get(name, [])]
        found += schema.get("properties", {}).values()
        found += [schema[name] for name in ("items", "additionalProperties") if isinstance(schema.get(name), dict)]
    assert seen > 100


def test_the_paths_are_those_of_the_contract(document):
    assert document["paths"].keys() == {
        *("/predict", "/explain", "/models", "/models/{name}", "/models/{name}/{action}", "/models/reload"),
        *("/livez", "/readyz", "/healthz", "/metrics"),
        *DIALECTS,
    }


@pytest.mark.parametrize("path", INFERENCE)
def test_every_json_example_sent_as_it_is_answers_200_as_documented(client, document, path):
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) >= 2
    for example in body["examples"].values():
        assert violations(example["value"], body["schema"], document) == []
        response = client.post(path, json=example["value"])
        assert answered(response)
        assert wrong(response, document, path) == []
        asked = example["value"].get("images", [example["value"].get("image")])
        assert len(response.json()["results"]) == len(asked)


@pytest.mark.parametrize("path", INSTANCES)
def test_every_example_of_instances_sent_as_it_is_answers_200_as_documented(client, document, path):
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) >= 2
    for example in body["examples"].values():
        assert violations(example["value"], body["schema"], document) == []
        response = client.post(path.replace("{name}", "imagenet"), json=example["value"])
        assert wrong(response, document, path) == []
        assert len(answered(response)["predictions"]) == len(example["value"]["instances"])
    refused = client.post(path.replace("{name}", "nope"), json=example["value"])
    assert (refused.status_code, wrong(refused, document, path)) == (404, [])


@pytest.mark.parametrize("path", INFERENCE)
def test_every_documented_form_that_takes_a_file_takes_the_example_picture(client, document, scene, path):
    forms = set(document["paths"][path]["post"]["requestBody"]["content"]) - {"application/json"}
    assert {"multipart/form-data", "image/jpeg", "application/octet-stream"} <= forms
    for form in forms:
        if form == "multipart/form-data":
            response = client.post(path, files={"image": ("scene.jpg", scene, "image/jpeg")})
        else:
            response = client.post(path, content=scene, headers={"Content-Type": form})
        assert wrong(response, document, path) == []
        assert answered(response)["results"][0]["predictions"][0]["label"] in ("star", "flower")


def test_the_fullest_answer_is_as_documented(client, document, scene):
    options = {"target": ["star", 5], "output": ["heatmap", "overlay", "map"], "boxes": True, "top_k": 12}
    response = client.post("/explain", json={"images": [base64_of(scene), base64_of(b"no picture")], **options})
    assert "error" in answered(response)["results"][1]
    assert wrong(response, document, "/explain") == []


@pytest.mark.parametrize(("path", "options"), [("/predict", 6), ("/explain", 36)])
def test_every_option_is_documented_alike_in_all_three_forms(document, path, options):
    operation = document["paths"][path]["post"]
    content = operation["requestBody"]["content"]
    in_query = {parameter["name"]: parameter["schema"] for parameter in operation["parameters"]}
    of_one, of_several, of_frames = (dict(of["properties"]) for of in content["application/json"]["schema"]["oneOf"])
    in_form = dict(content["multipart/form-data"]["schema"]["properties"])
    assert of_one.pop("image")
    assert of_several.pop("images")
    assert of_frames.pop("frames")
    assert in_form.pop("image")
    assert in_form.pop("frames")
    assert in_query == of_one == of_several == of_frames == in_form
    assert len(in_query) == options
    assert all(schema["description"] for schema in in_query.values())


@pytest.mark.parametrize("path", INFERENCE)
@pytest.mark.parametrize("accept", ["image/png", "image/jpeg", "image/webp"])
def test_the_pictures_that_accept_can_ask_for_are_documented(client, document, scene, path, accept):
    response = client.post(path, content=scene, headers={"Content-Type": "image/jpeg", "Accept": accept})
    assert response.headers["content-type"] in document["paths"][path]["post"]["responses"]["200"]["content"]


OPERATORS = ("/models", "/livez", "/readyz", "/healthz", "/v1/models", "/ping")


@pytest.mark.parametrize("path", [*OPERATORS, "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models"])
def test_what_operators_read_is_as_documented(client, document, path):
    response = client.get(path)
    assert response.status_code == 200
    assert wrong(response, document, path, "get") == []


@pytest.mark.parametrize("name", ["scenes", "resnet18", "resnet50", "nope"])
def test_what_is_told_of_a_model_is_as_documented(client, document, name):
    assert wrong(client.get(f"/models/{name}"), document, "/models/{name}", "get") == []


@pytest.mark.parametrize(
    ("name", "action", "headers", "status"),
    [
        ("scenes", "load", ADMIN, 200),
        ("scenes", "load", {}, 401),
        ("nope", "load", ADMIN, 404),
        ("resnet50", "load", ADMIN, 503),
        ("scenes", "explode", ADMIN, 404),
    ],
)
def test_what_a_management_call_answers_is_as_documented(client, document, name, action, headers, status):
    response = client.post(f"/models/{name}/{action}", headers=headers)
    assert response.status_code == status
    assert wrong(response, document, "/models/{name}/{action}") == []


def test_the_problems_of_an_inference_are_as_documented(client, limited, document, scene):
    with full_queue(limited.client, 3):
        crowded = limited.client.post("/explain", files={"image": scene})
    no_picture = ask(client, "/explain", b"no picture")
    responses = [
        (400, ask(client, "/explain", scene, alpha=2)),
        (404, ask(client, "/explain", scene, model="nope")),
        (413, client.post("/explain", files=[("image", scene)] * 33)),
        (422, ask(client, "/explain", scene, target=[1] * 17)),
        (415, client.post("/explain", content=scene, headers={"Content-Type": "text/plain"})),
        (422, no_picture),
        (429, crowded),
        (503, ask(client, "/explain", scene, model="resnet50")),
    ]
    for status, response in responses:
        assert response.status_code == status
        assert wrong(response, document, "/explain") == []
    assert problem(no_picture, 422, "undecodable_image")


def test_no_problem_is_documented_in_a_form_that_is_never_sent(document):
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400":
                form = "application/json" if path in DIALECTS else "application/problem+json"
                assert response["content"].keys() == {form}, (path, method, status)
