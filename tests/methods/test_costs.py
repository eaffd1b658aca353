"""What a method costs is what it is seen to take, and what can't be explained is refused with what can."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gradcam_service.errors import UnsupportedMethod
from gradcam_service.explain.batch import Explanation
from gradcam_service.explain.costs import forward_passes, refusal_at
from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.network import Network
from gradcam_service.explain.suitability import refusals

from .networks import BATCHED, CLASSES, FEW, Asked, Tiny, error, explain, finished, known, maps_of, picture, tiny


def cost(network, method, targets=1, **options):
    return forward_passes(METHODS[method], network, "auto", (24, 24), targets, options)


def images_seen(network, part, method, targets, **options):
    """How many images pass a part of the network while a method explains one."""
    seen: list[int] = []
    handle = part.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    maps_of(network, picture(24), method, targets, chunk=5, **options)
    handle.remove()
    return sum(seen)


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("targets", [(0,), (0, 1, 4)])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("scorecam", {}),
        ("occlusion", {"window": 8, "stride": 8}),
        ("occlusion", {"window": 7, "stride": 3}),
        ("occlusion", {"window": 30, "stride": 1}),
        ("rise", {"masks": 13}),
    ],
)
def test_methods_without_gradients_cost_the_images_they_show_and_the_prediction(pooled, targets, method, options):
    network = tiny(pooled)
    seen = images_seen(network, network.cut.backbone, method, targets, **options)
    assert seen > 1
    assert cost(network, method, len(targets), **options) == seen


@pytest.mark.parametrize("targets", [(0,), (0, 1, 4)])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("guided_backprop", {}),
        ("guided_gradcam", {}),
        ("integrated_gradients", {"steps": 7}),
        ("smoothgrad", {"samples": 4}),
    ],
)
def test_methods_of_gradients_cost_three_for_each_image_they_show_and_the_prediction(targets, method, options):
    network = tiny()
    part = network.guided if method.startswith("guided") else network.traced
    seen = images_seen(network, part, method, targets, **options)
    assert seen > 0
    assert cost(network, method, len(targets), **options) == 1 + 3 * seen


@pytest.mark.parametrize("method", BATCHED)
def test_batched_methods_cost_the_prediction_alone(method):
    network = tiny()
    assert images_seen(network, network.cut.backbone, method, (0, 1)) == cost(network, method, 2) == 1


BEHIND = {"eigencam": 1}
"""What methods without gradients cost at an early layer, for the feature maps; others a gradient for each target."""


@pytest.mark.parametrize("targets", [1, 5])
@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name].of_input])
def test_at_an_early_layer_gradients_cost_what_those_of_the_image_cost(method, targets):
    network = tiny(pooled=False)
    own = cost(network, method, targets)
    early = forward_passes(METHODS[method], network, "first", (24, 24), targets, {})
    if method == "ablationcam" or method == "scorecam":
        channels = {layer.name: layer.channels for layer in network.layers}
        assert (own, early) == (1 + channels[network.cut.layer.name], 2 + channels["first"])
    else:
        assert early - own == BEHIND.get(method, 3 * targets)
    assert forward_passes(METHODS[method], network, network.cut.layer.name, (24, 24), targets, {}) == own


@pytest.mark.parametrize(("images", "targets", "at_once"), [(2, 4, True), (1, 8, True), (2, 5, False), (1, 11, False)])
def test_at_an_early_layer_what_is_more_than_one_pass_is_done_in_steps(images, targets, at_once):
    network, x = tiny(pooled=False), picture(24, count=images)
    asked = [Asked("gradcam", "first", tuple(i % CLASSES for i in range(targets)))] * images
    rows: list[int] = []
    head = network.cut_at("first").head.module
    handle = head.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    found = explain(network, x, *network.predict(x), asked, chunk=8)
    assert [isinstance(answer, Explanation) for answer in found] == [at_once] * images
    before = len(rows)
    assert max(rows, default=0) <= 8
    maps = torch.stack([finished(answer).maps for answer in found])
    assert max(rows) <= 8
    assert sum(rows) == images * targets
    assert (len(rows) > before) != at_once
    handle.remove()
    for row, (image, question) in enumerate(zip(x.split(1), asked, strict=True)):
        assert error(maps[row], maps_of(network, image, "gradcam", question.targets, "first")) < 1e-5


def test_one_turn_takes_one_pass_at_early_layers_however_many_there_are():
    """Each image asks at a layer of its own: together no more than a chunk at once, the others step by step."""
    network, x = tiny(pooled=False), picture(24, count=4)
    layers = [layer.name for layer in network.layers if layer.name != network.cut.layer.name][:4]
    asked = [Asked("gradcam", layer, (0, 1, 2)) for layer in layers]
    found = explain(network, x[: len(layers)], *network.predict(x[: len(layers)]), asked, chunk=6)
    assert sum(isinstance(answer, Explanation) for answer in found) == 2
    assert all(finished(answer).maps.shape[0] == 3 for answer in found)


def test_ablationcam_costs_the_prediction_alone_on_a_pooled_head():
    network = tiny()
    assert images_seen(network, network.cut.head.module, "ablationcam", (0,)) <= 2
    assert cost(network, "ablationcam") == 1


def test_ablationcam_costs_its_channels_where_the_head_is_nearly_the_whole_network():
    """64 channels behind VGG-11's first convolution: 64 times all but that."""
    network = known("vgg11").network
    cut = network.cut_at("features.1")
    assert cut.layer.channels == 64
    assert forward_passes(METHODS["ablationcam"], network, "features.1", (64, 64), 1, {}) >= 64


