"""Half precision comes near single precision, and gradients are those of finite differences in double precision."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from torch.nn.functional import cosine_similarity

from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.methods.finercam import Finer
from gradcam_service.explain.methods.gradcam_plus_plus import gradcam_plus_plus
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit

from .networks import CLASSES, SIZE, error, known, maps_of, picture, tiny_module


@cache
def double(architecture):
    return network_of(architecture, torch.float64)


def network_of(architecture, dtype):
    return Network(deepcopy(known(architecture).module), (3, SIZE, SIZE)).to(dtype)


@cache
def half(dtype):
    return network_of("resnet18", dtype)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in (1, 2))])
@pytest.mark.parametrize("method", ["gradcam", "gradcam_plus_plus", "hirescam", "layercam"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_maps_in_half_precision_are_nearly_those_in_single_precision(dtype, method, seed):
    single, image = known("resnet18").network, picture(SIZE, seed)
    targets = single.scores(image)[0].argsort(descending=True)[:2].tolist()
    theirs = maps_of(single, image, method, targets)
    ours = maps_of(half(dtype), image.to(dtype), method, targets)
    assert ours.dtype == torch.float32
    assert ours.isfinite().all()
    assert theirs.flatten(1).any(dim=1).all()
    assert (cosine_similarity(ours.flatten(1), theirs.flatten(1)) >= 0.99).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_gradcam_plus_plus_in_half_precision_where_squares_of_gradients_underflow(dtype):
    """At most 5·10⁻⁴, as of a 7 by 7 grid; the square of most is 0 in float16."""
    case, network = known("resnet18"), half(dtype)
    features = network.predict(case.image.to(dtype))[0].features
    objective = Logit(torch.tensor([case.target]))
    gradients = network.cut.head.gradients(Frontier(features), lambda scores: objective(scores) * 2**-7)
    expected = gradcam_plus_plus(features.double(), gradients.double())
    assert error(gradcam_plus_plus(features, gradients).double(), expected) < 0.02


def test_a_network_is_moved_whole_its_guided_copy_too():
    network = Network(tiny_module(), (3, 24, 24))
    expected = maps_of(network, picture(24), "guided_backprop", range(CLASSES))
    network.to(torch.float64)
    ours = maps_of(network, picture(24).double(), "guided_backprop", range(CLASSES))
    assert error(ours, expected) < 1e-5


CUTS = [
    ("resnet18", "layer4"), ("resnext", "layer3"), ("densenet", "auto"), ("swin", "norm"), ("mobilenet_v3", "auto"),
    *(pytest.param(name, "auto", marks=pytest.mark.exhaustive) for name in ("swin", "vit")),
]  # fmt: skip


@pytest.mark.parametrize(
    "objective", [Logit(torch.tensor([2])), Finer(Logit(torch.tensor([2])), 0.7, references=3)], ids=["y", "finer"]
)
@pytest.mark.parametrize(("architecture", "layer"), CUTS)
def test_gradients_of_the_head_are_those_of_finite_differences(architecture, layer, objective):
    cut = double(architecture).cut_at(layer)
    layout = cut.layer.layout
    with torch.no_grad():
        features = cut.backbone(known(architecture).image.double())
    gradients = cut.head.gradients(Frontier(features), objective)
    assert gradients.shape == (1, *cut.layer.shape)
    generator, step = torch.Generator().manual_seed(0), 1e-6
    for _ in range(8):
        direction = torch.randn(features.shape, generator=generator, dtype=torch.float64)
        if layout.prefix:
            direction[:, : layout.prefix] = 0
        forwards, backwards = (objective(cut.head.scores(Frontier(features + h * direction))) for h in (step, -step))
        slope = float((forwards - backwards) / (2 * step))
        product = gradients * layout.to_grid(direction)
        assert slope == pytest.approx(float(product.sum()), abs=1e-6 * float(product.abs().sum()))
        assert product.any()
