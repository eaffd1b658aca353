"""Settings that can be in force together, in one service: what each of them changes, and what it does not."""

import os
import signal
import subprocess
import sys
import time

import pytest
from worker.test_versions import answered_by, listed, put, traced_beforehand

from exposed import value
from live import ADMIN_TOKEN, PATIENCE, free_port, fresh, running_eagerly, until

from .calls import ADMIN, ask, base64_of, encoded, logged, photo, predict, problem

SMALL = encoded(photo(40, 30), "PNG")
HEEDING = [sys.executable, "-m", "gradcam_service", "serve"]  # the caller's Python environment, which gradcam doesn't
HIDDEN = "import sys\nsys.modules['opentelemetry.exporter'] = sys.modules['opentelemetry.sdk'] = None\n"
"""As a sitecustomize.py, what an environment without the extra is: FastAPI has brought OpenTelemetry's API alone."""


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A repository with one model."""
    traced_beforehand(tmp_path_factory.mktemp("beforehand"), (1, ""), (2, ""), (3, ""))
    root = tmp_path_factory.mktemp("looked-at") / "models"
    put(root, "1", 1)
    return root


@pytest.fixture(scope="module")
def without_the_extra(tmp_path_factory):
    """An environment in which what traces is not installed."""
    folder = tmp_path_factory.mktemp("hidden")
    (folder / "sitecustomize.py").write_text(HIDDEN)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
        yield


@pytest.fixture(scope="module")
def service(port, models, without_the_extra):
    """It serves everyone without a key, has no page, tells metrics on another port and looks for models when told to.

    There it has nothing of what traces.
    """
    settings = {"host": "0.0.0.0", "allow_anonymous": True, "playground": False, "metrics_port": port, "queue_size": 5}
    settings |= {"api_processes": 2, "model_repository": models, "poll_seconds": 0, "admin_token": ADMIN_TOKEN}
    with running_eagerly(*HEEDING, **settings) as started:
        yield started


@pytest.fixture(scope="module")
def client(service):
    return service.client


def test_it_listens_to_everyone_without_keys_where_that_is_wanted(client):
    assert client.get(client.base_url.copy_with(host="127.0.0.2", path="/livez")).status_code == 200
    assert predict(client, SMALL)


def test_more_images_than_the_queue_can_ever_hold_are_not_told_to_try_again(client):
    response = client.post("/predict", json={"images": [base64_of(SMALL)] * 3})
    assert "at most 2" in problem(response, 413, "too_large")
    assert len(client.post("/predict", json={"images": [base64_of(SMALL)] * 2}).json()["results"]) == 2


def test_where_the_page_is_off_the_front_door_leads_to_the_documentation(client):
    response = client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (response.status_code, response.headers["location"]) == (307, "docs")
    assert client.get("/").json() == {"status": "alive"}
    assert client.get("/web/app.js").status_code == 404
    assert client.get("/docs").status_code == 200


def test_metrics_can_have_a_port_of_their_own(client, port):
    predict(client, SMALL)
    assert problem(client.get("/metrics"), 404, "no_such_path")
    assert "/metrics" not in client.get("/openapi.json").json()["paths"]
    (device,) = client.get("/healthz").json()["devices"]
    with fresh(f"http://127.0.0.1:{port}") as watcher:
        answered = {"endpoint": "/predict", "model": "scenes", "method": "", "status": "200"}
        until(lambda: value(watcher, "gradcam_requests_total", **answered) > 0)
        assert value(watcher, "gradcam_worker_up", device=device) == 1


def test_the_repository_is_looked_at_when_told_to(service, models):
    put(models, "2", 2)
    time.sleep(0.5)
    assert "2" not in listed(service)
    service.process.send_signal(signal.SIGHUP)
    until(lambda: answered_by(service, "demo"), "2")
    put(models, "3", 3)
    time.sleep(0.5)
    assert "3" not in listed(service)
    response = service.client.post("/models/reload", headers=ADMIN)
    assert "3" in [m["version"] for m in response.json()["models"] if m["name"] == "demo"]
    until(lambda: answered_by(service, "demo"), "3")


def test_a_service_that_does_not_trace_needs_no_extra(service):
    response = ask(service.client, "/predict", SMALL)
    assert response.status_code == 200
    assert "trace_id" not in logged(service, response)


@pytest.mark.usefixtures("without_the_extra")
def test_tracing_without_its_extra_is_one_line_and_exit_code_2():
    settings = {"GRADCAM_TRACING": "true", "GRADCAM_PORT": "0"}
    done = subprocess.run(
        HEEDING, env=os.environ | settings, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("gradcam: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "pip install 'gradcam-service[tracing]'" in done.stderr
    assert done.stdout == ""
