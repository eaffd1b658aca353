"""Networks are cut where their architecture says, and the two parts are the network."""

import functools

import pytest
import torch
from architectures import (
    ARCHITECTURES,
    EXPECTED,
    ConcatPooling,
    CosineClassifier,
    InPlace,
    LeNet,
    images,
    module,
    network,
    pooling_first,
    reference,
    stem_pooling,
    weight_normalised,
)
from methods.networks import CLASSES, explain, varied
from torch import nn
from torch.nn.functional import relu
from torch.testing import assert_close

from gradcam_service.errors import UnknownLayer
from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit
from gradcam_service.explain.suitability import refusals

HAND_MADE = {
    "in-place": InPlace,
    "lenet": LeNet,
    "concat pooling": ConcatPooling,
    "cosine classifier": CosineClassifier,
    "weight norm": weight_normalised,
    "stem pooling": stem_pooling,
    "pooling first": pooling_first,
}


@functools.cache
def small(make):
    """A hand-made network and the same traced for 16×16 pixels, or 32×32 for LeNet."""
    torch.manual_seed(0)
    made = make().eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, 0, 0.4)
    side = 32 if make is LeNet else 16
    return made, Network(made, (3, side, side)), images(3, side)


def output_of(net, path, x):
    """What a submodule returned when it was last called, before anything wrote over it."""
    seen = []
    hook = net.get_submodule(path).register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    with torch.no_grad():
        net(x)
    hook.remove()
    return seen[-1]


def near(actual, expected, relative=1e-6):
    torch.testing.assert_close(actual, expected, rtol=0, atol=relative * float(expected.abs().max()))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_backbone_and_head_together_are_the_network(name):
    cut = network(name).cut
    for count in (1, 3):
        x = images(count)
        frontier, scores = network(name).predict(x)
        assert frontier.features.shape == (count, *EXPECTED[name].shape)
        with torch.no_grad():
            near(scores, module(name)(x))
        near(cut.head.scores(cut.frontier(x)), scores)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_auto_is_the_last_convolutional_layer_after_its_activation(name):
    expected = EXPECTED[name]
    layer = network(name).cut.layer
    assert (layer.name, layer.shape) == (expected.layer, expected.shape)
    assert network(name).classes == (12 if name == "scenes" else CLASSES)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_features_are_what_the_layers_own_module_returns(name):
    net, _ = reference(name)
    near(network(name).predict(images(2))[0].features, output_of(net, EXPECTED[name].module, images(2)))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layer_names_are_unique_and_each_is_found_by_its_name(name):
    layers = network(name).layers
    assert len({layer.name for layer in layers}) == len(layers) > 10
    assert network(name).cut_at(layers[3].name).layer is layers[3]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layers_of_a_square_picture_are_square(name):
    assert [layer for layer in network(name).layers if layer.shape[1] != layer.shape[2]] == []


@pytest.mark.parametrize("name", ["scenes", "squeezenet", "shufflenet"])
def test_a_cut_at_any_layer_gives_the_same_scores(name):
    cuts = [network(name).cut_at(layer.name) for layer in network(name).layers]
    with torch.no_grad():
        scores = module(name)(images(2))
        for cut in cuts:
            frontier = cut.frontier(images(2))
            assert frontier.features.shape == (2, *cut.layer.shape)
            near(cut.head.scores(frontier), scores)


@pytest.mark.parametrize("name", ["resnet18", "scenes", "squeezenet"])
def test_a_layer_named_after_a_module_is_what_that_module_returns(name):
    modules = dict(module(name).named_modules())
    named = [layer.name for layer in network(name).layers if layer.name in modules]
    assert len(named) >= 8
    for path in named:
        with torch.no_grad():
            features = network(name).cut_at(path).backbone(images(1))
        near(features, output_of(module(name), path, images(1)))


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_networks_give_the_same_scores_at_every_cut(name):
    made, traced, x = small(HAND_MADE[name])
    with torch.no_grad():
        scores = made(x)
        for layer in traced.layers:
            cut = traced.cut_at(layer.name)
            near(cut.head.scores(cut.frontier(x)), scores)
            near(cut.head.scores(cut.frontier(x[:1])), scores[:1])


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("lenet", (8, 6, 6)),
        ("in-place", (4, 16, 16)),
        ("stem pooling", (6, 8, 8)),
        ("pooling first", (6, 8, 8)),
        ("concat pooling", (6, 8, 8)),
    ],
)
def test_auto_is_the_last_relu_of_a_hand_made_network(name, shape):
    _, traced, x = small(HAND_MADE[name])
    assert traced.cut.layer.shape == shape
    assert traced.cut.layer is traced.layers[-1]
    assert (traced.predict(x)[0].features >= 0).all()


