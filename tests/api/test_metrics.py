"""Metrics count every request once, whichever process answered it, under labels that no caller chooses."""

import os
import signal
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exposed import LABELS, samples, value
from gradcam_service.api.dialects import DIALECTS
from live import fresh, until

from .calls import ask, encoded, photo, predict, problem

SMALL = encoded(photo(60, 40), "PNG")


@pytest.fixture
def both(service, client):
    """Clients each with a connection of its own, so many that each of the two API processes has at least one."""
    clients, held = [], {}
    port = client.base_url.port
    processes = service.children()
    while len(held) < 2:
        assert len(clients) < 200, f"only {held} of the API processes accepts connections"
        clients.append(fresh(client.base_url))
        clients[-1].get("/livez").raise_for_status()
        held = {
            p.pid for p in processes for c in p.net_connections() if c.status == "ESTABLISHED" and c.laddr[1] == port
        }
    yield clients
    for one in clients:
        one.close()


def test_each_metric_is_there_with_its_labels(client):
    assert ask(client, "/explain", SMALL).status_code == 200
    assert ask(client, "/predict", b"no picture").status_code == 422
    names = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        for sample in family.samples:
            names.setdefault(name, set()).update(sample.labels.keys() - {"le"})
        assert family.documentation
    assert {name: names.get(name) for name in LABELS} == LABELS


def test_the_text_is_what_prometheus_reads(client):
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert list(text_string_to_metric_families(response.text))


def test_histograms_reach_from_a_millisecond_to_ten_seconds(client):
    assert predict(client, SMALL)
    for metric in ("gradcam_request_duration_seconds", "gradcam_stage_duration_seconds"):
        bounds = {float(dict(labels)["le"]) for name, labels in samples(client) if name == f"{metric}_bucket"}
        assert (min(bounds), max(bounds - {float("inf")})) == (0.001, 10.0)


def test_requests_are_counted_exactly_over_all_processes(client, both):
    requests, durations = "gradcam_requests_total", "gradcam_request_duration_seconds_count"
    stages = "gradcam_stage_duration_seconds_count"
    answered = {"inference": "true", "version": "1", "status": "200", "fault": ""}
    predicted = {"endpoint": "/predict", "model": "resnet18", "method": ""}
    explained = {"endpoint": "/explain", "model": "alexnet", "method": "gradcam"}
    undecoded = answered | {"endpoint": "/predict", "model": "scenes", "method": "", "status": "422", "fault": "caller"}
    adds = [  # what the requests below add, for each client
        (requests, predicted | answered, 3),
        (durations, predicted | {"iterative": "false"}, 3),
        (requests, explained | answered, 1),
        (durations, explained | {"iterative": "false"}, 1),
        (requests, undecoded, 2),
        ("gradcam_rejected_total", {"reason": "undecodable_image"}, 2),
        (stages, {"stage": "read", "model": "alexnet"}, 1),
        (stages, {"stage": "decode", "model": "alexnet"}, 2),
        (stages, {"stage": "queue", "model": "alexnet"}, 2),
        (stages, {"stage": "forward", "model": "alexnet"}, 2),
        (stages, {"stage": "backward", "model": "alexnet"}, 2),
        (stages, {"stage": "render", "model": "alexnet"}, 2),
        (stages, {"stage": "forward", "model": "resnet18"}, 3),
        (stages, {"stage": "backward", "model": "resnet18"}, 0),
        ("gradcam_batch_size_sum", {"model": "resnet18"}, 3),
    ]
    wanted = {(name, frozenset(labels.items())): number * len(both) for name, labels, number in adds}
    before = samples(client)
    for one in both:
        for _ in range(3):
            assert predict(one, SMALL, model="resnet18@stable")
        two = one.post("/explain", files=[("image", SMALL)] * 2, data={"model": "alexnet"})
        assert two.status_code == 200
        for _ in range(2):
            assert problem(ask(one, "/predict", b"no picture"), 422, "undecodable_image")

    def grown(asked):
        after = samples(asked)
        return {key: after.get(key, 0) - before.get(key, 0) for key in wanted}

    for asked in (client, *both):  # a request is counted once it has been answered, so a little after its answer
        until(lambda asked=asked: grown(asked), wanted)
    time.sleep(0.2)
    assert grown(client) == wanted  # and not once more later


def test_durations_tell_methods_of_many_passes_from_what_rides_in_the_batch(client):
    def counted(iterative):
        return value(client, "gradcam_request_duration_seconds_count", method="occlusion", iterative=iterative)

    before, wrong = counted("true"), counted("false")
    assert ask(client, "/explain", SMALL, method="occlusion", window=64, stride=64).status_code == 200
    until(lambda: counted("true"), before + 1)
    assert wrong == counted("false") == 0


def test_what_measures_its_maps_runs_in_chunks_too(client):
    def counted(iterative):
        return value(client, "gradcam_request_duration_seconds_count", method="hirescam", iterative=iterative)

    before = counted("true"), counted("false")
    assert ask(client, "/explain", SMALL, method="hirescam", quality=True, quality_steps=2).status_code == 200
    until(lambda: (counted("true"), counted("false")), (before[0] + 1, before[1]))


