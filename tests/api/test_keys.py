"""API keys: who has one is served and named, who has none is told so, and the key itself is never seen again."""

import hashlib
import os
import socket
import subprocess

import pytest

from command import gradcam
from exposed import value
from gradcam_service.api.keys import Keys
from gradcam_service.errors import BadSettings
from gradcam_service.serving import check_access
from gradcam_service.settings import Settings
from live import GRADCAM, PATIENCE, running_lightly, until

from .calls import BINARY, answered, problem

KEY, OLD_KEY, OTHER_KEY = "s3cret-of-anna", "older-s3cret-of-anna", "s3cret-of-böb"
MANAGING = ("/models/reload", "/models/{name}/{action}", "/v2/repository/models/{name}/{action}")
TOKEN = "schlüssel-der-leitung"
GUARDED = [("POST", "/predict"), ("POST", "/explain"), ("GET", "/models"), ("GET", "/models/scenes")]
ALSO_GUARDED = [("PUT", "/predict"), ("POST", "/predict/")]
IN_DIALECTS = [("GET", path) for path in ("/v1/models", "/v2/models", "/v2/models/stats", "/v2/models/scenes")]
IN_DIALECTS += [("GET", "/v2/models/scenes/config"), ("GET", "/v2/models/scenes/stats")]
IN_DIALECTS += [("POST", "/v2/models/scenes/infer"), ("POST", "/v2/repository/index")]
IN_DIALECTS += [("POST", f"/v1/models/scenes:{verb}") for verb in ("predict", "explain")]
IN_DIALECTS += [("POST", "/predictions/scenes"), ("POST", "/explanations/scenes")]
OPEN = ["/livez", "/readyz", "/healthz", "/metrics", "/docs", "/docs/cat.jpg", "/docs/scene.jpg", "/openapi.json", "/"]
OPEN += ["/v1/models/scenes", "/v1/models/scenes/versions/1", "/ping"]
OPEN += ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/scenes/ready", "/v2/models/scenes/versions/1/ready"]


def line(name, key):
    return f"{name} {hashlib.sha256(key.encode()).hexdigest()}\n"


def bearer(key):
    return {"Authorization": b"Bearer " + key.encode()}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"# who may call\n\n{line('anna', KEY)}{line('anna', OLD_KEY)}  {line('bob', OTHER_KEY)}")
    return path


@pytest.fixture(scope="module")
def guarded(file):
    with running_lightly(
        api_keys=file, admin_token=TOKEN, log_level="debug", host="0.0.0.0", cors_origins="*"
    ) as started:
        yield started


@pytest.fixture(scope="module")
def asked(guarded):
    return guarded.client


@pytest.mark.parametrize(("method", "path"), [*GUARDED, *ALSO_GUARDED])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        bearer(KEY + "x"),
        bearer(KEY[:-1]),
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"Authorization": b"Bearer \xff"},
        bearer(hashlib.sha256(KEY.encode()).hexdigest()),
        bearer(TOKEN),
    ],
    ids=["none", "wrong", "longer", "shorter", "empty", "Basic", "no scheme", "not ASCII", "its digest", "admin token"],
)
def test_without_a_right_key_nothing_is_told(asked, method, path, headers):
    response = asked.request(method, path, headers=headers)
    assert "API key" in problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), IN_DIALECTS)
def test_a_dialect_tells_nothing_without_a_key_either(asked, method, path):
    for headers in ({}, bearer("wrong")):
        response = asked.request(method, path, headers=headers)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert "API key" in response.text
    assert asked.request(method, path, headers=bearer(KEY)).status_code != 401


def test_a_key_where_other_services_have_it_is_told_where_it_belongs(asked):
    response = asked.get("/models", headers={"X-API-Key": KEY})
    detail = problem(response, 401, "unauthorized")
    assert "X-API-Key isn't read: Authorization: Bearer" in detail
    assert KEY not in detail


@pytest.mark.parametrize("key", [KEY, OLD_KEY, OTHER_KEY])
def test_every_key_of_the_file_is_served(asked, scene, key):
    assert asked.get("/models", headers=bearer(key)).json()["default"] == "scenes"
    assert asked.get("/models/scenes", headers=bearer(key)).json()["state"] == "ready"
    for path in ("/predict", "/explain"):
        assert answered(asked.post(path, content=scene, headers=BINARY | bearer(key)))


