"""Every runtime computes what eager PyTorch computes, for any number of images; what doesn't is not used."""

import shutil
import time
from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch
from methods.networks import ARCHITECTURES, SIZE, Tiny, answers, calibrated, cheaply, error, known, picture, tiny
from torch import nn

from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.network import Network
from gradcam_service.explain.suitability import refusals
from gradcam_service.runtime import RUNTIMES, onednn, onnxruntime
from gradcam_service.runtime import fastest as fastest_of
from gradcam_service.runtime._fold import folded

# Of each kind of operator some.
USUAL = ("resnet18", "densenet", "mobilenet_v3", "convnext", "vit")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no compiler")


def built(runtime, backbone, images, most=8, precision="float32"):
    with torch.no_grad():
        return RUNTIMES[runtime].build(backbone, images, most, precision)


def fastest(*arguments):
    with torch.no_grad():
        return fastest_of(*arguments)


def replaced(monkeypatch, module, build):
    """Have a runtime build something else."""
    monkeypatch.setattr(module, "RUNTIME", replace(module.RUNTIME, build=build))


def assert_same(backbone, eager, images):
    with torch.no_grad():
        for count in (1, 2, 3, 5):
            some = images[:count]
            assert error(backbone(some).cpu(), eager(some).cpu()) < 5e-5


@pytest.mark.parametrize(
    "architecture",
    [name if name in USUAL else pytest.param(name, marks=pytest.mark.exhaustive) for name in ARCHITECTURES],
)
def test_onnx_runtime_computes_the_same(architecture):
    eager = known(architecture).network.cut.backbone
    assert_same(built("onnxruntime", eager, picture(SIZE, count=2)), eager, picture(SIZE, seed=3, count=5))


@pytest.mark.parametrize("architecture", USUAL)
def test_onednn_computes_the_same_and_in_bfloat16_what_that_can_say(architecture):
    eager, images = known(architecture).network.cut.backbone, picture(SIZE, seed=3, count=5)
    assert_same(built("onednn", eager, images), eager, images)
    with torch.no_grad():
        rounded = built("onednn", eager, images, precision="bfloat16")(images)
        assert rounded.dtype is torch.float32
        assert rounded.is_contiguous()
        assert 2**-9 / 4 < error(rounded, eager(images)) < 0.05  # of a mantissa of 8 bits


@needs_compiler
def test_compiled_code_computes_the_same():
    eager = tiny().cut.backbone
    assert_same(built("compile", eager, picture(24, count=2)), eager, picture(24, seed=3, count=5))


@needs_gpu
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_cuda_graphs_compute_the_same(architecture):
    network = Network(deepcopy(known(architecture).module), (3, SIZE, SIZE)).to(torch.device("cuda"))
    eager, images = network.cut.backbone, picture(SIZE, seed=3, count=5).cuda()
    with torch.no_grad():
        captured = built("cuda_graphs", eager, images)
        first, second = captured(images[:2]), captured(images[2:4])
        expected = eager(images)
    assert error(first.cpu(), expected[:2].cpu()) < 1e-3  # the second did not overwrite it; TF32
    assert error(second.cpu(), expected[2:4].cpu()) < 1e-3


@pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v2", "googlenet", "densenet"])
def test_folded_batch_normalisation_computes_the_same_in_double_precision(architecture):
    backbone = deepcopy(known(architecture).network.cut.backbone).double()
    images = picture(SIZE, count=2).double()
    with torch.no_grad():
        assert error(folded(backbone)(images), backbone(images)) < 1e-12


def normalisations(network):
    return sum("batch_norm" in str(node.target) for node in network.graph.nodes)


def test_only_normalisations_of_what_nothing_else_uses_are_folded():
    class Reused(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, bias=False)
            self.shared = nn.BatchNorm2d(4)
            self.head = nn.Linear(4, 6)

        def forward(self, x):
            x = self.first(x)
            x = self.second(x + self.shared(x))
            return self.head(torch.relu(self.shared(x)).mean(dim=(2, 3)))

    backbone = Network(calibrated(Reused(), 24), (3, 24, 24)).cut.backbone
    images = picture(24, count=2)
    before = backbone(images)
    result = folded(backbone)
    assert (normalisations(backbone), normalisations(result)) == (2, 1)
    assert error(result(images), before) < 1e-5
    assert torch.equal(backbone(images), before)
    assert normalisations(folded(known("resnet18").network.cut.backbone)) == 0


