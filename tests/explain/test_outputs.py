"""What networks give is read right: the scores among several outputs, in rows, before whatever activation ends them."""

from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from architectures import images
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from gradcam_service.errors import UnsupportedMethod
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit
from gradcam_service.explain.outputs import scores_in
from gradcam_service.explain.suitability import refusals


class Net(nn.Module):
    """Two convolutions, their average and a linear layer; ``end`` makes the output of scores and features."""

    def __init__(self, end=lambda scores, features: scores, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.fc, self.end = nn.Linear(8, classes), end
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0, 0.5)

    def forward(self, x):
        features = self.features(x)
        return self.end(self.fc(features.mean((2, 3))), features)


def network(end=lambda scores, features: scores, classes=3, **options):
    return Network(Net(end, classes).eval(), (3, 16, 16), **options)


@cache
def plain():
    return network()


def truth(classes=3):
    with torch.no_grad():
        return Net(classes=classes)(images(3, 16))


def maps(network, target):
    """Gradients at the default layer, of one class for three pictures."""
    frontier = network.cut.frontier(images(3, 16))
    return network.cut.head.gradients(frontier, Logit(torch.full((3,), target)))


ROWS = torch.zeros(2, 3)
GRID = torch.zeros(2, 8, 4, 4)


@dataclass
class Answered:
    embedding: object = None
    logits: object = None


@pytest.mark.parametrize(
    "answer",
    [
        ROWS,
        (ROWS, GRID),
        (GRID, ROWS),
        [GRID, None, ROWS],
        (ROWS[:, :, None, None], GRID),
        {"embedding": torch.zeros(2, 3), "logits": ROWS},
        Answered(torch.zeros(2, 5), ROWS),
        {"out": ROWS, "aux": torch.ones(2, 3)},
        ({"logits": ROWS}, GRID),
        {"whatever": ROWS},
        (torch.zeros(2, 5), {"logits": ROWS}),
    ],
)
def test_the_scores_are_the_row_for_each_image_or_what_is_called_so(answer):
    found = scores_in(answer)
    assert found.numel() == ROWS.numel()
    assert found.data_ptr() == ROWS.data_ptr()


@pytest.mark.parametrize(
    ("answer", "shapes", "named"),
    [
        ((torch.zeros(2, 32), ROWS), r"0 \(N, 32\), 1 \(N, 3\)", "output: 0"),
        ({"species": ROWS, "sex": torch.zeros(2, 2)}, r"species \(N, 3\), sex \(N, 2\)", "output: species"),
        ({"a": {"logits": ROWS}, "b": {"logits": ROWS}}, r"a.logits \(N, 3\), b.logits \(N, 3\)", "output: a.logits"),
        ((torch.zeros(2), torch.zeros(2)), r"0 \(N\), 1 \(N\)", "output: 0"),
        (SimpleNamespace(logits=ROWS), "a SimpleNamespace", "return the scores alone"),
    ],
)
def test_several_that_could_be_the_scores_are_refused_with_their_shapes(answer, shapes, named):
    with pytest.raises(UnsupportedMethod, match=f"{shapes}.*{named}"):
        scores_in(answer)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ((torch.zeros(2, 32), ROWS), 1),
        ((torch.zeros(2, 32), ROWS), "1"),
        ({"sex": torch.zeros(2, 2), "species": ROWS}, "species"),
        (Answered(ROWS, torch.zeros(2, 9)), "embedding"),
        ({"heads": [torch.zeros(2, 2), ROWS], "logits": torch.zeros(2, 9)}, "heads.1"),
    ],
)
def test_model_yaml_says_which_output_the_scores_are(answer, wanted):
    assert scores_in(answer, wanted).data_ptr() == ROWS.data_ptr()


def test_an_output_that_there_is_not_is_refused_naming_those_that_there_are():
    with pytest.raises(UnsupportedMethod, match=r"sex \(N, 2\), species \(N, 3\).*none is 'age'"):
        scores_in({"sex": torch.zeros(2, 2), "species": ROWS}, "age")


def test_a_named_output_is_what_is_explained_and_the_rest_is_left_out():
    two = network(lambda scores, features: {"embedding": features.amax((2, 3)), "species": scores}, output="species")
    assert_close(two.scores(images(3, 16)), truth(), rtol=0, atol=0)
    assert two.cut.head.weight is not None


