"""What the papers define, in numbers worked by hand or by plain NumPy, and what must follow from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from gradcam_service.explain.cut import gradient
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.methods.cam import cam
from gradcam_service.explain.methods.eigencam import eigencam
from gradcam_service.explain.methods.finercam import Finer
from gradcam_service.explain.methods.gradcam import gradcam
from gradcam_service.explain.methods.gradcam_counterfactual import gradcam_counterfactual
from gradcam_service.explain.methods.gradcam_plus_plus import gradcam_plus_plus
from gradcam_service.explain.methods.hirescam import hirescam
from gradcam_service.explain.methods.layercam import layercam
from gradcam_service.explain.methods.xgradcam import xgradcam
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit

from .networks import ARCHITECTURES, CLASSES, error, known, maps_of, picture, tiny, tiny_module, usual

GAP = usual(["resnet18", "googlenet", "mobilenet_v2", "efficientnet", "shufflenet", "mnasnet", "regnet"])

A = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [0.0, 0.0]]]])
G = torch.tensor([[[[0.5, -1.0], [0.0, 2.0]], [[1.0, -1.0], [2.0, 0.0]]]])
"""Activations and gradients of one row, two channels."""


def weighted(first, second):
    return first * A[:, 0] + second * A[:, 1]


def test_gradcam_by_hand():
    # Means of G: 1.5/4 and 2/4.
    assert torch.allclose(gradcam(A, G), weighted(3 / 8, 1 / 2))
    assert torch.allclose(gradcam(-A, -G), weighted(3 / 8, 1 / 2))
    assert not gradcam(A, -G).any()
    assert torch.allclose(gradcam_counterfactual(A, -G), weighted(3 / 8, 1 / 2))
    assert not gradcam_counterfactual(A, G).any()


def test_hirescam_and_layercam_by_hand():
    # A·G: (0.5, −2; 0, 8) and (0, −1; 0, 0). LayerCAM drops the negative G before, not after.
    assert torch.equal(hirescam(A, G), torch.tensor([[[0.5, 0.0], [0.0, 8.0]]]))
    assert torch.equal(layercam(A, G), torch.tensor([[[0.5, 0.0], [0.0, 8.0]]]))
    mixed = torch.tensor([[[[1.0]], [[1.0]]]]), torch.tensor([[[[3.0]], [[-1.0]]]])
    assert hirescam(*mixed).item() == 2
    assert layercam(*mixed).item() == 3
    below_zero = torch.tensor([[[[1.0]], [[-1.0]], [[-1.0]]]]), torch.tensor([[[[3.0]], [[2.0]], [[-5.0]]]])
    assert hirescam(*below_zero).item() == 6
    assert layercam(*below_zero).item() == 1


def test_xgradcam_by_hand():
    # Σ A·G / Σ A: 6.5/10 and −1/1.
    assert torch.allclose(xgradcam(A, G), weighted(0.65, -1.0).relu())


def test_xgradcam_gives_no_weight_to_a_channel_that_sums_to_zero():
    balanced = A.clone()
    balanced[0, 1] = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    assert torch.allclose(xgradcam(balanced, G), 0.65 * A[:, 0])


def test_cam_by_hand():
    weights = torch.tensor([[2.0, -3.0], [-1.0, 1.0]])
    expected = torch.stack([weighted(2, -3)[0], weighted(-1, 1)[0]]).relu()
    gradients = (weights / 4)[:, :, None, None].expand(-1, -1, 2, 2)  # behind an average over four places
    assert torch.equal(cam(A.expand(2, -1, -1, -1), gradients), expected)


def test_gradcam_plus_plus_of_one_channel_by_hand():
    # Σ A = 10. At g = 0.5: alpha = 0.25 / (0.5 + 10 · 0.125) = 1/7. At g = 2: alpha = 4 / (8 + 10 · 8) = 1/22.
    expected = (0.5 / 7 + 2 / 22) * A[:, 0]
    assert torch.allclose(gradcam_plus_plus(A[:, :1], G[:, :1]), expected)


def test_gradcam_plus_plus_of_two_channels_by_hand():
    # The second: Σ A = 1. At g = 1: alpha = 1 / (2 + 1) = 1/3. At g = 2: alpha = 4 / (8 + 8) = 1/4.
    expected = weighted(0.5 / 7 + 2 / 22, 1 / 3 + 2 / 4)
    assert torch.allclose(gradcam_plus_plus(A, G), expected)


def test_gradcam_plus_plus_is_not_the_shortcut_nor_the_sum_without_space():
    ours = gradcam_plus_plus(A, G)
    shortcut = torch.einsum("mk,mkhw->mhw", (G**2 * G.relu()).sum((2, 3)), A).relu()
    alpha = torch.where(G > 0, G**2 / (2 * G**2 + A * G**3), 0.0)
    without_space = torch.einsum("mk,mkhw->mhw", (alpha * G.relu()).sum((2, 3)), A).relu()
    for wrong in (shortcut, without_space):
        assert error(wrong / wrong.max(), ours / ours.max()) > 0.05


@pytest.mark.parametrize("architecture", usual(name for name in ARCHITECTURES if name not in ("swin", "vit")))
def test_gradcam_plus_plus_is_equation_19_in_double_precision(architecture):
    case = known(architecture)
    cut = case.network.cut_at(case.layer)
    features = cut.backbone(case.image)
    gradients = cut.head.gradients(Frontier(features), Logit(torch.tensor([case.target])))
    a, g = features[0].double().numpy(), gradients[0].double().numpy()
    denominator = 2 * g**2 + a.sum(axis=(1, 2), keepdims=True) * g**3
    alpha = np.divide(g**2, denominator, out=np.zeros_like(g), where=g != 0)
    expected = np.maximum(0, np.einsum("k,khw->hw", (alpha * np.maximum(g, 0)).sum(axis=(1, 2)), a))
    ours = maps_of(case.network, case.image, "gradcam_plus_plus", [case.target], case.layer)
    assert error(ours[0], expected) < 1e-4


def test_gradcam_plus_plus_of_gradients_whose_square_underflows():
    # 1e-25² is 0 in float32, but alpha · g = g / (2 + Σ A · g) = g/2 is not.
    tiny_gradients = torch.tensor([[[[1e-25]], [[3e-25]]]])
    features = torch.tensor([[[[1.0]], [[2.0]]]])
    assert gradcam_plus_plus(features, tiny_gradients).item() == pytest.approx(3.5e-25, rel=1e-5, abs=0)


@pytest.mark.parametrize("architecture", GAP)
def test_gradcam_is_cam_divided_by_the_number_of_places_and_is_hirescam_on_pooled_heads(architecture):
    case = known(architecture)
    cut, targets = case.network.cut, torch.arange(CLASSES)
    assert cut.layer.name == case.layer
    h, w = cut.layer.layout.grid
    assert cut.head.weight is not None
    head = replace(cut.head, weight=cut.head.weight.double())
    features = cut.backbone(case.image).detach().double().expand(CLASSES, -1, -1, -1)
    gradients = head.gradients(Frontier(features), Logit(targets))
    ours = gradcam(features, gradients)
    assert error(cam(features, gradients) / (h * w), ours) < 1e-12
    assert error(hirescam(features, gradients), ours) < 1e-12
    assert error(xgradcam(features, gradients), ours) < 1e-12
    answered = [
        maps_of(case.network, case.image, method, range(CLASSES)) for method in ("gradcam", "hirescam", "xgradcam")
    ]
    for maps in (*answered, maps_of(case.network, case.image, "cam", range(CLASSES)) / (h * w)):
        assert error(maps.double(), ours) < 1e-4


def test_cam_is_the_last_layers_weights_and_the_feature_maps():
    case = known("densenet")
    assert case.network.cut.layer.name == "relu"
    features = functional.relu(case.module.features(case.image)).detach()[0]
    expected = torch.einsum("ck,khw->chw", case.module.classifier.weight.detach(), features).relu()
    assert error(maps_of(case.network, case.image, "cam", range(CLASSES)), expected) < 1e-5


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("layer", ["first", "second"])
def test_the_counterfactual_is_gradcam_of_the_negated_last_layer(pooled, layer):
    negated = tiny_module(pooled)
    with torch.no_grad():
        negated.head[-1].weight.neg_()
    image, targets = picture(24), range(CLASSES)
    expected = maps_of(Network(negated, (3, 24, 24)), image, "gradcam", targets, layer)
    assert error(maps_of(tiny(pooled), image, "gradcam_counterfactual", targets, layer), expected) < 1e-6
    assert error(maps_of(tiny(pooled), image, "gradcam", targets, layer), expected) > 0.1


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_ablationcam_on_a_pooled_head_is_really_zeroing_channels(chunk):
    network, image = tiny(), picture(24)
    cut = network.cut
    assert cut.head.weight is not None
    frontier, scores = network.predict(image)
    features = frontier.features
    drops = torch.empty(CLASSES, cut.layer.channels)
    for k in range(cut.layer.channels):
        without = features.clone()
        without[:, k] = 0
        drops[:, k] = (scores - cut.head.scores(Frontier(without)))[0]
    expected = torch.einsum("ck,khw->chw", drops / scores.T, features[0]).relu()
    assert error(maps_of(network, image, "ablationcam", range(CLASSES), chunk=chunk), expected) < 1e-5


def test_finercam_of_two_classes_is_gradcam_of_their_weights_difference():
    module = tiny_module()
    torch.manual_seed(0)
    module.head[-1] = nn.Linear(8, 2)
    network, image = Network(module, (3, 24, 24)), picture(24)
    features = network.predict(image)[0].features
    own, other = module.head[-1].weight.detach()
    for gamma in (0.0, 0.6, 1.0):
        expected = torch.stack(
            [
                torch.einsum("k,khw->hw", own - gamma * other, features[0]),
                torch.einsum("k,khw->hw", other - gamma * own, features[0]),
            ]
        ).relu() / (6 * 6)
        assert error(maps_of(network, image, "finercam", (0, 1), gamma=gamma), expected) < 1e-5


def test_finercams_objective_by_hand():
    # Nearest to class 0 (score 2) are 3 (score 1.5) and 1 (score 3): weights e^1.5 and e^3, over their sum.
    scores = torch.tensor([[2.0, 3.0, -1.0, 1.5]])
    p1, p3 = np.exp(3) / (np.exp(3) + np.exp(1.5)), np.exp(1.5) / (np.exp(3) + np.exp(1.5))
    for gamma in (0.0, 0.5, 1.0):
        value = Finer(Logit(torch.tensor([0])), gamma, references=2)(scores)
        assert value.item() == pytest.approx(2 - gamma * (p1 * 3 + p3 * 1.5), rel=1e-6)


def test_finercams_gradient_goes_through_its_weights():
    # d(−γ Σ q_d y_d)/dy_d = −γ q_d (1 + y_d − Σ q y), q being the softmax over the references.
    scores, gamma = torch.tensor([[2.0, 3.0, -1.0, 1.5]]), 0.5
    q = np.exp([3, 1.5]) / np.exp([3, 1.5]).sum()
    mean = q @ [3, 1.5]
    expected = [1, -gamma * q[0] * (1 + 3 - mean), 0, -gamma * q[1] * (1 + 1.5 - mean)]
    slopes = gradient(Finer(Logit(torch.tensor([0])), gamma, references=2), scores)
    np.testing.assert_allclose(slopes[0], expected, rtol=1e-5, atol=1e-7)


def test_finercam_compares_with_every_other_class_at_most():
    scores = torch.tensor([[2.0, 3.0, -1.0]])
    few, many = (Finer(Logit(torch.tensor([0])), 1.0, references)(scores) for references in (2, 50))
    assert few == many


def test_finercam_of_a_class_whose_probability_underflows():
    # exp(−300) is 0 in float32; the weight of the one reference is 1 all the same: −300 + 301 = 1.
    scores = torch.tensor([[-300.0, -301.0, 0.0]])
    assert Finer(Logit(torch.tensor([0])), 1.0, references=1)(scores).item() == pytest.approx(1)


def test_finercam_without_another_class_is_gradcam():
    module = tiny_module()
    module.head[-1] = nn.Linear(8, 1)
    nn.init.ones_(module.head[-1].weight)
    network, image = Network(module, (3, 24, 24), activation="identity"), picture(24)
    assert error(maps_of(network, image, "finercam"), maps_of(network, image, "gradcam")) < 1e-6


def test_eigencam_of_two_channels_by_hand():
    # A = (t, 2t) varies along (1, 2)/√5 only: the map is √5 (t − mean t), and it rises with the mean activation.
    t = torch.tensor([[0.0, 1.0], [2.0, 5.0]])
    assert torch.allclose(eigencam(torch.stack([t, 2 * t])[None])[0], 5**0.5 * (t - 2).relu(), atol=1e-5)
    # (t, −2t): the mean activation is −t/2, so the map falls with t.
    assert torch.allclose(eigencam(torch.stack([t, -2 * t])[None])[0], 5**0.5 * (2 - t).relu(), atol=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_eigencam_where_the_mean_activation_tells_nothing(sign):
    # ±(t, −t) has a mean of 0 everywhere: the map is √2 (t − mean t), in which one place stands out, not three.
    t = torch.tensor([[0.0, 4.0], [0.0, 0.0]])
    features = sign * torch.stack([t, -t])[None]
    features[:, :, 1, 1] += 1e-7 * torch.tensor([3.0, 1.0])  # what rounding leaves of the mean
    assert torch.allclose(eigencam(features)[0], 2**0.5 * (t - 1).relu(), atol=1e-5)


@pytest.mark.parametrize("architecture", usual(ARCHITECTURES))
def test_eigencam_is_the_first_principal_component_with_the_mean_activations_sign(architecture):
    case = known(architecture)
    cut = case.network.cut_at(case.layer)
    grid = cut.layer.layout.to_grid(cut.backbone(case.image))[0].double().numpy()
    places = grid.reshape(len(grid), -1).T
    covariance = np.cov(places if len(places) < len(grid) else places.T, bias=True)
    u, s, _ = np.linalg.svd(places - places.mean(axis=0), full_matrices=False)
    assert s[0] > 1.001 * s[1], "the first component is not determined"
    if len(covariance) == len(grid):
        assert s[0] ** 2 / len(places) == pytest.approx(np.linalg.eigvalsh(covariance)[-1])
    component = u[:, 0] * s[0]
    means = places.mean(axis=1)
    component *= np.sign(component @ (means - means.mean()))
    expected = np.maximum(0, component).reshape(grid.shape[1:])
    assert error(maps_of(case.network, case.image, "eigencam", layer=case.layer)[0], expected) < 1e-4


def test_scorecam_is_the_softmax_of_the_scores_of_masked_images():
    network, image = tiny(pooled=False), picture(24)
    features = network.predict(image)[0].features
    masks = functional.interpolate(features, size=(24, 24), mode="bilinear", align_corners=False)[0]
    scores = []
    for mask in masks:
        spread = mask.max() - mask.min()
        scaled = (mask - mask.min()) / spread if spread > 0 else torch.zeros_like(mask)
        scores.append(network.scores(image * scaled)[0].detach())
    weights = torch.stack(scores).softmax(0)
    assert weights.max() > 2 / len(masks), "all channels count alike, so nothing is compared"
    expected = torch.einsum("kc,khw->chw", weights, features[0]).relu()
    assert error(maps_of(network, image, "scorecam", range(CLASSES)), expected) < 1e-5
