"""Tensors in bytes and in JSON are what NumPy makes of them, and hostile ones cost nothing but their own length."""

import base64
import gzip
import json
import tracemalloc
from contextlib import suppress
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gradcam_service.api.oip import rest
from gradcam_service.api.oip.faces import find
from gradcam_service.api.oip.infer import Inference, read, respond
from gradcam_service.api.oip.messages import InferRequest, InferResponse, Wanted
from gradcam_service.api.oip.tensors import Tensor, from_bytes, from_values, to_bytes
from gradcam_service.core.options import Call, ExplainOptions
from gradcam_service.core.results import Answers, Explanation, Result
from gradcam_service.errors import BadRequest, NotOffered, TooLarge, TooManyTargets
from gradcam_service.registry.card import Card, Computed
from gradcam_service.registry.listing import Model
from gradcam_service.registry.spec import Preprocess
from gradcam_service.settings import Settings
from gradcam_service.text import Text

from .v2 import LENGTH, TYPES, binary, elements, error

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
ELEMENTS = st.lists(st.binary(max_size=20), max_size=8)
quick = settings(max_examples=60, deadline=None)


def anything(datatype, shapes=SHAPES):
    return arrays.arrays(np.dtype(TYPES[datatype]), shapes)


@pytest.mark.parametrize("datatype", TYPES)
@quick
@given(data=st.data())
def test_bytes_are_numpys_own_both_ways(datatype, data):
    values = data.draw(anything(datatype))
    read = from_bytes("x", datatype, values.shape, memoryview(values.tobytes()))
    assert read.values.dtype == values.dtype
    assert read.values.shape == values.shape
    assert read.values.tobytes() == values.tobytes()
    assert b"".join(to_bytes(Tensor("x", datatype, values.shape, values))) == values.tobytes()
    turned = values.transpose()
    assert b"".join(to_bytes(Tensor("x", datatype, turned.shape, turned))) == turned.tobytes()


@quick
@given(values=ELEMENTS)
def test_elements_of_bytes_are_those_that_were_put_in(values):
    data = elements(values)
    assert from_bytes("x", "BYTES", (len(values),), memoryview(data)).values == values
    assert b"".join(to_bytes(Tensor("x", "BYTES", (len(values),), values))) == data


@pytest.mark.parametrize("datatype", sorted(TYPES.keys() - {"FP16"}))
@quick
@given(data=st.data())
def test_json_is_numpys_own_flat_or_nested(datatype, data):
    values = data.draw(anything(datatype, arrays.array_shapes(max_dims=4, max_side=4)))
    if values.dtype.kind == "f":
        values = np.asarray(np.nan_to_num(values, posinf=1, neginf=-1))
    for written in (values.tolist(), values.ravel().tolist()):
        tensor = {"name": "x", "datatype": datatype, "shape": values.shape, "data": written}
        request = rest.read(json.dumps({"inputs": [tensor]}).encode(), None)
        (read,) = request.inputs
        assert read.values.dtype == values.dtype
        assert np.array_equal(read.values, values)


def answer(*outputs, **parameters):
    written = rest.write(InferResponse("m", "1", "7", outputs), InferRequest([], parameters=parameters))
    return b"".join(written.pieces), written


@pytest.mark.parametrize("datatype", ["FP32", "INT64"])
@quick
@given(data=st.data())
def test_an_answer_says_in_both_forms_what_was_put_in(datatype, data):
    values = data.draw(anything(datatype))
    if values.dtype.kind == "f":
        values = np.asarray(np.nan_to_num(values, posinf=1, neginf=-1))
    pictures = data.draw(ELEMENTS)
    outputs = [
        Tensor("map", datatype, values.shape, values, "np"),
        Tensor("overlay", "BYTES", (len(pictures), 1), pictures, "base64"),
    ]
    text, written = answer(*outputs)
    said = {output["name"]: output for output in json.loads(text)["outputs"]}
    assert written.header_length is None
    assert np.array_equal(np.array(said["map"]["data"], values.dtype).reshape(values.shape), values)
    assert [base64.b64decode(element) for element in said["overlay"]["data"]] == pictures
    body, written = answer(*outputs, binary_data_output=True)
    assert written.size == len(body)
    sizes = [
        output["parameters"]["binary_data_size"] for output in json.loads(body[: written.header_length])["outputs"]
    ]
    assert sizes == [values.nbytes, len(elements(pictures))]
    assert body[written.header_length :] == values.tobytes() + elements(pictures)


def test_numbers_are_not_copied_on_their_way_in_or_out():
    data = bytes(4 * 3 * 224 * 224)
    tracemalloc.start()
    read = from_bytes("x", "FP32", (1, 3, 224, 224), memoryview(data))
    (out,) = to_bytes(read)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.shares_memory(read.values, np.frombuffer(data, "f4"))
    assert np.shares_memory(np.frombuffer(out, "u1"), read.values)
    assert peak < 10_000


