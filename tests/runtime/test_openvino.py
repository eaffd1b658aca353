"""OpenVINO beside torch: its threads, its results, what it keeps on the disk, and that it calls nobody."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import cache, partial

import pytest
import torch
from methods.networks import SIZE, error, known, picture

from gradcam_service.runtime import RUNTIMES, Workload, fastest, openvino
from gradcam_service.runtime._export import ELSEWHERE, exported

needs_bfloat16 = pytest.mark.skipif(not openvino.has_bfloat16(), reason="this processor has no units for bfloat16")


@cache
def onnx(architecture):
    """The backbone as it is exported, once for all tests."""
    return exported(Workload(known(architecture).network.cut.backbone, picture(SIZE, count=2), 8))


def work(folder=None, architecture="resnet18"):
    backbone = copy(known(architecture).network.cut.backbone)
    backbone.meta = backbone.meta | {ELSEWHERE: partial(onnx, architecture)}
    return Workload(backbone, picture(SIZE, count=2), 8, folder)


def built(workload, precision="float32"):
    with torch.no_grad():
        return RUNTIMES["openvino"].build(workload, precision)


@pytest.fixture(scope="module")
def backbone():
    return built(work())


def test_any_number_of_images_at_once_is_what_each_is_alone(backbone):
    images = picture(SIZE, seed=4, count=8)
    together = backbone(images)
    for count in range(1, 9):
        assert error(backbone(images[:count]), together[:count]) < 1e-5


def test_a_second_call_leaves_the_first_ones_result_as_it_is(backbone):
    images = picture(SIZE, seed=5, count=2)
    first = backbone(images[:1])
    before = first.clone()
    second = backbone(images[1:])
    assert torch.equal(first, before)
    assert not torch.equal(first, second)


def test_images_that_do_not_lie_in_order_are_computed_as_they_are(backbone):
    images = picture(SIZE, seed=6, count=2)
    assert torch.equal(backbone(images.to(memory_format=torch.channels_last)), backbone(images))


def test_several_threads_may_call_at_once(backbone):
    images = [picture(SIZE, seed=seed) for seed in range(12)]
    expected = [backbone(image) for image in images]
    with ThreadPoolExecutor(4) as threads:
        assert all(map(torch.equal, threads.map(backbone, images), expected))


@pytest.mark.parametrize("threads", [1, 2])
def test_it_computes_on_as_many_threads_as_torch(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert openvino.compiled(work(), "float32").get_property("INFERENCE_NUM_THREADS") == threads
    finally:
        torch.set_num_threads(before)


def test_float32_is_float32_on_a_processor_with_less_too():
    assert openvino.compiled(work(), "float32").get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


@pytest.mark.skipif(openvino.has_bfloat16(), reason="this processor has units for bfloat16")
def test_bfloat16_is_not_emulated():
    network = known("resnet18").network
    with torch.no_grad():
        outcome = fastest(network, work(), "openvino", "bfloat16")
    assert (outcome.winner.runtime, outcome.winner.precision) == ("openvino", "float32")
    assert outcome.reasons == ("openvino in bfloat16 can't run it: the processor has no units for bfloat16",)


@needs_bfloat16
@pytest.mark.parametrize("architecture", ["resnet18", pytest.param("vit", marks=pytest.mark.exhaustive)])
def test_bfloat16_computes_what_a_mantissa_of_8_bits_can_say(architecture):
    workload, images = work(architecture=architecture), picture(SIZE, seed=3, count=5)
    with torch.no_grad():
        rounded = built(workload, "bfloat16")(images)
        assert rounded.dtype is torch.float32
        assert 2**-9 / 4 < error(rounded, workload.backbone(images)) < 0.1


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_was_compiled_is_kept_and_read_again(tmp_path):
    images = picture(SIZE, seed=7)
    expected = built(work(tmp_path))(images)
    kept = {path: path.stat().st_mtime_ns for path in files(tmp_path)}
    assert kept
    assert torch.equal(built(work(tmp_path))(images), expected)
    assert {path: path.stat().st_mtime_ns for path in files(tmp_path)} == kept


def damaged(path):
    path.write_bytes(os.urandom(path.stat().st_size))


def shortened(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def turned(path):
    """A bit of the weights is another."""
    content = bytearray(path.read_bytes())
    content[-len(content) // 4] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [os.remove, damaged, shortened, turned, lambda path: path.write_bytes(b"")])
def test_what_is_kept_may_be_deleted_or_damaged_at_any_time(tmp_path, harm):
    images = picture(SIZE, seed=7)
    expected = built(work(tmp_path))(images)
    for path in files(tmp_path):
        harm(path)
    assert torch.equal(built(work(tmp_path))(images), expected)


def test_where_nothing_can_be_kept_it_computes_all_the_same(tmp_path):
    (tmp_path / "file").write_text("no folder")
    images = picture(SIZE, seed=7)
    assert torch.equal(built(work(tmp_path / "file"))(images), built(work())(images))


CALLS = """
import sys
calls = []
sys.addaudithook(lambda event, _: calls.append(event) if event.startswith("socket.") else None)
import torch
from pathlib import Path
from gradcam_service.runtime import RUNTIMES, Workload
from gradcam_service.runtime._export import ELSEWHERE
backbone, images = torch.fx.symbolic_trace(torch.nn.Identity()), torch.zeros(2, 3, 64, 64)
backbone.meta[ELSEWHERE] = Path(sys.argv[1]).read_bytes
assert RUNTIMES["openvino"].build(Workload(backbone, images, 8), "float32")(images).shape[0] == 2
assert "openvino" in sys.modules
print(calls, "openvino_telemetry" in sys.modules)
"""


def test_it_calls_nobody(tmp_path):
    """Not its maker, as the package openvino-telemetry would, which comes with it."""
    (tmp_path / "backbone.onnx").write_bytes(onnx("resnet18"))
    done = subprocess.run([sys.executable, "-c", CALLS, tmp_path / "backbone.onnx"], capture_output=True)
    assert done.stdout.decode().split("\n")[-2] == "[] False", done.stderr.decode()
