"""The Open Inference Protocol over REST: what it tells of the server and its models, and what is not offered."""

import pytest

from exposed import value
from live import until

from .calls import ADMIN
from .v2 import error, in_json, pictures, tensors

INFER = "/v2/models/scenes/infer"
EXPLAIN = "/v2/models/scenes-explain/infer"


def test_the_server_says_what_it_is_and_whether_it_answers(client):
    said = client.get("/v2").json()
    assert said == client.get("/v2/").json()
    assert said["name"] == "gradcam-service"
    assert {"binary_tensor_data", "classification", "model_repository"} <= set(said["extensions"])
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True, "live": True}


def test_metadata_and_configuration_name_the_same_tensors(client):
    for name in ("scenes", "scenes-tensor", "scenes-explain", "resnet18@stable", "resnet18-explain@1"):
        said, config = client.get(f"/v2/models/{name}").json(), client.get(f"/v2/models/{name}/config").json()
        assert said["name"] == config["name"] == name.partition("@")[0]
        assert said["versions"] == ["1"]
        for of_metadata, of_config in (("inputs", "input"), ("outputs", "output")):
            for one, other in zip(said[of_metadata], config[of_config], strict=True):
                assert one["name"] == other["name"]
                assert other["data_type"] == "TYPE_" + one["datatype"].replace("BYTES", "STRING")
                dims = other.get("reshape", {"shape": other["dims"]})["shape"]
                assert one["shape"] == [-1, *dims]


def test_the_face_of_tensors_is_what_tritons_own_examples_demand(client):
    said, config = (client.get(f"/v2/models/resnet18-tensor{path}").json() for path in ("", "/config"))
    assert said["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 3, 224, 224]}]
    assert said["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [-1, 1000]}]
    assert config["max_batch_size"] > 0
    assert config["input"][0]["format"] == "FORMAT_NCHW"
    assert config["output"][0]["label_filename"]


def test_the_shapes_of_metadata_are_those_of_answers(client, scene):
    said = {output["name"]: output["shape"][1:] for output in client.get("/v2/models/scenes-explain").json()["outputs"]}
    found = client.post(EXPLAIN, **in_json(scene, scene)).json()["outputs"]
    assert {output["name"]: output["shape"] for output in found} == {name: [2, *shape] for name, shape in said.items()}


def test_what_is_not_known_of_a_model_that_has_never_been_loaded_may_be_anything(client):
    assert client.get("/v2/models/resnet50-tensor").json()["inputs"][0]["shape"] == [-1, -1, -1, -1]


def test_models_and_their_faces_are_listed_and_found_by_version_and_alias(client, scene):
    names = client.get("/v2/models").json()["models"]
    assert {"scenes", "scenes-tensor", "scenes-explain", "resnet18", "alexnet-explain"} <= set(names)
    for path in ("resnet18/versions/stable", "resnet18/versions/1", "resnet18@stable", "resnet18%40stable"):
        response = client.post(f"/v2/models/{path}/infer", **in_json(scene))
        assert tensors(response)["scores"].shape == (1, 1000)
        assert response.json()["model_version"] == "1"
        assert client.get(f"/v2/models/{path}/ready").json()["ready"] is True
    assert "scenes" in error(client.get("/v2/models/scened"), 404)
    assert "scenes" not in error(client.get("/v2/models/scened/ready"), 404)
    assert "version" in error(client.get("/v2/models/scenes/versions/7"), 404)
    assert error(client.get("/v2/models/scenes@1/versions/1"), 400)


def test_the_index_has_every_face_in_its_state(client):
    client.post("/models/resnet50/unload", headers=ADMIN)
    found = client.post("/v2/repository/index").json()
    states = {(entry["name"], entry["version"]): entry["state"] for entry in found}
    assert states["scenes-explain", "1"] == "READY"
    assert states["resnet50-tensor", "1"] == "UNAVAILABLE"
    ready = client.post("/v2/repository/index", json={"ready": True}).json()
    assert {(entry["name"], entry["version"]) for entry in ready} == {key for key in states if states[key] == "READY"}
    assert error(client.post("/v2/repository/index", content=b"[1]"), 400)


def test_models_are_loaded_and_unloaded_with_the_admin_token_alone(client):
    for action in ("unload", "load"):
        path = f"/v2/repository/models/alexnet-tensor/{action}"
        assert error(client.post(path), 401)
        assert client.post(path, headers=ADMIN).json() == {"name": "alexnet-tensor", action: True}
        (state,) = [model["state"] for model in client.get("/models").json()["models"] if model["name"] == "alexnet"]
        assert state == {"load": "ready", "unload": "unloaded"}[action]
    refused = client.post("/v2/repository/models/alexnet/load", json={"parameters": {"config": "{}"}}, headers=ADMIN)
    assert error(refused, 501)
    assert error(client.post("/v2/repository/models/nope/load", headers=ADMIN), 404)


def test_without_an_admin_token_models_are_not_managed(limited):
    assert "GRADCAM_ADMIN_TOKEN" in error(limited.client.post("/v2/repository/models/scenes/unload"), 501)


def test_statistics_count_what_is_asked(client, scene):
    def counted():
        (one,) = client.get("/v2/models/scenes-explain/stats").json()["model_stats"]
        assert one in [one | {"name": "scenes-explain"} for one in client.get("/v2/models/stats").json()["model_stats"]]
        return one

    before = counted()
    assert tensors(client.post(EXPLAIN, **pictures(scene, scene)))
    error(client.post(EXPLAIN, **pictures(b"no picture")), 400)
    after = counted()
    counts, was = after["inference_stats"], before["inference_stats"]
    assert counts["success"]["count"] >= was["success"]["count"] + 1
    assert after["inference_count"] >= before["inference_count"] + 2
    for stage in ("queue", "compute_input", "compute_infer", "compute_output"):
        assert counts[stage]["count"] >= was[stage]["count"] + 2
        assert counts[stage]["ns"] > was[stage]["ns"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "systemsharedmemory/register",
        "cudasharedmemory/unregister",
        "trace/setting",
        "logging",
        "models/scenes/trace/setting",
    ],
)
def test_what_else_triton_has_is_refused_by_name(client, method, path):
    assert error(client.request(method, f"/v2/{path}"), 501).startswith("not_offered: ")


def test_what_is_not_offered_is_held_against_nobody_but_the_caller(client, scene):
    def counted(fault):
        labels = {"endpoint": INFER.replace("scenes", "{name}"), "status": "501", "fault": fault}
        return value(client, "gradcam_requests_total", **labels)

    before = counted("caller")
    body = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "parameters": {"shared_memory_region": "a"}}]}
    error(client.post(INFER, json=body), 501)
    until(lambda: counted("caller"), before + 1)
    assert counted("service") == 0


def test_no_region_of_shared_memory_is_known(client, scene):
    for kind in ("system", "cuda"):
        assert client.get(f"/v2/{kind}sharedmemory/status").json() == []
    body = in_json(scene)
    del body["json"]["inputs"][0]["data"]
    body["json"]["inputs"][0]["parameters"] = {"shared_memory_region": "a", "shared_memory_byte_size": 10}
    assert error(client.post(INFER, **body), 501)
