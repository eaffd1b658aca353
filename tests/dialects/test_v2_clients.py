"""Clients of the Open Inference Protocol over REST, unchanged: Triton's, KServe's and MLServer's."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from api.calls import explain, predict, values
from live import ADMIN_TOKEN

from .channel import address

pytestmark = pytest.mark.clients
FACES = ["scenes", "scenes-explain", "scenes-tensor"]


@pytest.fixture(scope="module")
def scene(service):
    return service.client.get("/docs/scene.jpg").content


@pytest.fixture(scope="module")
def own(service, scene):
    """What the service's own protocol says: the map of star and the probabilities of all classes."""
    best = predict(service.client, scene, top_k=1000)
    scores = [entry["probability"] for entry in sorted(best, key=lambda entry: entry["index"])]
    return {
        "map": values(explain(service.client, scene, output="map", target="star")["map"]),
        "scores": np.float32(scores),
        "best": [(entry["index"], entry["label"]) for entry in best],
    }


@pytest.fixture
def files(tmp_path, scene):
    """The picture as its file, its pixels, and these at the size of the model's input."""
    picture = Image.open(io.BytesIO(scene)).convert("RGB")
    (tmp_path / "scene.jpg").write_bytes(scene)
    np.save(tmp_path / "pixels.npy", np.asarray(picture))
    np.save(tmp_path / "seen.npy", np.asarray(picture.resize((128, 128), Image.Resampling.BILINEAR)))
    return tmp_path


def is_jpeg(data):
    return Image.open(io.BytesIO(bytes(data))).format == "JPEG"


def test_tritons_client_reads_the_same_in_every_form(ask, own, files):
    told = ask("triton/rest.py", "scenes", files / "scene.jpg")
    for form in ("in binary", "in gzip", "in deflate", "of all"):
        assert np.array_equal(told.arrays[f"map {form}"], own["map"][None])
    np.testing.assert_allclose(told.arrays["map in JSON"], own["map"][None], rtol=0, atol=1e-6)
    for form in ("in binary", "in JSON"):
        np.testing.assert_allclose(told.arrays[f"scores {form}"], own["scores"][None], rtol=1e-6)
    assert is_jpeg(told.arrays["overlay in binary"])
    assert base64.b64decode(told.arrays["overlay in JSON"]) == told.arrays["overlay in binary"].tobytes()
    said = told.said
    assert said["live"]
    assert said["ready"]
    assert said["model ready"]
    assert said["version ready"]
    assert not said["nothing ready"]
    assert said["id"] == "mine"
    assert [(int(index), label) for _, index, label in (text.split(":") for text in said["classes"])] == own["best"][:3]
    assert said["everything"] == ["overlay", "heatmap", "map", "target", "scores"]
    assert said["deferred"] == [1, *own["map"].shape]


def test_tritons_client_is_told_what_there_is_and_what_is_not(ask, files):
    said = ask("triton/rest.py", "scenes", files / "scene.jpg").said
    assert "binary_tensor_data" in said["server"]["extensions"]
    assert [output["name"] for output in said["metadata"]["outputs"]] == said["everything"]
    assert said["config"]["input"][0]["dims"] == [3, 128, 128]
    assert said["statistics"]["model_stats"][0]["inference_stats"]["success"]["count"] > 0
    assert {entry["name"] for entry in said["all statistics"]["model_stats"]} >= {"scenes", "resnet18"}
    assert {entry["name"] for entry in said["index"] if entry["state"] == "READY"} >= set(FACES)
    assert said["shared memory"] == []
    assert said["no model"][0].startswith("unknown_model: ")
    assert said["no model"][1] == "404"
    assert said["no picture"][1] == "400"
    assert said["no logging"][1] == "501"


