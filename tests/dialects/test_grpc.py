"""gRPC by its messages, without anybody's client."""

import signal
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from api.calls import encoded, explain, photo, values
from exposed import value
from gradcam_service.api.grpc.protocol import health_pb2, inference_pb2
from live import PATIENCE, running_eagerly, until

from .channel import SERVICE, Channel, address, output, pictures

Code = grpc.StatusCode
InferRequestedOutput = inference_pb2.ModelInferRequest.InferRequestedOutputTensor
PICTURE = encoded(photo(200, 150), "PNG")


@pytest.fixture(scope="module")
def channel(service):
    with Channel(service, x_request_id="of-the-caller") as opened:
        yield opened


def refused(code, call, *given, **members):
    """What an error says, whose code is as expected."""
    with pytest.raises(grpc.RpcError) as raised:
        call(*given, **members)
    assert raised.value.code() is code, raised.value.details()
    return raised.value.details()


def test_it_is_alive_and_ready(channel):
    assert channel.call("ServerLive")[0].live
    assert channel.call("ServerReady")[0].ready
    assert channel.call("ModelReady", name="scenes")[0].ready
    for service in ("", SERVICE):
        assert channel.call("Check", service=service)[0].status == health_pb2.HealthCheckResponse.SERVING
    assert "no service 'other'" in refused(Code.NOT_FOUND, channel.call, "Check", service="other")
    for model in ({"name": "nothing"}, {"name": "scenes", "version": "7"}):
        assert not channel.call("ModelReady", **model)[0].ready  # as Triton's server tells its client, no error


def test_health_is_watched(channel):
    assert next(channel.watch(SERVICE)) == health_pb2.HealthCheckResponse.SERVING
    assert next(channel.watch("other")) == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def test_metadata_are_those_of_rest(channel, service):
    told, _ = channel.call("ModelMetadata", name="scenes-tensor")
    said = service.get("/v2/models/scenes-tensor").json()
    assert (told.name, list(told.versions), told.platform) == (said["name"], said["versions"], said["platform"])
    described = [(one.name, one.datatype, list(one.shape)) for one in [*told.inputs, *told.outputs]]
    assert described == [(one["name"], one["datatype"], one["shape"]) for one in [*said["inputs"], *said["outputs"]]]
    assert list(channel.call("ServerMetadata")[0].extensions) == service.get("/v2").json()["extensions"]


def test_a_map_is_that_of_the_native_protocol(channel, service):
    told, trailing = channel.call("ModelInfer", model_name="scenes-explain", id="mine", **pictures(PICTURE))
    native = explain(service.client, PICTURE, model="scenes", output="map")
    np.testing.assert_array_equal(output(told, "map")[0], values(native["map"]))
    assert (told.id, told.model_name, trailing["x-request-id"]) == ("mine", "scenes-explain", "of-the-caller")
    assert trailing["server-timing"].startswith("read;")


def test_contents_and_gzip_answer_as_raw_bytes_do(channel):
    plain, _ = channel.call("ModelInfer", model_name="scenes", **pictures(PICTURE))
    contents = inference_pb2.InferTensorContents(bytes_contents=[PICTURE])
    tensor = inference_pb2.ModelInferRequest.InferInputTensor(
        name="image", datatype="BYTES", shape=[1], contents=contents
    )
    by_contents, _ = channel.call("ModelInfer", model_name="scenes", inputs=[tensor])
    zipped, _ = channel.call("ModelInfer", compression=grpc.Compression.Gzip, model_name="scenes", **pictures(PICTURE))
    bare = pictures(PICTURE) | {"raw_input_contents": [PICTURE]}  # without its length
    by_itself, _ = channel.call("ModelInfer", model_name="scenes", **bare)
    for other in (by_contents, zipped, by_itself):
        np.testing.assert_array_equal(output(other, "scores"), output(plain, "scores"))


