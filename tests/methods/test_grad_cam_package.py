"""pytorch-grad-cam's raw maps, before they are scaled, on torchvision's architectures."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from lazily import Lazily
from torch import nn

from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.methods.gradcam_plus_plus import gradcam_plus_plus
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit

from .networks import ARCHITECTURES, CLASSES, calibrated, error, known, maps_of, picture, tiny, tiny_module, usual

pytorch_grad_cam, targets = Lazily("pytorch_grad_cam"), Lazily("pytorch_grad_cam.utils.model_targets")
TO_GRID = {
    "swin": lambda values: values.permute(0, 3, 1, 2),
    "vit": lambda values: values[:, 1:].transpose(1, 2).unflatten(2, (4, 4)),
}


def keeping(method):
    """The package's method of a name, which keeps its last map as it is before scaling."""

    class Keeping(getattr(pytorch_grad_cam, method)):
        def get_cam_image(self, *args):
            self.raw = torch.as_tensor(super().get_cam_image(*args))
            return self.raw.numpy()

    return Keeping


def raw(method, module, layer, image, target, **options):
    """The package's map of one image without its ReLU."""
    with keeping(method)(module, [module.get_submodule(layer)], **options) as peer:
        peer(image, [target if callable(target) else targets.ClassifierOutputTarget(target)])
        return peer.raw


def raw_of(architecture, method, target=None):
    case = known(architecture)
    reshape = TO_GRID.get(architecture)
    return raw(
        method,
        case.module,
        case.layer,
        case.image,
        case.target if target is None else target,
        reshape_transform=reshape,
    )


@pytest.mark.parametrize("architecture", usual(ARCHITECTURES))
@pytest.mark.parametrize(
    ("method", "theirs"), [("gradcam", "GradCAM"), ("layercam", "LayerCAM"), ("xgradcam", "XGradCAM")]
)
def test_methods_of_gradients(architecture, method, theirs):
    case = known(architecture)
    ours = maps_of(case.network, case.image, method, [case.target], case.layer)
    assert error(ours, raw_of(architecture, theirs).relu()) < 1e-4


@pytest.mark.parametrize("architecture", usual(ARCHITECTURES))
def test_hirescam(architecture):
    """ViT's is zero where only layer norms follow (see `test_layouts`), so it is compared at a layer before."""
    case = known(architecture)
    layer = "conv_proj" if architecture == "vit" else case.layer
    reshape = TO_GRID["swin"] if architecture == "swin" else None
    theirs = raw("HiResCAM", case.module, layer, case.image, case.target, reshape_transform=reshape)
    assert error(maps_of(case.network, case.image, "hirescam", [case.target], layer), theirs.relu()) < 1e-4


@pytest.mark.parametrize("architecture", usual(ARCHITECTURES))
def test_gradcam_plus_plus_where_gradients_are_large(architecture):
    """The package adds 1e-6 to the denominator, so the score is scaled up until that is nothing.

    The denominator is a difference, of which single precision leaves too little here and there.
    """
    case = known(architecture)
    image, cut = case.image.double(), case.network.cut_at(case.layer)
    head = replace(cut.head, module=deepcopy(cut.head.module).double(), weight=None)
    features = deepcopy(cut.backbone).double()(image)
    asked = torch.tensor([case.target])
    scale = 3000 / head.gradients(Frontier(features), Logit(asked)).abs().max()
    gradients = head.gradients(Frontier(features), lambda scores: scale * Logit(asked)(scores))
    ours = gradcam_plus_plus(head.layout.to_grid(features), gradients)
    theirs = raw(
        "GradCAMPlusPlus",
        deepcopy(case.module).double(),
        case.layer,
        image,
        lambda scores: scale * scores[case.target],
        reshape_transform=TO_GRID.get(architecture),
    )
    assert error(ours, theirs.relu()) < 1e-5


@pytest.mark.parametrize("architecture", usual(ARCHITECTURES))
def test_eigencam_up_to_its_sign(architecture):
    case = known(architecture)
    ours = maps_of(case.network, case.image, "eigencam", layer=case.layer)
    theirs = raw_of(architecture, "EigenCAM")
    assert min(error(ours, theirs.relu()), error(ours, (-theirs).relu())) < 1e-4


@pytest.mark.parametrize("gamma", [0.6, 1.0])
@pytest.mark.parametrize("architecture", usual(ARCHITECTURES))
def test_finercam(architecture, gamma):
    case = known(architecture)
    layer = case.module.get_submodule(case.layer)
    with pytorch_grad_cam.FinerCAM(case.module, [layer], TO_GRID.get(architecture), keeping("GradCAM")) as peer:
        peer(case.image, target_idx=case.target, alpha=gamma)
        theirs = peer.base_cam.raw.relu()
    ours = maps_of(case.network, case.image, "finercam", [case.target], case.layer, gamma=gamma)
    assert error(ours, theirs) < 1e-4


@pytest.mark.parametrize(
    ("architecture", "layer"),
    [("regnet", "trunk_output"), ("alexnet", "features.11"), ("resnext", "layer1"), ("densenet", "features.relu0")],
)
def test_ablationcam_where_nothing_is_negative(architecture, layer):
    case = known(architecture)
    theirs = raw("AblationCAM", case.module, layer, case.image, case.target)
    ours = maps_of(case.network, case.image, "ablationcam", [case.target], layer, chunk=64)
    assert error(ours, theirs.relu()) < 1e-4


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("layer", ["first", "second"])
def test_ablationcam_of_every_class(pooled, layer):
    module, image = tiny_module(pooled), picture(24)
    theirs = torch.cat([raw("AblationCAM", module, layer, image, target) for target in range(CLASSES)])
    ours = maps_of(tiny(pooled), image, "ablationcam", range(CLASSES), layer)
    assert error(ours, theirs.relu()) < 1e-4


@pytest.mark.parametrize("layer", ["1", "3"])
def test_scorecam_where_nothing_is_upsampled(layer):
    """The package upsamples with corners aligned; at the image's own resolution that makes no difference."""
    torch.manual_seed(0)
    module = calibrated(
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 12, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, CLASSES),
        ),
        24,
    )  # fmt: skip
    image = picture(24)
    theirs = torch.cat([raw("ScoreCAM", module, layer, image, target) for target in range(CLASSES)])
    ours = maps_of(Network(module, (3, 24, 24)), image, "scorecam", range(CLASSES), layer)
    assert error(ours, theirs.relu()) < 1e-4


def test_scorecam_of_vgg11s_first_layer():
    case = known("vgg11")
    theirs = raw("ScoreCAM", case.module, "features.1", case.image, case.target)
    ours = maps_of(case.network, case.image, "scorecam", [case.target], "features.1")
    assert np.ptp(ours.numpy()) > 0
    assert error(ours, theirs.relu()) < 1e-4
