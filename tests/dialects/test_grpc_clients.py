"""Triton's and KServe's clients over gRPC."""

import numpy as np
import pytest

from api.calls import encoded, explain, photo, predict, values
from gradcam_service.api.grpc.protocol import inference_pb2
from live import ADMIN_TOKEN

from .channel import address

pytestmark = pytest.mark.clients

CLASHING = {"RepositoryModelLoadRequest.model_name", "RepositoryModelUnloadRequest.model_name"}
"""In field 1 of KServe's requests, in field 2 of Triton's."""


@pytest.fixture(scope="module")
def asked(service, tmp_path_factory):
    """Arguments of the scripts, and the native map and probabilities of what they ask about."""
    picture = encoded(photo(200, 150), "PNG")
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    path.write_bytes(picture)
    native = explain(service.client, picture, model="scenes", target="star", output="map")
    found = predict(service.client, picture, model="scenes", top_k=12)
    return (address(service), "scenes", path, ADMIN_TOKEN), values(native["map"]), found


def fields(message, path):
    for field in message.fields:
        yield f"{path}.{field.name}", [field.number, field.type]
    for inner in message.nested_types:
        yield from fields(inner, f"{path}.{inner.name}")


@pytest.mark.parametrize("client", ["triton", "kserve"])
def test_fields_have_the_numbers_and_types_of_each_client(ask, client):
    theirs = ask(f"{client}/messages.py").said
    messages = inference_pb2.DESCRIPTOR.message_types_by_name
    ours = {name: value for path, message in messages.items() for name, value in fields(message, path)}
    common = (ours.keys() & theirs.keys()) - (CLASHING if client == "kserve" else set())
    assert {name: ours[name] for name in common} == {name: theirs[name] for name in common}
    asked = {"ModelInferRequest.raw_input_contents", "ModelInferResponse.outputs", "InferTensorContents.fp32_contents"}
    assert asked <= common
    if client == "triton":  # of the Open Inference Protocol and of KServe
        others = {"isLoaded", "isUnloaded", "properties", "PropertiesEntry"}
        own = {name for name in ours if not others & set(name.split(".")) and "LoadResponse" not in name}
        assert {name for name in own if "UnloadResponse" not in name} <= theirs.keys()


def test_tritons_client_is_answered_as_the_native_protocol(ask, asked):
    arguments, expected, found = asked
    told = ask("triton/over_grpc.py", *arguments)
    for name in ("map", "map_asynchronously"):
        np.testing.assert_array_equal(told.arrays[name][0], expected)
    scores = {each["index"]: each["probability"] for each in found}
    for name in ("zipped", "streamed"):
        np.testing.assert_allclose(told.arrays[name][0], [scores[i] for i in range(12)], rtol=1e-6)
    assert told.arrays["overlay"].tobytes().startswith(b"\xff\xd8\xff")
    said = told.said
    assert [said[name] for name in ("live", "ready", "model ready", "asynchronously")] == [True] * 4
    assert said["nothing ready"] is False
    assert (said["name"], said["id"], said["statistics"]) == ("gradcam-service", "mine", "scenes")
    (described,), (configured,) = said["inputs"], said["config"]
    assert (described["name"], described["datatype"], described["shape"]) == (
        "input",
        "FP32",
        ["-1", "3", "128", "128"],
    )
    assert (configured["data_type"], configured["format"]) == ("TYPE_FP32", "FORMAT_NCHW")
    assert {"scenes", "scenes-tensor", "scenes-explain"} <= set(said["index"])
    best = found[0]
    assert said["ranked"][0].endswith(f":{best['index']}:{best['label']}")
    assert said["no model"][0] == "StatusCode.NOT_FOUND"
    assert "there is no model 'nothing'" in said["no model"][1]
    assert "there is no model 'nothing'" in said["in a stream"]
    assert said["too late"][0] == "StatusCode.DEADLINE_EXCEEDED"
    assert said["no token"][0] == "StatusCode.UNAUTHENTICATED"
    assert said["shared memory"][0] == "StatusCode.UNIMPLEMENTED"


def test_kserves_client_is_answered_as_the_native_protocol(ask, asked):
    arguments, expected, _ = asked
    told = ask("kserve/over_grpc.py", *arguments)
    for name in ("map contents", "map raw"):
        np.testing.assert_array_equal(told.arrays[name][0], expected)
    said = told.said
    assert [said[name] for name in ("live", "ready", "model ready")] == [True] * 3
    assert (said["contents"], said["raw"]) == ("scenes-explain", "scenes-explain")
    code, detail = said["no model"]
    assert code == "StatusCode.NOT_FOUND"
    assert "there is no model 'nothing'" in detail