HUGE = 2**40
HOSTILE = {
    "product beyond 64 bits": ("FP32", [2**33, 2**33], b"1234"),
    "product that wraps around to its length": ("UINT8", [2**32, 2**32, 4], b"1234"),
    "gigabytes": ("FP32", [HUGE], b"1234"),
    "negative": ("FP32", [-1, -1], b"1234"),
    "negative twice": ("UINT8", [-2, -2], b"1234"),
    "many dimensions": ("UINT8", [1] * 5000, b"1"),
    "one byte too few": ("FP32", [1], b"123"),
    "one byte too many": ("FP32", [1], b"12345"),
    "no datatype": ("FP8", [4], b"1234"),
    "elements beyond the body": ("BYTES", [2], b"\xff\xff\xff\xff12345678"),
    "length alone beyond the body": ("BYTES", [1], b"\xff\xff\xff\x7f"),
    "more elements than bytes": ("BYTES", [HUGE], b"\0" * 64),
    "more elements than anything takes": ("BYTES", [2**20], b"\0" * 2**22),
    "bytes beyond the elements": ("BYTES", [1], elements([b"a", b"b"])),
    "half a length": ("BYTES", [2], elements([b"a"]) + b"\0"),
    "none but bytes": ("BYTES", [0], b"x"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_does_not_fit_is_refused_before_anything_is_made_of_it(case):
    datatype, shape, data = HOSTILE[case]
    view = memoryview(data)
    tracemalloc.start()
    with pytest.raises(BadRequest, match="'x'"):
        from_bytes("x", datatype, shape, view)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP32", [HUGE], [1]),
        ("FP32", [2], [1]),
        ("FP32", [1], [1, 2]),
        ("FP32", [1], ["1"]),
        ("FP32", [2], ["x" * 1000, "y"]),
        ("FP32", [1], [None]),
        ("FP32", [1], [True]),
        ("FP32", [1], {"a": 1}),
        ("FP32", [1], 1),
        ("FP32", [1, 1], [[[1]]]),
        ("FP32", [2, 2], [[1, 2], 3]),
        ("UINT8", [1], [256]),
        ("UINT8", [1], [-1]),
        ("UINT8", [1], [10**30]),
        ("INT8", [1], [-129]),
        ("UINT64", [1], [-1]),
        ("INT32", [1], [1.5]),
        ("BOOL", [1], [1]),
        ("FP16", [1], [1]),
        ("BF16", [1], [1]),
        ("FP8", [1], [1]),
        ("BYTES", [1], [1]),
        ("BYTES", [1], [{"b65": "aa"}]),
        ("BYTES", [1], [{"b64": "a"}]),
        ("BYTES", [1], ["a", "b"]),
    ],
)
def test_json_that_is_no_such_tensor_is_refused(datatype, shape, data):
    body = msgspec.json.encode({"inputs": [{"name": "x", "datatype": datatype, "shape": shape, "data": data}]})
    with pytest.raises(BadRequest):
        rest.read(body, None)


TENSOR = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":%b}]}'
BODIES = {
    "empty": b"",
    "no JSON": b"\xff\xd8\xff",
    "list": b"[]",
    "no inputs": b"{}",
    "inputs that are none": b'{"inputs": 3}',
    "deep": b'{"inputs":' + b"[" * 100_000,
    "deep data": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":'
    + b"[" * 100_000
    + b"]" * 100_000
    + b"}]}",
    "deep parameters": b'{"parameters":{"a":' + b'{"a":' * 100_000,
    "NaN": TENSOR % b"[NaN]",
    "infinite": TENSOR % b"[Infinity]",
    "no data": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1]}]}',
    "shape of text": b'{"inputs":[{"name":"x","datatype":"FP32","shape":["1"],"data":[1]}]}',
    "both": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1],"parameters":{"binary_data_size":4}}]}',
    "size of text": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":"4"}}]}',
    "size beyond": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}',
    "negative size": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":-4}}]}',
    "lone surrogate": b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[1],"data":["\\ud800"]}]}',
    "many inputs": b'{"inputs":[%b]}' % b",".join([b'{"name":"x","datatype":"FP32","shape":[0],"data":[]}'] * 1000),
    "many outputs": b'{"inputs":[],"outputs":[%b]}' % b",".join([b'{"name":"map"}'] * 1000),
    "many elements": b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[100000],"data":['
    + b'"a",' * 99_999
    + b'"a"]}]}',
    "elements beyond the shape": b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[1],"data":["a","b"]}]}',
    "millions of values": TENSOR % (b"[" + b"1," * 2**21 + b"1]"),
    "millions of parameters": b'{"inputs":[],"parameters":{"a":[' + b"[]," * 2**20 + b"[]]}}",
}