@pytest.mark.parametrize("pooled", [True, False])
def test_every_method_explains_alike_on_another_runtime(pooled):
    network = tiny(pooled)
    runtime, backbone = fastest(network, "onnxruntime", picture(24, count=2), 8)
    assert runtime == "onnxruntime"
    other, images = network.with_backbone(backbone), picture(24, seed=5)
    assert network.backbone is network.cut.backbone
    for method in METHODS:
        if method in refusals(network):
            continue
        (ours,), (eager,) = (answers(of, images, [cheaply(method, targets=(0, 3))]) for of in (other, network))
        assert ours.layer == eager.layer
        assert error(ours.maps, eager.maps) < 1e-4


def test_what_computes_something_else_is_not_used(monkeypatch):
    def wrong(backbone, *_):
        return lambda images: backbone(images) * 1.001

    replaced(monkeypatch, onnxruntime, wrong)
    reason = fastest(tiny(), "auto", picture(24, count=2), 8)
    assert reason == "onnxruntime computes features that differ by 1.0e-03 of the largest"


def test_what_computes_nan_is_not_used(monkeypatch):
    replaced(monkeypatch, onnxruntime, lambda backbone, *_: lambda images: backbone(images) * torch.nan)
    assert "differ by nan" in fastest(tiny(), "onnxruntime", picture(24, count=2), 8)


def test_what_is_slower_is_used_only_if_it_is_asked_for(monkeypatch):
    def slow(backbone, *_):
        def features(images):
            time.sleep(0.1)
            return backbone(images)

        return features

    replaced(monkeypatch, onnxruntime, slow)
    assert "onnxruntime is not faster" in fastest(tiny(), "auto", picture(24, count=2), 8)
    assert fastest(tiny(), "onnxruntime", picture(24, count=2), 8)[0] == "onnxruntime"


@pytest.mark.parametrize("best", ["onednn", "onnxruntime"])
def test_bfloat16_is_used_where_it_is_the_fastest(monkeypatch, best):
    def taking(seconds):
        def build(backbone, *_):
            known = cache(lambda count: backbone(picture(24, count=2)[:count]))

            def features(images):
                time.sleep(seconds)
                return known(len(images))

            return features

        return build

    replaced(monkeypatch, onednn, taking(0 if best == "onednn" else 0.05))
    replaced(monkeypatch, onnxruntime, taking(0 if best == "onnxruntime" else 0.05))
    assert fastest(tiny(), "auto", picture(24, count=2), 8, "bfloat16")[0] == best
    assert "onednn" not in fastest(tiny(), "auto", picture(24, count=2), 8)  # nobody asked for less precision


@torch.library.custom_op("runtimes::double", mutates_args=())
def double(images: torch.Tensor) -> torch.Tensor:
    return images * 2


@double.register_fake
def _(images):
    return torch.empty_like(images)


def test_an_operator_that_a_runtime_lacks_is_named():
    class Odd(Tiny):
        def forward(self, x):
            return super().forward(double(x))

    network = Network(calibrated(Odd(), 24), (3, 24, 24))
    reason = fastest(network, "auto", picture(24, count=2), 8)
    assert reason == "onnxruntime can't run it: ONNX has no runtimes.double"


@pytest.mark.parametrize(
    ("runtime", "reason"),
    [("eager", "it stays as it is"), ("cuda_graphs", "cuda_graphs is not for a cpu device")],
)
def test_what_is_not_to_be_faster_stays(runtime, reason):
    assert fastest(tiny(), runtime, picture(24, count=2), 8) == reason


def test_a_network_without_feature_maps_stays():
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 6)), (3, 8, 8))
    assert fastest(network, "auto", picture(8, count=2), 8) == "it stays as it is"