def numbers(datatype, member, values):
    contents = inference_pb2.InferTensorContents(**{member: values})
    return inference_pb2.ModelInferRequest.InferInputTensor(
        name="input", datatype=datatype, shape=[1, 3, 128, 128], contents=contents
    )


def test_floats_in_contents_are_the_same_as_raw(channel):
    floats = np.random.default_rng(0).normal(size=(1, 3, 128, 128)).astype(np.float32)
    raw = inference_pb2.ModelInferRequest.InferInputTensor(name="input", datatype="FP32", shape=floats.shape)
    expected, _ = channel.call(
        "ModelInfer", model_name="scenes-tensor", inputs=[raw], raw_input_contents=[floats.tobytes()]
    )
    inputs = [numbers("FP32", "fp32_contents", floats.ravel().tolist())]
    found, _ = channel.call("ModelInfer", model_name="scenes-tensor", inputs=inputs)
    np.testing.assert_array_equal(output(found, "scores"), output(expected, "scores"))


def test_a_stream_answers_each_request_and_ends_with_none(channel):
    good = inference_pb2.ModelInferRequest(model_name="scenes", id="one", **pictures(PICTURE))
    bad = inference_pb2.ModelInferRequest(model_name="nothing", id="two", **pictures(PICTURE))
    first, second, third = channel.stream([good, bad, good])
    assert "no model 'nothing'" in second.error_message
    assert [one.infer_response.id for one in (first, second, third)] == ["one", "two", "one"]
    assert not first.error_message
    np.testing.assert_array_equal(output(first.infer_response, "scores"), output(third.infer_response, "scores"))


def raw(name, datatype, shape, *data):
    tensor = inference_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    return {"inputs": [tensor], "raw_input_contents": data}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (raw("image", "BYTES", [2], b"\xff\xff\xff\x7fabcd"), "element 0 is to have 2147483647 bytes, but 4 follow"),
        (raw("image", "BYTES", [1], PICTURE, PICTURE), "2 raw_input_contents for 1 inputs"),
        (raw("image", "BYTES", [2], b"\xff\xff\xff\x7fabc"), "7 bytes, and 2 elements of BYTES, which don't fit"),
        (raw("input", "FP32", [2**40, 2**40, 3, 3], b""), f"has 0 bytes; FP32 of shape [{2**40}, {2**40}, 3, 3] takes"),
        (raw("input", "FP32", [-1, 3, 128, 128], b""), "sizes from 0 on would do"),
        (raw("input", "FP32", [1, 3, 128, 128], b"\0" * 8), "has 8 bytes; FP32 of shape [1, 3, 128, 128] takes 196608"),
        (raw("image", "STRING", [1], PICTURE), "is of datatype 'STRING'; there are BOOL, "),
        ({"inputs": [numbers("FP16", "fp32_contents", [0.0])]}, "contents can't be FP16"),
        ({"inputs": [numbers("UINT8", "uint_contents", [256] * 49152)]}, "contents are beyond UINT8"),
        ({"inputs": [numbers("FP32", "fp32_contents", [0.0])]}, "has 1 elements"),
        ({"inputs": [numbers("FP32", "fp32_contents", [])] * 3}, "3 inputs are given; at most 2"),
        ({"outputs": [InferRequestedOutput()] * 7}, "7 outputs are given; at most 6"),
        ({"parameters": {str(i): inference_pb2.InferParameter(bool_param=True) for i in range(101)}}, "at most 100"),
        (
            {"parameters": {"alpha": inference_pb2.InferParameter(double_param=float("nan"))}},
            "'alpha' is nan; a finite",
        ),
        (raw("input", "FP32", [1] * 9, b""), "8 sizes"),
        ({}, "0 inputs are given; one of pictures"),
    ],
)
def test_hostile_messages_are_refused(channel, members, said):
    assert said in refused(Code.INVALID_ARGUMENT, channel.call, "ModelInfer", model_name="scenes", **members)