@pytest.mark.parametrize("case", BODIES)
def test_bodies_that_are_no_request_are_refused(case):
    tracemalloc.start()
    with pytest.raises((BadRequest, TooLarge)):
        rest.read(BODIES[case], None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3e6


@pytest.mark.parametrize("length", [-1, 3, 2**63])
def test_a_head_longer_than_the_body_is_refused(length):
    with pytest.raises(BadRequest, match="Inference-Header-Content-Length"):
        rest.read(b"{}", length)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_a_body_is_it_is_read_or_refused(data):
    whole = binary(("x", "BYTES", [2], elements([b"ab", b"c"])), ("y", "FP32", [1, 2], bytes(8)), parameters={"a": 1})
    body, length = bytearray(whole["content"]), int(whole["headers"][LENGTH])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    length += data.draw(st.sampled_from([0, 0, 0, -1, 1, 1000]))
    with suppress(BadRequest, NotOffered, TooLarge):
        request = rest.read(bytes(body), length)
        assert len(request.inputs) <= 2


FACED = find([Model("scenes", "1", [], "ready")], "scenes-explain")


@pytest.mark.parametrize("form", ["numbers", "labels", "commas", "JSON", "list"])
def test_targets_beyond_the_bound_are_refused_before_anything_is_made_of_them(form):
    picture = Tensor("image", "BYTES", (1,), [b"picture"])
    numbers = np.zeros((1, 1_000_000), np.uint8)
    tensor = {
        "numbers": Tensor("target", "UINT8", numbers.shape, numbers),
        "labels": Tensor("target", "BYTES", (1, 50_000), [b"star"] * 50_000),
    }
    written = {"commas": "," * 400_000, "JSON": f"[{'0,' * 9999}0]", "list": [0] * 100_000}
    request = InferRequest([picture, tensor[form]] if form in tensor else [picture], (), {"target": written.get(form)})
    tracemalloc.start()
    with pytest.raises(TooManyTargets, match="at most 16"):
        read(request, FACED, Settings())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000


def captioned(words):
    """What a captioner of 3 words says, which has explained so many of them."""
    one = Explanation("a", None, "gradcam", "layer", "unsigned", (0, 0, 1, 1), (1, 1), np.zeros((2, 2), np.float32))
    return Result(None, np.zeros(4 * 3, np.float32), [one] * words, Computed("eager", "float32", "sha256:0"))


@pytest.mark.parametrize(
    ("output", "words", "error", "says"),
    [
        ("scores", (2, 2), NotOffered, "of task captioning has no scores of classes; output 'prediction' has"),
        ("map", (2, 3), BadRequest, "the images have 2 and 3 targets"),
    ],
)
def test_what_no_tensor_holds_is_refused_by_name(output, words, error, says):
    preprocess, text = Preprocess((0,), (1,), pad=8), Text(list("abc"), 4)
    card = Card("", "", "", 0, "captioning", "softmax", list("abc"), preprocess, 8, "", "", [], [], text=text)
    answers = Answers(FACED.model, card, list(map(captioned, words)))

    def asking(name):
        return Inference(FACED, Call([b""], ExplainOptions()), InferRequest([], [Wanted(name)], id="mine"))

    with pytest.raises(error, match=says):
        respond(asking(output), answers, "7")
    assert respond(asking("map"), replace(answers, results=answers.results[:1]), "7").id == "mine"


def test_values_that_are_given_as_such_are_checked_too():
    assert from_values("x", "INT32", [2], [1, -1]).values.tolist() == [1, -1]
    with pytest.raises(BadRequest):
        from_values("x", "INT32", [2], [1, 2**31])


INFER = "/v2/models/scenes/infer"


@pytest.mark.parametrize("length", ["x", "-1", "1.0", "9" * 50, "1000000", "²", ""])
def test_a_head_whose_length_is_no_number_or_too_large_is_refused_over_http(client, length):
    assert error(client.post(INFER, content=b"{}", headers={LENGTH: length.encode()}), 400)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("face", ["scenes-tensor", "scenes-explain"])
def test_a_tensor_that_is_not_finite_is_refused_over_http(client, face, value):
    tensor = np.zeros((1, 3, 128, 128), "<f4")
    tensor[0, 1, 2, 3] = value
    body = binary(("input", "FP32", tensor.shape, tensor.tobytes()))
    assert "finite" in error(client.post(f"/v2/models/{face}/infer", **body), 400)


@pytest.mark.parametrize(
    ("datatype", "shape"),
    [
        ("FP32", [1, 3, 10, 10]),
        ("FP32", [3, 128, 128]),
        ("FP32", [0, 3, 128, 128]),
        ("UINT8", [1, 10, 10, 4]),
        ("UINT8", [1, 0, 10, 3]),
        ("UINT8", [300]),
        ("BOOL", [1, 10, 10, 3]),
        ("INT64", [1, 10, 10, 3]),
        ("BYTES", [1, 1, 1]),
        ("BYTES", []),
        ("BYTES", [0]),
        ("BYTES", [1]),
    ],
)
def test_a_tensor_that_holds_no_picture_is_refused_over_http(client, datatype, shape):
    count = int(np.prod(shape))
    data = bytes(4 * count) if datatype == "BYTES" else bytes(count * np.dtype(TYPES[datatype]).itemsize)
    assert error(client.post(INFER, **binary(("image", datatype, shape, data))), 400)


def test_a_bomb_is_refused_before_it_is_inflated(limited):
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 100_000
    refused = limited.client.post(INFER, content=bomb, headers={"Content-Encoding": "gzip", LENGTH: "0"})
    assert error(refused, 413)