@pytest.mark.parametrize("method", METHODS)
def test_costs_are_of_default_options_unless_others_are_given(method):
    network = tiny()
    assert cost(network, method) == cost(network, method, **METHODS[method].defaults)


class Activated(Tiny):
    def __init__(self, activation):
        super().__init__()
        self.second[1] = activation


UNGUIDED = [
    nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Hardswish(), nn.ELU(), nn.LeakyReLU(), nn.PReLU(), nn.Mish(), nn.CELU(),
    nn.SELU(), nn.RReLU(), nn.Softplus(),
]  # fmt: skip


@pytest.mark.parametrize("activation", UNGUIDED, ids=repr)
def test_other_activations_than_relu_refuse_guided_backpropagation(activation):
    refused = refusals(Network(Activated(activation), (3, 24, 24)))
    assert set(refused) == {"guided_backprop", "guided_gradcam"}
    for reason in refused.values():
        assert "ReLU" in reason
        assert type(activation).__name__.lower() in reason.replace("_", "")


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Tanh(), nn.Sigmoid()], ids=repr)
def test_relu_and_what_is_no_rectifier_refuse_nothing(activation):
    assert refusals(Network(Activated(activation), (3, 24, 24))) == {}


def test_vgg_refuses_cam_and_says_what_works():
    case = known("vgg11")
    refused = refusals(case.network)
    assert set(refused) == {"cam"}
    assert "global average pooling" in refused["cam"]
    assert "gradcam works" in refused["cam"]
    with pytest.raises(UnsupportedMethod, match="gradcam works"):
        maps_of(case.network, case.image, "cam")
    assert refusal_at(replace(METHODS["cam"], title="Another"), case.network.cut).startswith("Another needs a head")


@pytest.mark.parametrize(
    ("architecture", "refused"),
    [
        ("resnet18", set()),
        ("densenet", set()),
        ("mobilenet_v2", set()),
        ("alexnet", {"cam"}),
        ("squeezenet", {"cam"}),
        ("efficientnet", {"guided_backprop", "guided_gradcam"}),
        ("swin", {"guided_backprop", "guided_gradcam"}),
        ("mobilenet_v3", {"cam", "guided_backprop", "guided_gradcam"}),
        ("convnext", {"cam", "guided_backprop", "guided_gradcam"}),
        ("vit", {"cam", "guided_backprop", "guided_gradcam"}),
    ],
)
def test_what_architectures_refuse(architecture, refused):
    assert set(refusals(known(architecture).network)) == refused


def test_cam_is_refused_at_a_layer_that_is_not_pooled_next():
    with pytest.raises(UnsupportedMethod, match="gradcam works"):
        maps_of(tiny(), picture(24), "cam", layer="first")


def test_a_network_of_one_class_is_explained_by_every_method_that_is_not_refused():
    torch.manual_seed(0)
    module = Tiny()
    module.head[-1] = nn.Linear(8, 1)
    network = Network(module, (3, 24, 24), activation="sigmoid")
    for method in METHODS:
        if method not in refusals(network):
            assert maps_of(network, picture(24), method, **FEW.get(method, {})).isfinite().all(), method
    assert CLASSES > 1
