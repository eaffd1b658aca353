"""Every runtime computes what eager PyTorch computes, for any number of images; what doesn't is not used."""

import re
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
from gradcam_service.runtime import RUNTIMES, Contender, Workload, onnxruntime, openvino, raced
from gradcam_service.runtime import fastest as fastest_of
from gradcam_service.runtime._export import exported
from gradcam_service.runtime._fold import folded

CPU_RUNTIMES = ("onnxruntime", "openvino")
# Of each kind of operator some.
USUAL = ("densenet", "mobilenet_v3", "vit")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no compiler")


def built(runtime, backbone, images, precision="float32"):
    with torch.no_grad():
        return RUNTIMES[runtime].build(Workload(backbone, images, 8), precision)


def fastest(network, runtime, images, precision="float32", unacceptable=lambda _: "", backbone=None):
    work = Workload(backbone or network.cut.backbone, images, 8)
    with torch.no_grad():
        return fastest_of(network, work, runtime, precision, unacceptable)


def replaced(monkeypatch, module, build):
    """Have a runtime build something else."""
    monkeypatch.setattr(module, "RUNTIME", replace(module.RUNTIME, build=build))


def alone(monkeypatch, module):
    """Have no other runtime than that race."""
    for other in {onnxruntime, openvino} - {module}:
        monkeypatch.setattr(other, "RUNTIME", replace(other.RUNTIME, races=()))


def assert_same(backbone, eager, images):
    with torch.no_grad():
        for count in (1, 2, 3, 5):
            some = images[:count]
            assert error(backbone(some).cpu(), eager(some).cpu()) < 1e-4  # both sides' rounding; as in the race


def test_what_is_hopelessly_slow_is_tried_twice_and_what_is_alone_not_at_all():
    tried = []

    def timed(seconds):
        tried.append(seconds)
        return seconds

    others = [Contender("quick", "float32", 1.0), Contender("close", "float32", 1.4), "one can't"]
    found = raced(("slow", 3.0), others, timed, lambda _: "", may_stay=True)
    assert str(found.winner) == "quick"
    assert found.reasons == ("one can't", "close takes 1.40 of the time of quick")
    assert [tried.count(seconds) for seconds in (3.0, 1.0, 1.4)] == [2, 5, 5]
    tried.clear()
    assert raced(("slow", 3.0), others[:1], timed, lambda _: "", may_stay=False).winner is others[0]
    assert not tried


@pytest.mark.parametrize(
    "architecture",
    [name if name in USUAL else pytest.param(name, marks=pytest.mark.exhaustive) for name in ARCHITECTURES],
)
def test_runtimes_of_a_cpu_compute_the_same_from_one_export(architecture):
    eager = known(architecture).network.cut.backbone
    work, images = Workload(eager, picture(SIZE, count=2), 8), picture(SIZE, seed=3, count=5)
    with torch.no_grad():
        backbones = [RUNTIMES[name].build(work, "float32") for name in CPU_RUNTIMES]
    assert exported(work) is exported(work)
    for backbone in backbones:
        assert_same(backbone, eager, images)


@needs_compiler
@pytest.mark.exhaustive
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
@pytest.mark.parametrize("runtime", CPU_RUNTIMES)
def test_every_method_explains_alike_on_another_runtime(runtime, pooled):
    network = tiny(pooled)
    winner = fastest(network, runtime, picture(24, count=2)).winner
    assert (winner.runtime, winner.precision) == (runtime, "float32")
    other, images = network.with_backbone(winner.made), picture(24, seed=5)
    assert network.backbone is network.cut.backbone
    for method in METHODS:
        if method in refusals(network):
            continue
        (ours,), (eager,) = (answers(of, images, [cheaply(method, targets=(0, 3))]) for of in (other, network))
        assert ours.layer == eager.layer
        assert error(ours.maps, eager.maps) < 1e-4


def test_what_computes_something_else_is_not_used(monkeypatch):
    alone(monkeypatch, onnxruntime)
    replaced(monkeypatch, onnxruntime, lambda work, _: lambda images: work.backbone(images) * 1.001)
    outcome = fastest(tiny(), "auto", picture(24, count=2))
    assert outcome.winner is None
    assert outcome.reasons == ("onnxruntime computes features that differ by 1.0e-03 of the largest",)


