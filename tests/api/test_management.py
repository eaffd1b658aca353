"""Loading, unloading and reloading models: for the operator alone, and without a failed request."""

import pytest

from live import ADMIN_TOKEN, fresh, repeated

from .calls import ADMIN, ask, predict, problem


def manage(client, action, name="small", headers=ADMIN):
    return client.post(f"/models/{name}/{action}", headers=headers)


@pytest.mark.parametrize("action", ["load", "unload", "reload"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {ADMIN_TOKEN}s"},
        {"Authorization": f"Basic {ADMIN_TOKEN}"},
        {"Authorization": ADMIN_TOKEN},
        {"Authorization": b"Bearer \xff"},
    ],
    ids=["none", "empty", "wrong", "longer", "another scheme", "no scheme", "not ASCII"],
)
def test_a_management_call_without_the_admin_token_is_a_401_and_does_nothing(client, action, headers):
    response = manage(client, action, headers=headers)
    assert "admin token" in problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    assert client.get("/models/small").json()["state"] == "ready"


def test_an_unloaded_model_is_loaded_again_when_it_is_asked_for(client, png):
    before = predict(client, png, model="small")
    detail = client.get("/models/small").json()
    unloaded = manage(client, "unload")
    assert unloaded.status_code == 200
    assert unloaded.json() == {"name": "small", "version": "1", "aliases": [], "state": "unloaded"}
    assert client.get("/models/small").json()["state"] == "unloaded"
    assert client.get("/healthz").json()["models"]["small@1"] == "unloaded"
    assert predict(client, png, model="small") == before
    assert client.get("/models/small").json() == detail


def test_a_model_is_loaded_before_it_is_asked_for(client):
    detail = client.get("/models/small").json()
    manage(client, "unload")
    assert manage(client, "load").json() == detail
    assert manage(client, "load").json() == detail  # and loading what is loaded changes nothing


def test_a_reload_reads_the_repository_again(client, repository, png):
    folder = repository / "small" / "1"
    original = (folder / "model.yaml").read_text()
    before = client.get("/models/small").json()
    try:
        (folder / "model.yaml").write_text(original.replace("random:0", "random:1"))
        after = manage(client, "reload").json()
        assert (after["state"], after["weights"]) == ("ready", "random:1")
        assert after["digest"] != before["digest"]
        body = ask(client, "/predict", png, model="small").json()
        assert (body["model"]["weights"], body["model"]["digest"]) == ("random:1", after["digest"])
    finally:
        (folder / "model.yaml").write_text(original)
        assert manage(client, "reload").json() == before


def test_content_that_can_not_be_loaded_says_why_and_replaces_nothing(client, repository, png):
    path = repository / "small" / "1" / "model.yaml"
    original = path.read_text()
    before = client.get("/models/small").json()
    try:
        path.write_text(original + "layr: auto\n")
        assert "layr" in problem(manage(client, "reload"), 503, "model_failed")
        after = client.get("/models/small").json()
        assert "layr" in after.pop("reason")
        assert after == before
        assert ask(client, "/predict", png, model="small").json()["model"]["digest"] == before["digest"]
    finally:
        path.write_text(original)
        assert manage(client, "reload").json() == before


def test_an_unknown_model_or_action_is_a_404(client):
    assert problem(manage(client, "load", "nope"), 404, "unknown_model")
    assert problem(manage(client, "load", "small@7"), 404, "unknown_model")
    assert problem(manage(client, "explode"), 404, "no_such_path")


def test_no_request_fails_while_its_model_is_reloaded_or_unloaded(client, scene):
    answers = []

    def look(_):
        with fresh(client.base_url) as other:  # any of the API processes
            answers.extend(ask(other, "/predict", scene) for _ in range(3))

    with repeated(look, 6):
        for action in ("reload", "unload", "reload", "unload", "reload"):
            response = manage(client, action, "scenes")
            assert response.status_code == 200, response.text[:500]
    assert len(answers) >= 6
    assert {(response.status_code, response.json().get("detail")) for response in answers} == {(200, None)}