@pytest.mark.parametrize("path", OPEN)
def test_health_metrics_and_pages_need_no_key(asked, path):
    assert asked.get(path).status_code < 400


def test_management_takes_the_admin_token_and_no_key(asked):
    assert asked.post("/models/scenes/load", headers=bearer(TOKEN)).json()["state"] == "ready"
    for wrong in (KEY, TOKEN[:-1], TOKEN + "!", TOKEN.encode().decode("latin-1")):
        assert "admin token" in problem(asked.post("/models/scenes/load", headers=bearer(wrong)), 401, "unauthorized")


@pytest.mark.parametrize("token", [" ", "fifteen letters"])
def test_a_token_that_could_be_guessed_is_refused_before_anything_starts(token):
    said = refused(admin_token=token)
    assert "GRADCAM_ADMIN_TOKEN: " in said
    assert "16 characters" in said
    assert token == " " or token not in said


def test_the_document_declares_the_scheme_where_keys_are_needed_and_nowhere_else(asked, client):
    document = asked.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert {(scheme["type"], scheme["scheme"]) for scheme in schemes.values()} == {("http", "bearer")}
    secured = {
        (method.upper(), path, name)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        for required in operation.get("security", [])
        for name in required
    }
    managing = {("POST", path, "admin token") for path in MANAGING}
    guarded = {(method, path.replace("scenes", "{name}"), "API key") for method, path in [*GUARDED, *IN_DIALECTS]}
    assert secured == guarded | managing
    for method, path, _ in secured:
        assert "401" in document["paths"][path][method.lower()]["responses"]
    assert client.get("/openapi.json").json()["components"]["securitySchemes"].keys() == {"admin token"}


def test_the_callers_name_is_logged_and_counted_and_no_key_is(guarded, asked, scene):
    def counted():
        return {name: value(asked, "gradcam_caller_requests_total", caller=name) > 0 for name in names}

    names = ("anna", "bob", "wrong")
    for key, name in ((KEY, "anna"), (OTHER_KEY, "bob"), ("wr0ng-key", "")):
        headers = BINARY | bearer(key) | {"X-Request-ID": f"of-{name}"}
        assert asked.post("/predict", content=scene, headers=headers).status_code == (200 if name else 401)
    until(counted, {"anna": True, "bob": True, "wrong": False})

    def callers():
        records = [record for record in guarded.records() if record.get("path") == "/predict"]
        return {record["request_id"]: record["caller"] for record in records}

    wanted = {"of-anna": "anna", "of-bob": "bob", "of-": ""}
    until(lambda: {request: callers().get(request) for request in wanted}, wanted)
    seen = "".join(guarded.output) + asked.get("/metrics").text
    assert not [key for key in (KEY, OLD_KEY, "s3cret", "wr0ng-key") if key in seen]


def test_a_changed_file_is_followed_and_a_broken_one_is_not(guarded, asked, file):
    def status(key):
        return asked.get("/models", headers=bearer(key)).status_code

    def errors():
        return [str(record) for record in guarded.records() if record["level"] == "error"]

    def reread():
        records = [record for record in guarded.records() if record["message"] == "API keys have been read again"]
        return [(record["keys"], record["callers"]) for record in records]

    original = file.read_text()
    try:
        file.write_text(original + line("carol", "new"))
        assert (status("new"), status(KEY)) == (200, 200)
        fresh = file.with_suffix(".new")
        fresh.write_text(line("carol", "new"))
        fresh.replace(file)
        assert (status("new"), status(KEY)) == (200, 401)
        assert errors() == []
        until(lambda: reread()[-1:], [(1, 1)])
        assert reread()[-2][0] > 1
        assert value(asked, "gradcam_api_keys_unusable") == 0
        file.write_text("carol her-key-as-it-is\n")
        for _ in range(3):
            assert (status("new"), status("her-key-as-it-is")) == (200, 401)
        until(lambda: len(errors()), 1)
        assert value(asked, "gradcam_api_keys_unusable") == 1
        assert "line 1" in errors()[0]
        assert "her-key-as-it-is" not in errors()[0]
        file.unlink()
        for _ in range(3):
            assert status("new") == 200
        until(lambda: len(errors()), 2)
    finally:
        file.write_text(original)
    assert (status("new"), status(KEY)) == (401, 200)
    assert value(asked, "gradcam_api_keys_unusable") == 0