def test_shared_memory_is_not_offered(channel):
    given = raw("image", "BYTES", [1], PICTURE)
    given["inputs"][0].parameters["shared_memory_region"].string_param = "a"
    assert "'image': there is no shared" in refused(
        Code.UNIMPLEMENTED, channel.call, "ModelInfer", model_name="scenes", **given
    )


def test_an_answer_without_an_id_of_its_own_has_the_requests(service):
    with Channel(service) as channel:
        told, trailing = channel.call("ModelInfer", model_name="scenes", **pictures(PICTURE))
    assert told.id == trailing["x-request-id"]


def test_what_is_no_message_is_refused(channel):
    answer = inference_pb2.ModelInferResponse
    for data in (b"\xff" * 100, PICTURE):
        assert "no ModelInferRequest" in refused(
            Code.INVALID_ARGUMENT, channel.send, SERVICE, "ModelInfer", data, answer
        )
    refused(Code.UNIMPLEMENTED, channel.send, SERVICE, "SystemSharedMemoryStatus", b"", answer)
    for name in ("", "scenes/infer", "../v2"):
        refused(Code.INVALID_ARGUMENT, channel.call, "ModelInfer", model_name=name, **pictures(PICTURE))


INPUT, RAW, GROUP, GROUPS_END = b"\x2a\x00", b"\x3a\x00", b"\x0b", b"\x0c"
CONTENTS = b"\x42\x00" * 2**15
OF_CONTENTS = b"\x2a\x84\x80\x04" + b"\x2a\x80\x80\x04" + CONTENTS
"""An input of 65540 bytes, whose contents are 65536 bytes of elements of no bytes."""


@pytest.mark.parametrize("data", [INPUT * 2**20 + RAW * 2**20, OF_CONTENTS, GROUP + GROUPS_END + INPUT * 2**15])
def test_a_message_of_countless_parts_is_refused_before_they_are_made(channel, data):
    answer = inference_pb2.ModelInferResponse
    said = refused(Code.INVALID_ARGUMENT, channel.send, SERVICE, "ModelInfer", data, answer)
    assert said == "malformed: the message has more than 16384 fields, the most that are accepted"


def test_countless_integers_are_refused_before_they_are_parsed(channel):
    contents = inference_pb2.InferTensorContents(int_contents=[1] * (2**22 + 1))
    tensor = inference_pb2.ModelInferRequest.InferInputTensor(datatype="INT8", shape=[2**22 + 1], contents=contents)
    said = refused(Code.INVALID_ARGUMENT, channel.call, "ModelInfer", model_name="scenes", inputs=[tensor])
    assert said == "malformed: int_contents has 4194305 bytes, 4194304 at most; raw_input_contents takes more"


def test_long_names_are_refused_in_short_words(channel):
    said = refused(Code.INVALID_ARGUMENT, channel.call, "ModelReady", name="x" * 65537)
    assert said == "malformed: name has 65537 bytes; at most 65536 are accepted"
    said = refused(Code.INVALID_ARGUMENT, channel.call, "ModelReady", name="x" * 65536)
    assert said == f"malformed: '{'x' * 100}…' is no model's name or version"
    twice = raw("é" * 32768, "FP32", [1], b"")
    twice["inputs"][0].contents.fp32_contents.append(0)
    said = refused(Code.INVALID_ARGUMENT, channel.call, "ModelInfer", model_name="scenes", **twice)
    assert said.startswith("malformed: input éé")
    assert len(said) == 1000


def test_a_model_is_called_what_all_statistics_are(channel):
    assert "no model 'stats'" in refused(Code.NOT_FOUND, channel.call, "ModelMetadata", name="stats")