def test_what_computes_nan_is_not_used(monkeypatch):
    replaced(monkeypatch, onnxruntime, lambda work, _: lambda images: work.backbone(images) * torch.nan)
    outcome = fastest(tiny(), "onnxruntime", picture(24, count=2))
    assert outcome.winner is None
    assert "differ by nan" in outcome.reasons[0]


def taking(seconds):
    """Builds what takes so long for each batch, whatever its precision."""

    def build(work, _):
        known = cache(lambda count: work.backbone(picture(24, count=2)[:count]))

        def features(images):
            time.sleep(seconds)
            return known(len(images))

        return features

    return build


def test_what_is_slower_is_used_only_if_it_is_asked_for(monkeypatch):
    alone(monkeypatch, onnxruntime)
    replaced(monkeypatch, onnxruntime, taking(0.1))
    outcome = fastest(tiny(), "auto", picture(24, count=2))
    assert outcome.winner is None
    assert re.fullmatch(r"onnxruntime takes [\d.]+ of the time of eager", outcome.reasons[0])
    assert fastest(tiny(), "onnxruntime", picture(24, count=2)).winner.runtime == "onnxruntime"


@pytest.mark.parametrize("best", ["openvino", "onnxruntime"])
def test_the_fastest_is_used_and_it_is_said_how_far_behind_the_others_are(monkeypatch, best):
    replaced(monkeypatch, openvino, taking(0 if best == "openvino" else 0.05))
    replaced(monkeypatch, onnxruntime, taking(0 if best == "onnxruntime" else 0.05))
    backbone = deepcopy(tiny().cut.backbone)  # which is slower than the best on a machine that is busy, too
    backbone.register_forward_pre_hook(lambda *_: time.sleep(0.02))
    outcome = fastest(tiny(), "auto", picture(24, count=2), backbone=backbone)
    assert outcome.winner.runtime == best
    (reason,) = outcome.reasons
    assert reason.endswith(f"of the time of {best}")


def by_precision(**seconds):
    """Builds what takes so long in each precision."""
    return lambda work, precision: taking(seconds[precision])(work, precision)


@pytest.mark.parametrize(
    ("precision", "faster", "used"),
    [
        ("float32", "bfloat16", "float32"),
        ("auto", "bfloat16", "bfloat16"),
        ("auto", "float32", "float32"),
        ("bfloat16", "bfloat16", "bfloat16"),
    ],
)
def test_less_precision_is_used_where_it_is_allowed_and_faster(monkeypatch, precision, faster, used):
    alone(monkeypatch, openvino)
    seconds = {"float32": 0.02, "bfloat16": 0.02} | {faster: 0.0}
    replaced(monkeypatch, openvino, by_precision(**seconds))
    winner = fastest(tiny(), "openvino", picture(24, count=2), precision).winner
    assert (winner.runtime, winner.precision) == ("openvino", used)


@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
def test_what_is_not_accepted_in_bfloat16_is_computed_in_float32_and_it_is_said_why(monkeypatch, precision):
    alone(monkeypatch, openvino)
    replaced(monkeypatch, openvino, by_precision(float32=0.02, bfloat16=0.0))
    outcome = fastest(tiny(), "openvino", picture(24, count=2), precision, lambda _: "maps differ")
    assert outcome.winner.precision == "float32"
    assert "openvino in bfloat16 is not accepted: maps differ" in outcome.reasons


def test_a_runtime_that_knows_only_float32_computes_in_that():
    outcome = fastest(tiny(), "onnxruntime", picture(24, count=2), "bfloat16")
    assert (outcome.winner.runtime, outcome.winner.precision) == ("onnxruntime", "float32")
    assert outcome.reasons == ("onnxruntime does not compute in bfloat16",)


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
    outcome = fastest(network, "auto", picture(24, count=2))
    assert outcome.winner is None
    assert set(outcome.reasons) == {f"{name} can't run it: ONNX has no runtimes.double" for name in CPU_RUNTIMES}


@pytest.mark.parametrize(
    ("runtime", "reason"),
    [("eager", "it stays as it is"), ("cuda_graphs", "cuda_graphs is not for a cpu device")],
)
def test_what_is_not_to_be_faster_stays(runtime, reason):
    outcome = fastest(tiny(), runtime, picture(24, count=2))
    assert (outcome.winner, outcome.reasons) == (None, (reason,))


def test_a_network_without_feature_maps_stays():
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 6)), (3, 8, 8))
    assert fastest(network, "auto", picture(8, count=2)).reasons == ("it stays as it is",)