def test_tritons_asynchronous_client_reads_the_same_in_every_form(ask, own, files):
    told = ask("triton/rest_aio.py", "scenes", files / "scene.jpg")
    assert told.said["ready"]
    assert told.said["metadata"]["name"] == "scenes-explain"
    assert told.said["config"]["max_batch_size"] > 0
    assert len(told.arrays) == 6
    for found in told.arrays.values():
        np.testing.assert_allclose(found, own["map"][None], rtol=0, atol=1e-6)


def test_tritons_example_of_tensors_finds_out_what_to_send_and_names_the_best_classes(ask, own, files):
    rows = ask("triton/image_client.py", "scenes-tensor", files / "seen.npy").said
    assert [[(int(index), label) for _, index, label in row[:2]] for row in rows] == [own["best"][:2]] * 2


def test_tritons_example_of_stubs_gets_the_same_over_grpc(ask, own, files, service):
    rows = ask("triton/grpc_image_client.py", address(service), "scenes-tensor", files / "seen.npy").said
    assert [[(int(index), label) for _, index, label in row[:2]] for row in rows] == [own["best"][:2]] * 2


def test_tritons_example_of_files_gets_a_class_for_each(ask, own, files):
    rows = ask("triton/ensemble_image_client.py", "scenes", *[files / "scene.jpg"] * 3).said
    assert [[(int(index), label) for _, index, label in row] for row in rows] == [own["best"][:1]] * 3


def test_tritons_client_loads_and_unloads_models(ask):
    assert ask("triton/model_control.py", "alexnet", ADMIN_TOKEN).said == ["READY", "UNAVAILABLE", "READY", "401"]


def test_kserves_client_reads_the_same_in_every_form(ask, own, files):
    told = ask("kserve/rest_v2.py", "scenes", files / "scene.jpg")
    assert told.said["live"]
    assert told.said["ready"]
    assert told.said["model ready"]
    assert "unknown_model: " in told.said["no model"]
    for form in ("JSON False", "JSON True", "binary False", "binary True"):
        np.testing.assert_allclose(told.arrays[f"map {form}"], own["map"][None], rtol=0, atol=1e-6)
        np.testing.assert_allclose(told.arrays[f"scores {form}"], own["scores"][None], rtol=1e-6)
    assert is_jpeg(told.arrays["overlay"])


def test_mlservers_codecs_write_pictures_and_pixels_and_read_answers(ask, own, files):
    told = ask("mlserver/codecs.py", "scenes", files / "scene.jpg", files / "pixels.npy")
    assert told.said == ["map", "overlay", "scores"]
    for sent in ("file", "pixels"):
        np.testing.assert_allclose(told.arrays[f"map of {sent}"], own["map"][None], rtol=0, atol=1e-6)
        np.testing.assert_allclose(told.arrays[f"scores of {sent}"], own["scores"][None], rtol=1e-6)
    assert is_jpeg(told.arrays["overlay"])


def test_a_black_box_explainer_of_mlserver_reads_a_predictor(ask, own, files):
    told = ask("mlserver/black_box.py", "scenes-tensor", files / "seen.npy")
    np.testing.assert_allclose(told.arrays["scores"], [own["scores"]] * 2, rtol=1e-4)
    assert told.said == ["1"]


def test_mlservers_command_answers_a_file_of_requests(ask, own, service, scene, files):
    answers = ask("mlserver/infer.py", "scenes", *[files / "scene.jpg"] * 2).said
    best = values(explain(service.client, scene, output="map")["map"])
    assert [answer["id"] for answer in answers] == ["0", "1"]
    for answer in answers:
        found = {output["name"]: output for output in answer["outputs"]}
        assert found["map"]["shape"] == [1, *best.shape]
        np.testing.assert_allclose(np.float32(found["map"]["data"]), best.ravel(), rtol=0, atol=1e-5)
        np.testing.assert_allclose(np.float32(found["scores"]["data"]), own["scores"], rtol=1e-5)
        assert is_jpeg(base64.b64decode(found["overlay"]["data"][0]))
