"""Maps of networks whose feature maps are no (N, K, h, w): Swin's channels last, ViT's tokens behind a class token."""

import pytest
import torch

from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.objectives import Logit

from .networks import CLASSES, error, known, maps_of


def hooked(case, layer, target):
    """A layer's output in torchvision's own model and the gradient of a score with respect to it."""
    kept = []
    handle = case.module.get_submodule(layer).register_forward_hook(lambda module, args, output: kept.append(output))
    score = case.module(case.image)[0, target]
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    return kept[0].detach()[0], gradient[0]


@pytest.mark.parametrize("target", range(CLASSES))
@pytest.mark.parametrize("layer", ["features.1", "features", "norm"])
def test_gradcam_of_swin(layer, target):
    case = known("swin")
    values, gradients = hooked(case, layer, target)
    weights = gradients.mean(dim=(0, 1))
    expected = (values @ weights).relu()  # (h, w, K) · (K,)
    ours = maps_of(case.network, case.image, "gradcam", [target], layer)[0]
    if expected.any():
        assert error(ours, expected) < 1e-4
    else:
        assert not ours.any()


@pytest.mark.parametrize("layer", ["features.1", "norm"])
def test_gradcam_of_swin_is_not_that_of_channels_taken_for_places(layer):
    case = known("swin")
    values, gradients = hooked(case, layer, case.target)
    assert case.network.cut_at(layer).layer.shape == (values.shape[2], *values.shape[:2])
    assert maps_of(case.network, case.image, "gradcam", [case.target], layer).any()
    assert not torch.equal(gradients.mean(dim=(0, 1)), gradients.mean(dim=(1, 2)))


@pytest.mark.parametrize("target", range(CLASSES))
def test_gradcam_of_vit_leaves_the_class_token_out(target):
    case = known("vit")
    layer = "encoder.layers.encoder_layer_0"
    assert case.network.cut.layer.name == layer
    values, gradients = hooked(case, layer, target)
    weights = gradients[1:].mean(dim=0)
    expected = (values[1:] @ weights).reshape(4, 4).relu()
    ours = maps_of(case.network, case.image, "gradcam", [target])[0]
    if expected.any():
        assert error(ours, expected) < 1e-4
    else:
        assert not ours.any()
    whole = (values[1:] @ gradients.mean(dim=0)).reshape(4, 4).relu()
    assert not torch.allclose(whole / whole.max(), expected / expected.max(), atol=0.01)


def test_vit_is_cut_where_patches_still_count():
    """After the last block only the class token is read: gradients of the patches are 0."""
    case = known("vit")
    _, after = hooked(case, "encoder.layers.encoder_layer_1", case.target)
    _, before = hooked(case, "encoder.layers.encoder_layer_0", case.target)
    assert not after[1:].any()
    assert before[1:].any()


def test_places_of_vit_are_in_reading_order():
    """A patch that changes changes its own place most, at the embedding."""
    case = known("vit")
    backbone = case.network.cut_at("conv_proj").backbone
    changed = case.image.clone()
    changed[:, :, 16:32, 48:64] += 5
    grid_layer = case.network.cut_at(case.network.cut.layer.name)
    difference = (grid_layer.backbone(changed) - grid_layer.backbone(case.image)).detach()
    moved = grid_layer.layer.layout.to_grid(difference).abs().sum(1)[0]
    assert divmod(int(moved.argmax()), 4) == (1, 3)
    assert backbone(changed).shape == (1, 32, 4, 4)


@pytest.mark.parametrize("architecture", ["swin", "vit"])
def test_gradients_on_the_grid_are_autograds(architecture):
    case = known(architecture)
    _, gradients = hooked(case, case.layer, case.target)
    expected = gradients.permute(2, 0, 1) if architecture == "swin" else gradients[1:].T.reshape(-1, 4, 4)
    cut = case.network.cut_at(case.layer)
    ours = cut.head.gradients(cut.frontier(case.image), Logit(torch.tensor([case.target])))[0]
    assert error(ours, expected) < 1e-4


@pytest.mark.parametrize("method", ["gradcam", "layercam", "ablationcam", "eigencam"])
def test_default_maps_of_vit_are_more_than_rounding_errors(method):
    case = known("vit")
    cut = case.network.cut
    features = cut.backbone(case.image)
    gradients = cut.head.gradients(Frontier(features), Logit(torch.tensor([case.target])))
    scale = (gradients * cut.layer.layout.to_grid(features)).abs().sum(1).max()
    assert maps_of(case.network, case.image, method, [case.target]).max() > 1e-3 * scale


def test_hirescam_of_vit_vanishes_where_only_layer_norms_follow():
    """A layer norm ignores its input's scale, so Σ_k g_k A_k, the derivative along that scale, is 0 at each place."""
    case = known("vit")
    values, gradients = hooked(case, case.layer, case.target)
    products = values[1:].double() * gradients[1:].double()
    assert products.sum(1).abs().max() < 1e-4 * products.abs().sum(1).max()
    assert maps_of(case.network, case.image, "hirescam", [case.target]).max() < 1e-4 * products.abs().sum(1).max()
