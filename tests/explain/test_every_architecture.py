"""Every architecture of torchvision that classifies or segments, and 25 of timm's families: none known by name."""

from __future__ import annotations

import re

import pytest
import torch
import torchvision
from torch import nn

from gradcam_service.explain.network import Network

LAST_LAYER = {  # family → name of the layer that `auto` must find, and its side as a fraction of the image's
    r"alexnet": (r"features\.11", 1 / 17.2),
    r"convnext_.*": ("features", 1 / 32),
    r"deeplabv3_.*": (r"classifier\.3", None),
    r"densenet.*": ("relu", 1 / 32),
    r"efficientnet_.*": ("features", 1 / 32),
    r"fcn_.*": (r"classifier\.2", None),
    r"googlenet": ("inception5b", 1 / 32),
    r"inception_v3": ("Mixed_7c", 1 / 37.3),
    r"lraspp_.*": (r"classifier\.mul", None),
    r"maxvit_t": (r"blocks\.3", 1 / 32),
    r"mnasnet.*": ("layers", 1 / 32),
    r"mobilenet_.*": ("features", 1 / 32),
    r"regnet_.*": ("trunk_output", 1 / 32),
    r"(wide_)?(resnet|resnext).*": ("layer4", 1 / 32),
    r"shufflenet_.*": ("conv5", 1 / 32),
    r"squeezenet1_.": (r"classifier\.2", 1 / 17.2),
    r"swin_.*": ("permute", 1 / 32),
    r"vgg11": (r"features\.19", 1 / 16),
    r"vgg11_bn": (r"features\.27", 1 / 16),
    r"vgg13": (r"features\.23", 1 / 16),
    r"vgg13_bn": (r"features\.33", 1 / 16),
    r"vgg16": (r"features\.29", 1 / 16),
    r"vgg16_bn": (r"features\.42", 1 / 16),
    r"vgg19": (r"features\.35", 1 / 16),
    r"vgg19_bn": (r"features\.51", 1 / 16),
    r"vit_._(\d\d)": (r"encoder\.layers\.encoder_layer_(10|22|30)", None),
}
TIMM = [
    "resnet26d", "seresnet33ts", "ecaresnet26t", "skresnet18", "resnest14d", "res2net50_14w_8s", "dla34", "dpn48b",
    "hardcorenas_a", "ghostnet_100", "tinynet_a", "mobilenetv4_conv_small", "efficientvit_b0", "repvgg_a0", "nfnet_l0",
    "cspresnet50", "vovnet39a", "convnextv2_atto", "poolformer_s12", "mobilevit_xxs", "swin_tiny_patch4_window7_224",
    "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "mixer_s16_224", "pvt_v2_b0",
]  # fmt: skip


def randomised(module: nn.Module) -> nn.Module:
    """No weight left at zero, so that nothing is hidden from a gradient or a comparison."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1 and not parameter.any():
                parameter.normal_(0, 0.02, generator=generator)
    return module.eval()


def check(module: nn.Module, side: int) -> Network:
    """The parts are the network at the default layer and at a dozen others, wherever they lie."""
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(1))
    network = Network(module, (3, side, side))
    with torch.no_grad():
        output = module(images)
        expected = output["out"] if isinstance(output, dict) else output
        names = list(network.every_layer)
        for cut in (network.cut, *(network.cut_at(name) for name in names[:: max(1, len(names) // 12)])):
            frontier = cut.frontier(images)
            scores = cut.head.scores(frontier)
            torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
            assert cut.layer.layout.to_grid(frontier.features).shape == (3, *cut.layer.shape)
            rows = cut.head.scores(frontier.rows([2, 2]))
            torch.testing.assert_close(rows, expected[[2, 2]], rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    frontier, _ = network.predict(images[:1])
    gradients = network.cut.head.gradients(frontier, lambda scores: scores[:, 0].reshape(len(scores), -1).sum(1))
    assert gradients.shape == (1, *network.cut.layer.shape)
    assert gradients.any()
    return network


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_torchvision(name: str):
    side = 299 if name == "inception_v3" else 224
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network = check(randomised(torchvision.models.get_model(name, **options)), side)
    layer, share = next(known for family, known in LAST_LAYER.items() if re.fullmatch(family, name))
    assert re.fullmatch(layer, network.cut.layer.name)
    h, w = network.cut.layer.layout.grid
    assert h == w == (round(side * share) if share else side // int(name[-2:]))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models.segmentation))
def test_torchvision_segmentation(name: str):
    network = check(randomised(torchvision.models.get_model(name, weights=None, weights_backbone=None)), 96)
    layer, _ = next(known for family, known in LAST_LAYER.items() if re.fullmatch(family, name))
    assert re.fullmatch(layer, network.cut.layer.name)
    assert network.cut.layer.layout.grid == ((6, 6) if "mobilenet" in name and "fcn" not in name else (12, 12))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str):
    timm = pytest.importorskip("timm")
    module = timm.create_model(name)
    network = check(randomised(module), module.default_cfg["input_size"][1])
    assert min(network.cut.layer.layout.grid) >= 4
    assert network.cut.layer.channels >= 32
