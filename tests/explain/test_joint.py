"""Branches that end apart are explained at their ends together, each lying as the picture does."""

from functools import cache

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gradcam_service.explain.methods.gradcam import gradcam
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit

TARGETS = torch.tensor([0, 2, 1])


class Plain(nn.Module):
    """Convolutions, their average and a linear layer."""

    def __init__(self, seed, stride=2, channels=8):
        super().__init__()
        torch.manual_seed(seed)
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride, 1), nn.ReLU(), nn.Conv2d(6, channels, 3, 1, 1), nn.Tanh()
        )
        self.fc = nn.Linear(channels, 3)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, 0.4)

    def forward(self, x):
        return self.fc(self.features(x).mean((2, 3)))


TURNS = {
    "columns": (lambda x: x.flip(3), lambda m: m.flip(3)),
    "rows": (lambda x: x.flip(-2), lambda m: m.flip(2)),
    "both": (lambda x: x.flip((2, 3)), lambda m: m.flip((2, 3))),
    "transposed": (lambda x: x.transpose(2, 3), lambda m: m.transpose(2, 3)),
    "permuted": (lambda x: x.permute(0, 1, 3, 2), lambda m: m.permute(0, 1, 3, 2)),
    "a quarter": (lambda x: torch.rot90(x, 1, (2, 3)), lambda m: torch.rot90(m, -1, (2, 3))),
    "half": (lambda x: torch.rot90(x, 2, (2, 3)), lambda m: torch.rot90(m, -2, (2, 3))),
    "three quarters": (lambda x: x.rot90(3, (2, 3)), lambda m: m.rot90(-3, (2, 3))),
    "back again": (lambda x: x.rot90(-1, (3, 2)), lambda m: m.rot90(1, (3, 2))),
    "one after another": (lambda x: x.flip(3).transpose(2, 3), lambda m: m.transpose(2, 3).flip(3)),
}


class Branches(nn.Module):
    """Two networks, or one twice, of which the second sees the picture turned; ``unite`` makes scores of theirs."""

    def __init__(self, turn=lambda x: x, same=False, unite=lambda a, b: (a + b) / 2, **options):
        super().__init__()
        self.a = Plain(0)
        self.b = self.a if same else Plain(1, **options)
        self.turn, self.unite = turn, unite

    def forward(self, x):
        return self.unite(self.a(x), self.b(self.turn(x)))


def pictures(count=3, side=16):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def expected(module, x, back=lambda grid: grid):
    """ReLU of the sum of both branches' Σ α A in float64, each turned back; by hooks on the plain module."""
    module = module.double()
    kept = []
    hooks = [
        features.register_forward_hook(lambda _, __, values: (values.retain_grad(), kept.append(values))[1])
        for features in dict.fromkeys((module.a.features, module.b.features))
    ]
    scores = module(x.double().requires_grad_())
    scores.gather(1, TARGETS[:, None]).sum().backward()
    for hook in hooks:
        hook.remove()
    own, other = ((values.grad.mean((2, 3), keepdim=True) * values).sum(1, keepdim=True).detach() for values in kept)
    return (own + back(other))[:, 0].clip(min=0)


def found(network, x, layer="auto"):
    cut = network.cut_at(layer)
    frontier = cut.frontier(x)
    gradients = cut.head.gradients(frontier, Logit(TARGETS))
    return gradcam(cut.layer.layout.to_grid(frontier.features), gradients)


UNITED = {
    "an average": lambda a, b: (a + b) / 2,
    "a product": lambda a, b: a * b.sigmoid(),
    "an average of probabilities": lambda a, b: (a.softmax(1) + b.softmax(1)) / 2,
    "the larger": torch.maximum,
}


@pytest.mark.parametrize("unite", UNITED.values(), ids=UNITED)
def test_an_ensemble_is_explained_by_the_sum_of_its_maps_before_the_relu(unite):
    module, x = Branches(unite=unite, channels=5).eval(), pictures()
    network = Network(module, (3, 16, 16), activation="none")
    assert network.cut.layer.name == "a.features,b.features"
    assert network.cut.layer.shape == (8 + 5, 8, 8)
    with torch.no_grad():
        assert_close(network.scores(x), module(x), rtol=0, atol=0)
    assert_close(found(network, x).double(), expected(module, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "same"), [*((name, True) for name in TURNS), ("columns", False), ("one after another", False)]
)
def test_maps_of_a_picture_that_is_turned_inside_are_turned_back(name, same):
    """Inside of one network that sees it both ways, or before the second of two networks."""
    turn, back = TURNS[name]
    module, x = Branches(turn, same).eval(), pictures()
    network = Network(module, (3, 16, 16))
    assert network.cut.layer.shape == (16, 8, 8)
    with torch.no_grad():
        assert_close(network.scores(x), module(x), rtol=0, atol=1e-6)
    assert_close(found(network, x).double(), expected(module, x, back), rtol=0, atol=1e-6)


@cache
def straight():
    """A network by itself, and the same traced."""
    plain = Plain(3).eval()
    return plain, Network(plain, (3, 16, 16))


@pytest.mark.parametrize(("turn", "back"), TURNS.values(), ids=TURNS)
def test_a_single_network_that_turns_its_picture_is_explained_as_the_picture_lies(turn, back):
    module, x = (
        nn.Sequential(type("Turn", (nn.Module,), {"forward": lambda self, x: turn(x)})(), straight()[0]),
        pictures(),
    )
    expected = back(found(straight()[1], turn(x))[:, None])[:, 0]
    assert_close(found(Network(module, (3, 16, 16)), x), expected, rtol=0, atol=1e-6)


def test_each_branch_is_a_layer_by_its_name():
    network, x = Network(Branches().eval(), (3, 16, 16)), pictures()
    assert {"a.features", "b.features", "a.features.0"} <= network.every_layer.keys()
    assert [layer.name for layer in network.layers] == ["a.features,b.features"]
    both = found(network, x, "a.features,b.features")
    assert not torch.equal(both, found(network, x, "a.features"))
    assert not torch.equal(both, found(network, x, "b.features"))


def test_a_joint_layer_survives_every_method_and_is_all_that_crosses():
    network = Network(Branches(lambda x: x.flip(3), same=True).eval(), (3, 16, 16))
    assert network.cut.axes == ()
    frontier = network.cut.frontier(pictures())
    assert_close(network.cut.head.scores(frontier), network.traced(pictures()), rtol=0, atol=0)


def test_branches_of_other_grids_are_not_joined_but_named():
    network = Network(Branches(stride=4).eval(), (3, 16, 16))
    assert network.cut.layer.name == "b.features"
    assert {"a.features", "b.features"} <= network.every_layer.keys()


def test_a_grid_of_channels_last_is_joined_too():
    class Last(Plain):
        def forward(self, x):
            values = self.features(x).permute(0, 2, 3, 1)
            return self.fc(nn.functional.layer_norm(values, (8,)).mean((1, 2)))

    module, x = Branches().eval(), pictures()
    module.b = Last(1).eval()
    network = Network(module, (3, 16, 16))
    assert network.cut.layer.shape == (16, 8, 8)
    with torch.no_grad():
        assert_close(network.scores(x), module(x), rtol=0, atol=1e-6)
