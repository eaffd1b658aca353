"""What all dialects have in common: their own words for errors, also of what never reaches them, and the front door."""

import pytest

from repository import EMBEDDED_MODELS

from .calls import ADMIN
from .raw import request, responses

FORMS = {
    "/v1": {"error"},
    "/v2": {"error"},
    "/predictions": {"code", "type", "message"},
    "/explanations": {"code", "type", "message"},
}
"""Members of an error under each prefix."""
UNDER = [(prefix, f"{prefix}{path}") for prefix in FORMS for path in ("/a/b/c/d", "/%ff/b/c")]
UNDER += [(prefix, f"{prefix}{path}") for prefix in FORMS if prefix != "/v2" for path in ("", "/")]


def refused(response, prefix, status):
    """The text of an error that must be in the words of that dialect."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    body = response.json()
    assert body.keys() == FORMS[prefix]
    if "code" in body:
        assert body["code"] == status
    return body.get("error") or body["message"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(("prefix", "path"), UNDER)
def test_a_path_that_is_not_there_is_refused_in_the_words_of_its_dialect(client, prefix, path, method):
    response = client.request(method, path, follow_redirects=True)
    assert refused(response, prefix, 404).startswith("no_such_path: ")


def test_another_method_is_refused_in_the_words_of_its_dialect(client):
    response = client.delete("/v1/models")
    assert refused(response, "/v1", 405).startswith("method_not_allowed: ")
    assert response.headers["allow"] == "GET"


def test_what_is_no_request_is_refused_in_the_words_of_the_dialect_that_was_meant(client):
    broken = b"GET /v1/models HTTP/1.1\r\nHost: here\r\nContent-Length: nonsense\r\n\r\n"
    ((status, headers, body),) = responses(client, broken)
    assert (status, headers["content-type"], body.keys()) == (400, "application/json", FORMS["/v1"])
    ((status, headers, body),) = responses(client, b"nonsense\r\n\r\n")
    assert (status, headers["content-type"]) == (400, "application/problem+json")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/*", "text/html;q=0", ""])
def test_the_front_door_shows_programs_that_the_service_is_alive(client, accept):
    response = client.get("/", headers={"Accept": accept, "Accept-Encoding": "gzip, deflate, br"})
    assert (response.status_code, response.json()) == (200, {"status": "alive"})
    assert response.headers["content-type"] == "application/json"
    assert "content-encoding" not in response.headers
    assert "Accept" in response.headers["vary"].split(", ")


def test_the_front_door_needs_no_accept_header_at_all_and_answers_head(client):
    ((status, headers, body),) = responses(client, request(b"", line="GET / HTTP/1.1"))
    assert (status, headers["content-type"], body) == (200, "application/json", {"status": "alive"})
    assert client.head("/").headers["content-type"] == "application/json"


@pytest.mark.parametrize("accept", ["text/html", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"])
def test_the_front_door_shows_people_a_page(client, accept):
    assert client.get("/", headers={"Accept": accept}).headers["content-type"] == "text/html; charset=utf-8"


def test_probes_are_never_compressed(client):
    for path in ("/v1/models", "/v1/models/scenes", "/ping", "/v1/models/nope"):
        assert "content-encoding" not in client.get(path, headers={"Accept-Encoding": "gzip, deflate, br"}).headers


@pytest.mark.parametrize("path", ["/v1/models/scenes", "/v1/models/scenes/versions/1", "/v1/models/scenes@1"])
def test_a_model_that_answers_is_ready_as_kserve_and_tensorflow_serving_tell_it(client, path):
    body = client.get(path).json()
    assert body["name"] == path.split("/")[3]
    assert body["ready"] is True
    ((version, state),) = [(one["version"], one["state"]) for one in body["model_version_status"]]
    assert (version, state) == ("1", "AVAILABLE")


def test_an_alias_is_a_label(client):
    assert client.get("/v1/models/resnet18/labels/stable").json()["model_version_status"][0]["version"] == "1"


def test_a_model_that_is_loaded_when_it_is_asked_for_is_ready_until_that_fails(client):
    client.post("/models/resnet50/unload", headers=ADMIN)
    assert client.get("/v1/models/resnet50").json()["ready"] is True
    client.post("/models/resnet50/load", headers=ADMIN)
    assert refused(client.get("/v1/models/resnet50"), "/v1", 503).startswith("not_ready: ")


def test_a_model_that_is_not_there_tells_no_stranger_which_are(client):
    text = refused(client.get("/v1/models/scened"), "/v1", 404)
    assert text == "unknown_model: Model with name scened does not exist."


def test_the_models_are_listed_by_name(client):
    assert client.get("/v1/models").json() == {
        "models": sorted({"alexnet", "resnet18", "resnet50", "small", *EMBEDDED_MODELS})
    }


def test_a_ping_is_answered(client):
    assert client.get("/ping").json() == {"status": "Healthy"}