@pytest.mark.parametrize(
    "end",
    [
        lambda scores, _: scores[:, :, None, None],
        lambda scores, _: scores[:, None],
        lambda scores, _: scores[..., None],
    ],
)
def test_dimensions_of_one_are_left_out(end):
    found = network(end)
    assert found.classes == 3
    assert_close(found.scores(images(3, 16)), truth(), rtol=0, atol=0)
    assert found.cut.head.weight is not None
    assert_close(maps(found, 1), maps(plain(), 1), rtol=0, atol=0)


def test_a_grid_of_scores_is_no_row_and_says_what_it_is():
    with pytest.raises(UnsupportedMethod, match=r"with \(N, 8, 5, 5\); return scores \(N, classes\)"):
        _ = network(lambda _, features: features).classes


def written_out(shifted):
    return shifted.exp() / shifted.exp().sum(1, keepdim=True)


SOFTMAX = {
    "clamp": lambda scores, _: scores.softmax(1).clamp(1e-6, 1),
    "add": lambda scores, _: scores.softmax(1) + 1e-7,
    "add in place": lambda scores, _: scores.softmax(1).add_(1e-7),
    "a constant before it": lambda scores, _: 1e-7 + scores.softmax(1),
    "a tensor added": lambda scores, _: scores.softmax(1) + torch.tensor(1e-7),
    "percent": lambda scores, _: 100 * scores.softmax(-1),
    "half": lambda scores, _: scores.softmax(1).half().float(),
    "double": lambda scores, _: scores.softmax(1, dtype=torch.float64),
    "reshape and clamp": lambda scores, _: scores.softmax(1)[:, :, None, None].clamp(0, 1).flatten(1),
    "reshape at the end": lambda scores, _: scores.softmax(1)[:, None],
    "log-softmax": lambda scores, _: scores.log_softmax(1),
    "log of softmax": lambda scores, _: (scores.softmax(1) + 1e-12).log(),
    "clamped log": lambda scores, _: scores.softmax(1).clamp_min(1e-12).log(),
    "exp of log-softmax": lambda scores, _: scores.log_softmax(1).exp(),
    "module": lambda scores, _: nn.Softmax(dim=1)(scores),
    "implicit dimension": lambda scores, _: functional.softmax(scores, dim=None),
    "written out": lambda scores, _: written_out(scores),
    "written out, shifted": lambda scores, _: written_out(scores - scores.amax(1, keepdim=True)),
    "written out, shifted by max": lambda scores, _: written_out(scores - scores.max(1, keepdim=True).values),
}


@pytest.mark.filterwarnings("ignore:Implicit dimension")
@pytest.mark.parametrize("end", SOFTMAX.values(), ids=SOFTMAX)
def test_a_softmax_is_taken_off_whatever_follows_it(end):
    found = network(end)
    assert_close(found.scores(images(3, 16)), truth(), rtol=0, atol=1e-6, check_dtype=False)
    assert found.cut.head.weight is not None
    assert_close(maps(found, 2), maps(plain(), 2), rtol=0, atol=1e-7)
    assert_close(found.traced(images(3, 16)), truth(), rtol=0, atol=1e-6)  # the whole, as methods of the input take it


SIGMOID = {
    "clamp": lambda scores, _: scores.sigmoid().clamp(1e-6, 1 - 1e-6),
    "in place": lambda scores, _: scores.clone().sigmoid_(),
    "log-sigmoid": lambda scores, _: functional.logsigmoid(scores),
    "log": lambda scores, _: (scores.sigmoid() + 1e-9).log(),
    "percent": lambda scores, _: scores.sigmoid() * 100,
}


@pytest.mark.parametrize("end", SIGMOID.values(), ids=SIGMOID)
def test_so_is_a_sigmoid(end):
    found = network(end, activation="sigmoid")
    assert_close(found.scores(images(3, 16)), truth(), rtol=0, atol=1e-6)


NO_ENDING = {
    "a clamp": lambda scores, _: scores.clamp(-0.1, 0.1),
    "a sign turned": lambda scores, _: -1 * scores.softmax(1),
    "a prior for each class": lambda scores, _: scores.softmax(1) + torch.tensor([0.1, 0.2, 0.3]),
    "a softmax over the images": lambda scores, _: scores.softmax(0),
    "a class left out": lambda scores, _: scores.softmax(1)[:, 1:],
    "scores over other scores": lambda scores, _: scores.exp() / (1 + scores.exp()).sum(1, keepdim=True),
    "scores over their sum": lambda scores, _: scores / scores.sum(1, keepdim=True),
    "a softmax over the images, written out": lambda scores, _: scores.exp() / scores.exp().sum(0, keepdim=True),
    "exponentials over all of them": lambda scores, _: scores.exp() / scores.exp().sum(),
}


