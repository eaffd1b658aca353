"""A model's own method, through every door: where nobody names one it has its options, and refuses the same values."""

import grpc
import numpy as np
import pytest
from inputs.models import COVERED

from dialects.channel import Channel
from dialects.channel import pictures as messages
from gradcam_service.api.grpc.protocol import inference_pb2

from .calls import answered, base64_of, encoded, photo, values
from .v2 import pictures

PNG = encoded(photo(64, 48), "PNG")
B64 = base64_of(PNG)
WRONG = {
    "a stride beyond the window": ({"window": 8, "stride": 16}, "parts of the image would never be covered"),
    "a value out of range": ({"window": 513}, "512"),
    "another method's option": ({"masks": 100}, "'masks' is no option of occlusion, but of rise"),
}


def native(client, **options):
    return client.post("/explain", json={"image": B64, "model": COVERED, **options})


def kserve_v1(client, **options):
    return client.post(f"/v1/models/{COVERED}:explain", json={"instances": [{"b64": B64}], "parameters": options})


def instance(client, **options):
    return client.post(f"/v1/models/{COVERED}:explain", json={"instances": [{"b64": B64, **options}]})


def open_inference(client, **options):
    return client.post(f"/v2/models/{COVERED}-explain/infer", **pictures(PNG, parameters=options))


def torchserve(client, **options):
    return client.post(f"/explanations/{COVERED}", content=PNG, params=options)


@pytest.fixture(scope="module")
def client(traced):
    return traced.client


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("door", [native, kserve_v1, instance, open_inference, torchserve])
def test_a_wrong_option_is_refused_alike_whether_the_method_is_named_or_not(client, door, wrong):
    options, part = WRONG[wrong]
    silent, named = door(client, **options), door(client, method="occlusion", **options)
    assert (silent.status_code, named.status_code) == (400, 400), silent.text
    bodies = [{**answer.json(), "request_id": "", "instance": ""} for answer in (silent, named)]
    assert bodies[0] == bodies[1]
    assert part in silent.text


@pytest.mark.parametrize("named", [{}, {"method": "occlusion"}])
def test_grpc_refuses_a_wrong_option_alike(traced, named):
    options, part = WRONG["a stride beyond the window"]
    given = {name: inference_pb2.InferParameter(int64_param=value) for name, value in options.items()}
    given |= {name: inference_pb2.InferParameter(string_param=value) for name, value in named.items()}
    with Channel(traced) as channel, pytest.raises(grpc.RpcError, match=part) as raised:
        channel.call("ModelInfer", model_name=f"{COVERED}-explain", parameters=given, **messages(PNG))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_methods_options_are_taken_where_it_is_not_named(client):
    options = {"window": 8, "stride": 4, "output": "map", "target": 2}
    silent, named, default = (
        answered(native(client, **given))["results"][0]["explanations"][0]
        for given in (options, {"method": "occlusion", **options}, {"output": "map", "target": 2})
    )
    assert silent["method"] == default["method"] == "occlusion"
    np.testing.assert_array_equal(values(silent["map"]), values(named["map"]))
    assert not np.array_equal(values(silent["map"]), values(default["map"]))