def test_strides_along_one_side_alone_leave_feature_maps_what_they_are():
    """As in networks that read lines of text: the maps have another aspect than the picture."""
    torch.manual_seed(0)
    blocks = [nn.Conv2d(3, 6, 3, (2, 1), 1), nn.ReLU(), nn.Conv2d(6, 8, 3, (2, 1), 1), nn.Hardswish()]
    net = nn.Sequential(*blocks, nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    network = Network(net, (3, 16, 48))
    assert network.cut.layer.shape == (8, 4, 48)
    assert network.cut.layer.name == "3"
    x = torch.randn(2, 3, 16, 48)
    with torch.no_grad():
        near(network.predict(x)[0].features, net[:4](x))


@pytest.mark.parametrize("name", HAND_MADE)
def test_scoring_and_differentiating_leave_the_features_as_they_were(name):
    _, traced, x = small(HAND_MADE[name])
    for layer in traced.layers:
        cut = traced.cut_at(layer.name)
        with torch.no_grad():
            frontier = cut.frontier(x)
        before = frontier.features.clone()
        cut.head.scores(frontier)
        cut.head.gradients(frontier, Logit(torch.tensor([0, 1, 2])))
        assert torch.equal(frontier.features, before)


def test_features_before_an_in_place_relu_keep_their_negative_values():
    made, traced, x = small(InPlace)
    cut = traced.cut_at("d")
    frontier = cut.frontier(x)
    near(frontier.features, output_of(made, "d", x))
    cut.head.scores(frontier)
    assert (frontier.features < 0).any()


def test_every_call_of_a_shared_module_is_a_layer_of_its_own():
    made, traced, x = small(InPlace)
    with torch.no_grad():
        first = relu(made.a(x))
        second = relu(made.c(relu(made.b(first))))
        found = [traced.cut_at(layer.name).backbone(x) for layer in traced.layers]
    for expected in (first, second):
        assert sum(features.shape == expected.shape and torch.equal(features, expected) for features in found) == 1


def test_functions_that_share_the_name_of_a_module_get_other_names():
    class Names(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.relu_1 = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
            self.fc = nn.Linear(4, 5)

        def forward(self, x):
            x = self.relu_1(relu(self.b(relu(self.a(x)))))
            return self.fc(x.mean((2, 3)))

    names = [layer.name for layer in Network(Names(), (3, 8, 8)).layers]
    assert len(names) == len(set(names)) == 5


def test_a_network_without_feature_maps_is_cut_at_its_input_and_explained_by_what_works_there():
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5)).eval()
    flat = Network(module, (3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    frontier, scores = flat.predict(x)
    assert torch.equal(frontier.features, x)
    with torch.no_grad():
        assert_close(scores, module(x))
    assert (flat.cut.layer.name, flat.cut.layer.shape) == ("input", (3, 8, 8))
    assert set(METHODS) - refusals(flat).keys() == {name for name, method in METHODS.items() if method.of_input}
    assert "no feature maps" in refusals(flat)["gradcam"]


def test_an_unknown_layer_is_answered_with_the_known_ones():
    with pytest.raises(UnknownLayer) as caught:
        network("scenes").cut_at("layer9")
    assert "'layer9'" in caught.value.detail
    assert all(layer.name in caught.value.detail for layer in network("scenes").layers)
    with pytest.raises(UnknownLayer, match="nowhere"):
        Network(varied(LeNet()), (3, 32, 32), layer="nowhere")


def test_a_layer_of_choice_takes_the_place_of_auto():
    made, _, x = small(LeNet)
    traced = Network(made, (3, 32, 32), layer="c1")
    assert traced.cut.layer.name == "c1"
    assert traced.cut_at("auto") is traced.cut
    near(traced.predict(x)[0].features, output_of(made, "c1", x))


def test_dropout_and_batch_statistics_are_off_whatever_mode_the_module_came_in():
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.9),
        nn.Linear(4, 5),
    )  # fmt: skip
    nn.init.normal_(made[1].running_mean)
    traced = Network(made.train(), (3, 16, 16))
    scores = traced.predict(images(3, 16))[1]
    near(scores, traced.predict(images(3, 16))[1])
    with torch.no_grad():
        near(scores, made.eval()(images(3, 16)))


@pytest.mark.parametrize("layer", ["auto", "layer2"])
def test_explaining_leaves_nothing_on_the_model(layer):
    class Ask:
        method, targets, options = "gradcam", (1, 2), {}

    Ask.layer = layer
    net = varied(module("scenes").__class__())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    traced = Network(net, (3, 64, 64))
    x = images(2, 64)
    explain(traced, x, *traced.predict(x), [Ask(), Ask()], chunk=4)
    after = net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(part._forward_hooks or part._backward_hooks for part in net.modules())
    assert x.grad is None
    assert torch.is_grad_enabled()