def test_what_is_refused_by_grpc_itself_leaves_its_traces(service):
    def counted():
        return value(service.client, "gradcam_rejected_total", reason="malformed")

    before = counted()
    with Channel(service, x_request_id="refused-by-grpc") as channel, pytest.raises(grpc.RpcError) as raised:
        channel.call("ModelReady", name="1/ready")
    assert raised.value.details() == "malformed: '1/ready' is no model's name or version"
    assert dict(raised.value.trailing_metadata())["x-request-id"] == "refused-by-grpc"
    until(counted, before + 1)
    until(
        lambda: [one["problem"] for one in service.records() if one.get("request_id") == "refused-by-grpc"],
        ["malformed"],
    )


def test_a_deadline_is_kept(channel):
    slow = pictures(PICTURE) | {"parameters": {"method": inference_pb2.InferParameter(string_param="rise")}}
    refused(Code.DEADLINE_EXCEEDED, channel.call, "ModelInfer", timeout=0.3, model_name="scenes-explain", **slow)
    own = slow["parameters"] | {"timeout": inference_pb2.InferParameter(int64_param=300_000)}  # µs
    members = {**slow, "parameters": own}
    assert refused(Code.DEADLINE_EXCEEDED, channel.call, "ModelInfer", model_name="scenes-explain", **members)


def test_calls_are_counted_and_logged_as_those_of_rest(channel, service):
    def counted():
        return value(
            service.client, "gradcam_requests_total", endpoint="/v2/models/{name}/infer", model="scenes", status="200"
        )

    before = counted()
    channel.call("ModelInfer", model_name="scenes", **pictures(PICTURE))
    until(counted, before + 1)
    assert any(record.get("request_id") == "of-the-caller" for record in service.records())


def test_all_api_processes_share_the_port(service):
    port = int(address(service).rpartition(":")[2])
    listening = {
        process.pid
        for process in service.children()
        if any(one.laddr.port == port and one.status == "LISTEN" for one in process.net_connections("tcp"))
    }
    assert listening == set(service.pids("api"))


def test_it_needs_a_key_where_http_does_and_has_its_limits(tmp_path):
    (tmp_path / "keys.txt").write_text(f"me {'2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae'}\n")
    with running_eagerly(
        api_keys=tmp_path / "keys.txt",
        grpc_port=0,
        max_body_bytes=100_000,
        drain_seconds=2 * PATIENCE,
        notice_seconds=2,
    ) as service:
        with Channel(service) as stranger:
            assert stranger.call("ServerReady")[0].ready
            refused(Code.UNAUTHENTICATED, stranger.call, "ModelInfer", model_name="scenes", **pictures(PICTURE))
        with Channel(service, authorization="Bearer foo") as known:
            known.call("ModelInfer", model_name="scenes", **pictures(PICTURE))
            for compression in (None, grpc.Compression.Gzip):  # of little once it is compressed
                for size in (100_001, 10_000_000):
                    large = pictures(b"\0" * size)
                    refused(
                        Code.RESOURCE_EXHAUSTED,
                        known.call,
                        "ModelInfer",
                        compression=compression,
                        model_name="scenes",
                        **large,
                    )
            rise = {"method": inference_pb2.InferParameter(string_param="rise")}
            rise |= {"masks": inference_pb2.InferParameter(int64_param=300)}
            slow = pictures(PICTURE) | {"parameters": rise}
            watching = known.watch()
            assert next(watching) == health_pb2.HealthCheckResponse.SERVING
            with ThreadPoolExecutor() as pool:
                begun = value(service.client, "gradcam_in_flight")
                answering = pool.submit(known.call, "ModelInfer", model_name="scenes-explain", **slow)
                until(lambda: value(service.client, "gradcam_in_flight") > begun)
                service.process.send_signal(signal.SIGTERM)
                assert answering.result()[0].outputs  # what was accepted is finished
                assert list(watching) == [health_pb2.HealthCheckResponse.NOT_SERVING]
                service.process.wait(PATIENCE)  # which isn't kept by who watches
                refused(Code.UNAVAILABLE, known.call, "ServerLive")