def test_a_revoked_key_is_refused_also_where_another_line_is_wrong(tmp_path):
    path = tmp_path / "keys"
    path.write_text(line("anna", KEY) + line("bob", OTHER_KEY))
    keys = Keys(path)
    path.write_text(f"{line('anna', KEY)}carol 12ab\n")
    assert (keys.caller(KEY.encode()), keys.caller(OTHER_KEY.encode())) == ("anna", None)
    path.write_text("")  # as while it is written
    assert (keys.caller(KEY.encode()), keys.caller(OTHER_KEY.encode())) == ("anna", None)


def test_how_many_keys_there_are_is_logged_at_the_start(tmp_path, caplog):
    path = tmp_path / "keys"
    path.write_text(line("anna", KEY) + line("anna", OLD_KEY) + line("bob", OTHER_KEY))
    with caplog.at_level("INFO"):
        Keys(path)
    (record,) = caplog.records
    assert (record.getMessage(), record.fields) == ("API keys have been read", {"keys": 3, "callers": 2})


def test_who_sends_a_wrong_key_is_told_otherwise_than_who_sends_none(asked):
    said = [problem(asked.get("/models", headers=headers), 401, "unauthorized") for headers in ({}, bearer("wrong"))]
    assert "needs Authorization: Bearer" in said[0]
    assert "what follows Bearer is not an API key" in said[1]


def refused(**settings):
    """What the service says on standard error where it must not start."""
    given = {"port": 0, "host": "127.0.0.1"} | settings
    environment = os.environ | {f"GRADCAM_{name.upper()}": str(value) for name, value in given.items()}
    done = subprocess.run(
        [GRADCAM, "serve"], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("gradcam: ")
    return done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_keys_it_does_not_listen_to_everyone_by_oversight(host):
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        pytest.skip(f"nobody can listen to {host} here: {error}")
    said = refused(host=host)
    assert f"reaches {host} " in said
    assert "GRADCAM_API_KEYS" in said
    assert "GRADCAM_ALLOW_ANONYMOUS=true" in said


def test_a_file_that_is_not_there_is_said_before_anything_starts(tmp_path):
    answer = refused(api_keys=tmp_path / "keys")
    assert "No such file" in answer
    assert str(tmp_path / "keys") in answer


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "there is none"),
        ("# only\n", "there is none"),
        ("anna\n", "line 1"),
        (line("anna", KEY) + "bob 12ab\n", "line 2"),
        ("anna " + KEY, "line 1"),
        (line("anna b", KEY), "line 1"),
    ],
)
def test_a_file_that_can_not_be_used_is_refused(tmp_path, content, said):
    path = tmp_path / "keys"
    path.write_text(content)
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(BadSettings) as refused:
        check_access(listening, Settings(api_keys=path))
    assert said in refused.value.detail
    assert str(path) in refused.value.detail
    assert KEY not in refused.value.detail


@pytest.mark.parametrize(
    ("key", "code", "said"),
    [(KEY, 0, "scenes@1"), ("wrong", 2, "GRADCAM_API_KEY"), ("", 2, "key"), ("wröng", 2, "the API key has characters")],
)
def test_the_command_shows_the_key_of_its_environment(guarded, key, code, said):
    done = gradcam("models", "--url", guarded.url, api_key=key)
    assert done.returncode == code
    assert said in (done.stderr if code else done.stdout)
    assert not (key and key in done.stderr)


def test_a_browser_is_told_what_it_may_send_without_a_key_and_that_the_key_is_wrong(asked):
    origin = {"Origin": "https://app.example.com"}
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    may = asked.options("/predict", headers=origin | preflight)
    assert (may.status_code, may.headers["access-control-allow-origin"]) == (200, "*")
    for key, status in (("wrong", 401), (KEY, 200)):
        response = asked.get("/models", headers=origin | bearer(key))
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (status, "*")
        assert "access-control-allow-credentials" not in response.headers
