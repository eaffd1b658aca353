"""A contrast is explained as what it is, the difference of two classes: by hand, and by every method."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from gradcam_service.errors import UnsupportedMethod
from gradcam_service.explain.batch import explain
from gradcam_service.explain.cut import gradient
from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Differentiable, Logit, each
from gradcam_service.explain.suitability import refusals
from gradcam_service.targets import TARGETS, Target, objective

from .networks import CLASSES, Asked, cheaply, error, finished, picture, tiny, tiny_module


def contrast(own, *others):
    return Target("contrast", (own, others))


def class_(index):
    return Target("class_", index)


def explained(network, images, questions, chunk=16):
    return [finished(a) for a in explain(network, images, *network.predict(images), questions, chunk, objective)]


@cache
def double(pooled=False):
    """Computes in float64, so that all that is left of rounding is that of its float32 maps."""
    return Network(tiny_module(pooled), (3, 24, 24)).to(torch.float64)


def gradients(network, image, target, layer="auto"):
    cut = network.cut_at(layer)
    frontier = cut.frontier(image)
    return cut.head.gradients(frontier, objective([target], network.scores(image)))


def test_its_value_by_hand():
    scores = torch.tensor([[2.0, 5.0, -1.0, 4.0], [1.0, 0.0, 3.0, 7.0]])
    rows = objective([contrast(0, 1), contrast(2, 0, 3)], scores)
    assert rows(scores).tolist() == [2 - 5, 3 - (1 + 7) / 2]
    rest = objective([contrast(1), contrast(3)], scores)
    assert rest(scores).tolist() == pytest.approx([5 - (2 - 1 + 4) / 3, 7 - (1 + 0 + 3) / 3])
    mixed = objective([contrast(1), contrast(0, 2)], scores)  # rows of three others and of one
    assert mixed(scores).tolist() == pytest.approx([5 - (2 - 1 + 4) / 3, 1 - 3])
    assert gradient(rest, scores)[0].tolist() == pytest.approx([-1 / 3, 1, -1 / 3, -1 / 3])


@pytest.mark.parametrize("target", [class_(2), contrast(2, 0, 3), contrast(1)])
def test_an_objective_of_one_target_takes_any_number_of_rows(target):
    scores = torch.randn(5, CLASSES, generator=torch.Generator().manual_seed(0))
    one = objective([target], scores)
    assert torch.equal(one(scores), objective([target] * 5, scores)(scores))
    assert torch.equal(each([one, one])(scores[:2]), one(scores[:2]))


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("layer", ["first", "second"])
def test_its_gradient_is_the_difference_of_the_gradients(pooled, layer):
    network, image = double(pooled), picture(24).double()
    of = [gradients(network, image, class_(index), layer) for index in range(CLASSES)]
    assert error(gradients(network, image, contrast(1, 4), layer), of[1] - of[4]) < 1e-12
    assert error(gradients(network, image, contrast(0, 2, 5), layer), of[0] - (of[2] + of[5]) / 2) < 1e-12
    rest = sum(of[:3] + of[4:]) / (CLASSES - 1)
    assert error(gradients(network, image, contrast(3), layer), of[3] - rest) < 1e-12


@pytest.mark.parametrize("method", ["integrated_gradients", "smoothgrad", "occlusion", "rise"])
def test_maps_without_a_relu_are_the_difference_of_the_maps(method):
    network, image = tiny(pooled=False), picture(24)
    asked = Asked(method, targets=(class_(1), class_(4), class_(2), contrast(1, 4, 2)), options=cheaply(method).options)
    (found,) = explained(network, image, [asked])
    own, first, second, ours = found.maps
    assert error(ours, own - (first + second) / 2) < 1e-4
    assert METHODS[method].kind_of(is_difference=True) in ("signed", "signed_colour")
    assert (ours < 0).any()


@cache
def relabelled(pooled, own, others):
    """The network whose class 0 is the contrast: the last layer's row less the mean of the others'."""
    module = tiny_module(pooled)
    last = module.head[-1]
    with torch.no_grad():
        for parameter in (last.weight, last.bias):
            parameter[0] = parameter[own] - parameter[list(others)].mean(0)
    return Network(module, (3, 24, 24))


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("layer", ["auto", "first"])
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("finercam", "rise")])
def test_it_is_explained_as_the_class_whose_weights_are_the_difference(method, layer, pooled):
    network, image = tiny(pooled), picture(24)
    if method == "cam" and (layer != "auto" or not pooled):
        return
    options = cheaply(method).options
    (ours,) = explained(network, image, [Asked(method, layer, (contrast(3, 1, 4),), options)])
    truth = relabelled(pooled, 3, (1, 4))
    (theirs,) = explained(truth, image, [Asked(method, layer, (class_(0),), options)])
    if not theirs.maps.any():
        assert not ours.maps.any()
        return
    assert error(ours.maps, theirs.maps) < 1e-4


def test_cam_uses_the_difference_of_the_last_layers_rows():
    network, image = tiny(), picture(24)
    frontier, _ = network.predict(image)
    weight = network.cut.head.weight
    expected = torch.einsum("k,khw->hw", weight[3] - (weight[1] + weight[4]) / 2, frontier.features[0]).relu()
    (ours,) = explained(network, image, [Asked("cam", targets=(contrast(3, 1, 4),))])
    assert error(ours.maps[0], expected) < 1e-5


@pytest.mark.parametrize("chunk", [3, 16])
@pytest.mark.parametrize("layer", ["auto", "first"])
@pytest.mark.parametrize("method", ["gradcam", "layercam", "eigencam", "guided_gradcam", "ablationcam"])
def test_rows_of_a_mixed_batch_are_answered_as_alone(method, layer, chunk):
    network, images = double(), picture(24, count=4).double()
    asked = [
        Asked(method, layer, targets)
        for targets in (
            (class_(0), contrast(1, 2), class_(3)),
            (contrast(4),),
            (class_(5),),
            (contrast(2, 0, 1), contrast(0, 5), class_(2), contrast(3)),
        )
    ]
    together = explained(network, images, asked, chunk)
    for row, question in enumerate(asked):
        for target, ours in zip(question.targets, together[row].maps, strict=True):
            (alone,) = explained(network, images[row : row + 1], [Asked(method, layer, (target,))])
            assert torch.allclose(ours, alone.maps[0], rtol=0, atol=1e-6 * float(alone.maps.abs().max() or 1))


def test_finercam_is_the_gradcam_of_a_contrast_with_its_own_weights():
    """With one reference, there is one weight: γ."""
    network, image = tiny(pooled=False), picture(24)
    scores = network.scores(image)[0].detach()
    nearest = int((scores - scores[2]).abs().scatter(0, torch.tensor(2), torch.inf).argmin())
    (finer,) = explained(network, image, [Asked("finercam", targets=(class_(2),), options={"references": 1})])
    (ours,) = explained(network, image, [Asked("gradcam", targets=(contrast(2, nearest),))])
    assert error(ours.maps, finer.maps) < 1e-5


def test_finercam_says_why_it_explains_no_contrast():
    assert METHODS["finercam"].classes_only
    with pytest.raises(UnsupportedMethod, match="by itself"):
        explained(tiny(), picture(24), [Asked("finercam", targets=(contrast(0, 1),))])


def test_every_other_method_explains_a_contrast():
    network = tiny()
    assert refusals(network) == {}
    for method in METHODS:
        if method != "finercam":
            (found,) = explained(network, picture(24), [cheaply(method, targets=(contrast(0, 1),))])
            assert found.maps.isfinite().all()


def test_kinds_of_target_are_known_by_their_files_names():
    assert set(TARGETS) == {"class_", "contrast", "state_value", "value", "word"}
    assert isinstance(TARGETS["class_"].objective([1], torch.zeros(1, 3)), Logit)
    assert [name for name in TARGETS if TARGETS[name].is_logit] == ["class_", "value"]


@pytest.mark.parametrize(
    "target",
    [
        Target("class_", 1),
        Target("contrast", (0, (1,))),
        Target("state_value", 2),
        Target("value", 1),
        Target("word", [0, 1]),
        Target("word", [0, 1, 2]),
    ],
)
def test_kinds_that_say_so_know_their_gradients(target):
    assert TARGETS[target.kind].differentiable
    assert isinstance(objective([target], np.zeros((1, 3), np.float32)), Differentiable)


def test_numbers_by_hand():
    """y = W · mean(A), A = ReLU(x) of two channels of two places: α = (w_P − w_Q) / 2."""

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 3, bias=False)
            self.linear.weight.data = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 4.0]])

        def forward(self, x):
            return self.linear(x[:, :2].relu().mean((2, 3)))

    network = Network(Pooled(), (3, 1, 2))
    image = torch.tensor([[[[1.0, 3.0]], [[2.0, -1.0]], [[0.0, 0.0]]]])
    (found,) = explained(network, image, [Asked("gradcam", targets=(contrast(0, 2), contrast(2, 0), contrast(1)))])
    # A = (1 3), (2 0). P 0, Q 2: w = (1, −2): (1 − 4, 3)/2. The other way round: (−1 + 4, −3)/2.
    # 1 against both others: w = (3, −1) − (0.5, 3) = (2.5, −4): (2.5 − 8, 7.5)/2.
    np.testing.assert_allclose(found.maps[:, 0], [[0, 1.5], [1.5, 0], [0, 3.75]], atol=1e-6)
