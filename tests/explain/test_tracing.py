"""Modules as people have them become the same graph: whatever they wrap their scores in, and do on the way."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from architectures import images
from torch import nn
from torch.export import Dim
from torch.optim.swa_utils import AveragedModel
from torch.testing import assert_close

from gradcam_service.errors import UnsupportedMethod
from gradcam_service.explain.endings import logits_of
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit
from gradcam_service.explain.tracing import trace


@dataclass
class Answered:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None


Named = namedtuple("Named", ["features", "scores"])


class Net(nn.Module):
    """A convolution, its average and a linear layer; ``wrap`` makes an output of scores and features."""

    def __init__(self, wrap=lambda scores, features: scores):
        super().__init__()
        self.conv, self.fc, self.wrap = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), wrap

    def features(self, x):
        return self.conv(x).relu()

    def forward(self, x):
        features = self.features(x)
        return self.wrap(self.fc(features.mean((2, 3))), features)


def made(kind=Net, *args):
    torch.manual_seed(0)
    net = kind(*args).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, 0, 0.5)
    return net


WRAPPED = {
    "tuple": lambda scores, features: (scores, features),
    "dictionary": lambda scores, features: {"features": features, "logits": scores},
    "a dictionary of one": lambda scores, features: {"whatever": scores, "note": "of no tensor"},
    "segmentation": lambda scores, features: OrderedDict(out=scores, aux=features),
    "dataclass": lambda scores, features: Answered(scores, features),
    "named tuple": lambda scores, features: Named(features, scores),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_scores_are_found_in_what_a_module_answers_with(wrap):
    plain, traced = Network(made(), (3, 12, 12)), Network(made(Net, wrap), (3, 12, 12))
    x = images(3, 12)
    assert_close(traced.scores(x), plain.scores(x), rtol=0, atol=0)
    assert traced.cut.layer.name == plain.cut.layer.name == "relu"
    assert traced.cut.head.weight is not None  # nothing of the rest is left in the graph


@pytest.mark.parametrize(
    ("wrap", "named"),
    [
        (lambda scores, features: {"left": scores, "right": features}, "dict with left, right"),
        (lambda scores, features: None, "NoneType"),
        (lambda scores, features: ("scores", scores), "tuple"),
    ],
)
def test_an_output_that_could_be_anything_is_refused_by_what_it_is(wrap, named):
    with pytest.raises(UnsupportedMethod, match=f"answers with a {named}.*logits"):
        Network(made(Net, wrap), (3, 12, 12))


class Careless(Net):
    """Normalises its input in place."""

    def forward(self, x):
        x.sub_(0.5).div_(0.25)
        return super().forward(x)


class Forgetful(Net):
    """Wants no gradient, once for a part of itself and once for a value."""

    def features(self, x):
        with torch.no_grad():
            return super().features(x).detach()


class Mixed(Net):
    """Computes in bfloat16 where it may."""

    def features(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().features(x)


@pytest.mark.parametrize("kind", [Forgetful, Mixed])
def test_gradients_and_precision_are_as_they_are_without_the_modules_own_switches(kind):
    plain, traced = Network(made(), (3, 12, 12)), Network(made(kind), (3, 12, 12))
    x, targets = images(3, 12), Logit(torch.tensor([0, 1, 2]))
    assert traced.every_layer.keys() >= {"conv"}
    assert_close(traced.scores(x), plain.scores(x), rtol=0, atol=0)
    ours, theirs = traced.cut_at("conv"), plain.cut_at("conv")
    gradients = ours.head.gradients(ours.frontier(x), targets)
    assert gradients.any()
    assert_close(gradients, theirs.head.gradients(theirs.frontier(x), targets), rtol=0, atol=0)


def test_autocast_is_itself_again_afterwards():
    made_of = torch.autocast.__enter__, torch.autocast.__exit__
    Network(made(Mixed), (3, 12, 12))
    with pytest.raises(UnsupportedMethod):
        Network(made(Net, lambda scores, features: None), (3, 12, 12))
    assert (torch.autocast.__enter__, torch.autocast.__exit__) == made_of


def test_a_module_that_writes_into_its_input_leaves_the_callers_alone():
    traced, x = Network(made(Careless), (3, 12, 12)), images(2, 12)
    before = x.clone()
    scores = traced.scores(x)
    assert torch.equal(x, before)
    with torch.no_grad():
        assert_close(scores, made(Careless)(x.clone()), rtol=0, atol=0)


def written_into(x):
    x[:, 0] = 0.2 * x[:, 0] + 0.1


def set_to_nothing(x):
    x[:, :, :4] = 0
    x[x < 0] = 0


def channel_by_channel(x):
    for channel, mean in enumerate((0.4, 0.5, 0.6)):
        x[:, channel].sub_(mean).div_(0.25)


def copied_into(x):
    x.copy_(x / 2).clamp_(-1, 1)


@pytest.mark.parametrize("normalise", [written_into, set_to_nothing, channel_by_channel, copied_into])
def test_a_module_may_write_into_its_input_in_any_way(normalise):
    """The scores, the layers and the gradient of the picture are those of a copy; the caller's picture stays."""

    class Own(Net):
        def forward(self, x):
            normalise(x)
            return super().forward(x)

    traced, x = Network(made(Own), (3, 12, 12)), images(2, 12)
    before, leaf = x.clone(), x.clone().requires_grad_()
    scores = traced.scores(x)
    assert torch.equal(x, before)
    assert traced.cut.layer.name == "relu"
    expected = made(Own)(leaf.clone())
    assert_close(scores, expected.detach(), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    other = before.requires_grad_()
    assert_close(torch.autograd.grad(traced.traced(other).sum(), other)[0], gradient, rtol=0, atol=1e-7)


WRAPPERS = {
    "for several devices": nn.DataParallel,
    "compiled": torch.compile,
    "averaged": AveragedModel,
    "compiled for several devices": lambda net: torch.compile(nn.DataParallel(net)),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_module_that_only_runs_another_is_the_one_inside(wrap):
    net = made()
    traced, x = Network(wrap(net), (3, 12, 12)), images(2, 12)
    with torch.no_grad():
        assert_close(traced.scores(x), net(x), rtol=0, atol=0)
    assert "conv" in traced.every_layer


def test_wrappers_inside_of_a_module_are_no_obstacle():
    net = made()
    inside = nn.Sequential(nn.DataParallel(torch.compile(net)))
    with torch.no_grad():
        assert_close(Network(inside, (3, 12, 12)).scores(images(2, 12)), net(images(2, 12)), rtol=0, atol=0)


@pytest.mark.parametrize("script", [torch.jit.script, lambda net: torch.jit.trace(net, images(2, 12))])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused_saying_how_to_come_here(script):
    with pytest.raises(UnsupportedMethod, match=r"is TorchScript.*torch\.export\.save.*source: pt2"):
        Network(script(nn.Conv2d(3, 4, 3)), (3, 12, 12))
    with pytest.raises(UnsupportedMethod, match="holds TorchScript in 1"):
        Network(nn.Sequential(nn.ReLU(), script(nn.Conv2d(3, 4, 3))), (3, 12, 12))


ENDINGS = {
    "softmax": lambda scores, _: scores.softmax(1),
    "log-softmax": lambda scores, _: scores.log_softmax(1),
    "softmax, reshaped, cast and clipped": lambda scores, _: (
        scores.softmax(1).reshape(-1, 5).double().float().clip(1e-6, 1 - 1e-6)
    ),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_scores_are_what_a_final_activation_is_applied_to(end):
    plain, traced = Network(made(), (3, 12, 12)), Network(made(Net, end), (3, 12, 12))
    x = 100 * images(3, 12)  # many a probability is 0 or 1 to the last digit
    assert_close(traced.scores(x), plain.scores(x), rtol=0, atol=0)
    assert traced.cut.head.weight is not None
    with pytest.raises(UnsupportedMethod, match="ends in a softmax, but its activation is said to be sigmoid"):
        logits_of(trace(made(Net, end), (3, 12, 12)), "sigmoid")


def test_a_clip_that_follows_no_activation_is_the_networks_own():
    net = made(Net, lambda scores, _: scores.clip(-0.1, 0.1))
    with torch.no_grad():
        assert_close(Network(net, (3, 12, 12)).scores(images(3, 12)), net(images(3, 12)), rtol=0, atol=0)


class Read(nn.Module):
    """Words of any number that attend to an image's cells."""

    def __init__(self):
        super().__init__()
        self.conv, self.words, self.next = nn.Conv2d(3, 8, 3), nn.Embedding(20, 8), nn.Linear(8, 20)

    def forward(self, image, caption):
        cells = self.conv(image).relu().flatten(2).transpose(1, 2)
        words = self.words(caption)
        return self.next(words + (words @ cells.transpose(1, 2)).softmax(2) @ cells)


def test_an_input_of_any_length_is_one_of_any_length_after_the_cut():
    net, words = made(Read), torch.randint(0, 20, (3, 9), generator=torch.Generator().manual_seed(0))
    examples = {"image": images(2, 12), "caption": words[:2, :5]}
    traced = Network(trace(net, examples, {"caption": {1: Dim("words", min=1, max=16)}}), examples)
    assert [node.name for node in traced.traced.graph.find_nodes(op="placeholder")] == ["image", "caption"]
    backbone = traced.cut.backbone.graph
    assert [node.name for node in backbone.find_nodes(op="placeholder") if node.users] == ["image"]
    x = images(3, 12)
    frontier = traced.cut.frontier(x, words)
    for length in (1, 4, 9):
        with torch.no_grad():
            expected = net(x, words[:, :length])
            found = traced.cut.head.scores(frontier, words[:, :length])
        assert found.shape == (3, length, 20)
        assert_close(found, expected, rtol=0, atol=1e-5)