def test_what_callers_provoke_is_not_held_against_the_service(client):
    """A model nobody promised, a deadline of nothing, a method that takes long: each the caller's own choice."""
    asked = [
        (503, "model_failed", {"model": "resnet50"}),
        (504, "deadline_exceeded", {"timeout_ms": 1}),
        (504, "deadline_exceeded", {"method": "rise", "masks": 1000, "timeout_ms": 50}),
        (422, "unknown_target", {"target": "dragon"}),
    ]

    def failures():
        found = {("caller", status): 0.0 for status in ("503", "504", "422")}
        for (name, labels), number in samples(client).items():
            of = dict(labels)
            if name == "gradcam_requests_total" and of["endpoint"] == "/explain" and of["status"] != "200":
                key = of["fault"], of["status"]
                found[key] = found.get(key, 0.0) + number
        return found

    before = failures()
    for status, code, options in asked:
        assert problem(ask(client, "/explain", SMALL, **options), status, code)
    added = {("caller", "503"): 1, ("caller", "504"): 2, ("caller", "422"): 1}
    until(failures, before | {key: before[key] + number for key, number in added.items()})


def test_nothing_is_in_flight_or_queued_when_all_is_answered(client):
    assert predict(client, SMALL)
    until(lambda: value(client, "gradcam_in_flight"), 0)
    until(lambda: value(client, "gradcam_queue_depth", device=_device(client)), 0)


def test_model_info_is_one_for_each_ready_model_and_its_digest(client):
    for model in client.get("/models").json()["models"]:
        if model["state"] == "ready":
            labels = {"model": model["name"], "version": model["version"], "digest": model["digest"]}
            assert value(client, "gradcam_model_info", **labels) == 1
            assert value(client, "gradcam_model_load_duration_seconds_count", model=model["name"]) >= 1


def test_the_worker_is_up_and_holds_memory(client):
    assert predict(client, SMALL)
    assert value(client, "gradcam_worker_up", device=_device(client)) == 1
    used = value(client, "gradcam_device_memory_bytes", device=_device(client))
    assert 2**24 < used < value(client, "gradcam_device_memory_total_bytes", device=_device(client))


def test_the_bound_of_the_queue_is_that_of_all_processes_together(client, limited):
    assert value(client, "gradcam_queue_size") == 128
    assert value(limited.client, "gradcam_queue_size") == 3


def test_no_label_holds_what_a_caller_typed(client):
    typed = "zzTyped7"
    headers = {"X-Request-ID": typed, "Content-Type": "image/png"}
    client.get(f"/{typed}")
    client.get(f"/models/{typed}")
    client.get("/models/resnet18@stable")
    client.get(f"/docs/{typed}.jpg")
    client.get(f"/web/{typed}.js")
    client.get(f"/static-offline-docs/{typed}")
    client.post(f"/models/{typed}/load", headers={"Authorization": f"Bearer {typed}"})
    client.post(f"/models/scenes/{typed}")
    client.request("LOCK", f"/{typed}")
    client.request("LOCK", "/predict")
    for option in ("model", "method", "layer", "target", "colormap", typed):
        client.post("/explain", content=SMALL, headers=headers, params={option: typed})
    client.post("/predict", content=SMALL, headers={"Content-Type": f"image/{typed}"})
    client.post("/predict", content=SMALL, headers={"Content-Type": f"text/{typed}"})
    assert predict(client, SMALL, model="resnet18@stable")
    until(lambda: value(client, "gradcam_rejected_total", reason="unknown_layer") > 0)
    seen = [dict(labels) for _, labels in samples(client)]
    assert not [labels for labels in seen if typed.lower() in str(labels).lower()]
    routes = {"/" + path.strip("/") for path in client.get("/openapi.json").json()["paths"]}
    routes |= {"/", "/docs", "/openapi.json", "/docs/scene.jpg", "/docs/oauth2-redirect", "/redoc", "unknown"}
    routes |= {"/web/{path:path}", "/docs/model.schema.json", "/docs/camera.jpg", "/docs/coffee.jpg", "/docs/cat.jpg"}
    for dialect in DIALECTS.values():
        routes |= {route.path for router in (dialect.router, dialect.open) for route in router.routes}
    endpoints = {labels["endpoint"] for labels in seen if "endpoint" in labels}
    assert {endpoint for endpoint in endpoints if not endpoint.startswith("/static-offline")} <= routes
    models = {labels["model"] for labels in seen if "model" in labels}
    assert models <= {model["name"] for model in client.get("/models").json()["models"]} | {""}


def test_a_worker_that_dies_is_reported_counted_and_replaced(limited):
    asked = limited.client
    device = _device(asked)
    before = predict(asked, SMALL)[0]
    os.kill(limited.pids("worker")[-1], signal.SIGKILL)
    after = predict(asked, SMALL)[0]  # as soon as there is another
    assert (after["label"], after["logit"]) == (before["label"], pytest.approx(before["logit"], rel=1e-4))
    until(lambda: asked.get("/readyz").status_code, 200)
    assert value(asked, "gradcam_worker_restarts_total", device=device, reason="SIGKILL") == 1
    assert value(asked, "gradcam_worker_up", device=device) == 1
    until(lambda: value(asked, "gradcam_in_flight"), 0)


def _device(client):
    (device,) = client.get("/healthz").json()["devices"]
    return device
