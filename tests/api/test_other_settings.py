"""Settings that can be in force together, in one service: what each of them changes, and what it does not."""

import pytest

from exposed import value
from live import free_port, fresh, running_eagerly, until

from .calls import base64_of, encoded, photo, predict, problem

SMALL = encoded(photo(40, 30), "PNG")


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture(scope="module")
def client(port):
    """Speaks to a service that everyone may reach without a key, without a page, and with metrics on another port."""
    everyone = {"host": "0.0.0.0", "allow_anonymous": True}
    with running_eagerly(**everyone, playground=False, metrics_port=port, queue_size=5, api_processes=2) as started:
        yield started.client


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