@pytest.mark.parametrize("end", NO_ENDING.values(), ids=NO_ENDING)
def test_what_changes_the_scores_otherwise_is_the_networks_own(end):
    with torch.no_grad():
        expected = Net(end)(images(3, 16))
    assert_close(network(end).scores(images(3, 16)), expected, rtol=0, atol=1e-6)


def test_a_parameter_over_the_scores_is_the_networks_own():
    net = Net().eval()
    net.scale, net.end = nn.Parameter(torch.tensor([2.0, 3.0, 4.0])), lambda scores, _: net.scale / scores
    expected = net.scale.detach() / truth()
    assert_close(Network(net, (3, 16, 16)).scores(images(3, 16)), expected, rtol=0, atol=1e-6)


SHIFTS = {
    "of another tensor": lambda scores, features: features.amax((2, 3))[:, :3],
    "the largest of another tensor": lambda scores, features: features.amax((1, 2, 3))[:, None],
    "one of several results": lambda scores, features: features[:, :3, :2, 0].max(2).values,
    "the places of the largest": lambda scores, _: scores[:, None].max(2).indices,
    "the largest of a class": lambda scores, _: scores.amax(0, keepdim=True),
}


@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)
def test_what_else_than_their_largest_is_taken_from_logits_before_a_softmax_stays(shift):
    def shifted(scores, features):
        return scores - shift(scores, features)

    with torch.no_grad():
        expected = Net(shifted)(images(3, 16))
    found = network(lambda scores, features: written_out(shifted(scores, features))).scores(images(3, 16))
    assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("activation", ["none", "identity"])
def test_scores_as_they_are_keep_their_ending(activation):
    found = network(SOFTMAX["clamp"], activation=activation)
    scores = found.scores(images(3, 16))
    assert_close(scores, truth().softmax(1), rtol=0, atol=1e-6)
    assert found.probabilities(scores) is scores


ONE = {
    "a column": lambda scores, _: scores,
    "a number": lambda scores, _: scores[:, 0],
    "of a sigmoid": lambda scores, _: scores.sigmoid().flatten(),
    "a pixel": lambda scores, _: scores[:, :, None, None],
}


@pytest.mark.parametrize("end", ONE.values(), ids=ONE)
def test_one_logit_of_a_sigmoid_is_both_sides_of_a_question(end):
    """No is explained by −y and yes by y, so that their probabilities sum to one and their gradients to zero."""
    found = network(end, classes=1, activation="sigmoid")
    logit = truth(classes=1)
    assert_close(found.scores(images(3, 16)), torch.cat([-logit, logit], 1), rtol=0, atol=0)
    assert_close(found.probabilities(found.scores(images(3, 16))).sum(1), torch.ones(3))
    assert maps(found, 1).any()
    assert torch.equal(maps(found, 0), -maps(found, 1))
    assert refusals(found) == {}  # it is still an average and a linear layer
    weight = Net(classes=1).fc.weight.detach()
    assert torch.equal(found.cut.head.weight, torch.cat([-weight, weight]))


def test_two_linear_layers_after_the_average_are_one():
    net = Net(classes=4)
    net.fc = nn.Sequential(nn.Linear(8, 5), nn.Dropout(), nn.Linear(5, 4))
    found = Network(net.eval(), (3, 16, 16))
    assert_close(found.cut.head.weight, net.fc[2].weight @ net.fc[0].weight)
    net.fc[1] = nn.Tanh()
    assert Network(net, (3, 16, 16)).cut.head.weight is None


HEADS = {
    "one logit": (nn.Linear(8, 1), "sigmoid"),
    "one layer": (nn.Linear(8, 3), "softmax"),
    "two layers": (nn.Sequential(nn.Linear(8, 5), nn.Linear(5, 3)), "softmax"),
}


@pytest.mark.parametrize(("head", "activation"), HEADS.values(), ids=HEADS)
def test_the_weight_of_the_head_moves_with_the_network(head, activation):
    """It is a product of parameters, made when the network is cut; here to a device without memory."""
    net = Net()
    net.fc = head
    meta = torch.device("meta")
    found = Network(net.eval(), (3, 16, 16), activation=activation).to(meta)
    assert found.cut.head.weight.device == meta
    assert found.cut is found.cut_at("auto")
    frontier, scores = found.predict(images(3, 16).to(meta))
    gradients = found.cut.head.gradients(frontier, Logit(torch.zeros(3, dtype=torch.long, device=meta)))
    assert scores.device == gradients.device == meta
