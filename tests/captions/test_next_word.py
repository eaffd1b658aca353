"""Captioners that answer with the logits of the next word alone become those of every position."""

from copy import deepcopy
from functools import cache, partial

import pytest
import torch
from torch import nn

from gradcam_service.errors import ModelFailed
from gradcam_service.explain.network import Network
from gradcam_service.explain.prefixes import after_each_token
from gradcam_service.explain.tracing import trace
from gradcam_service.registry.captioner import check, of_every_position
from gradcam_service.text import Text

from .plain import LENGTH, SIDE, WORDS, Next, Recurrent, Transformer, made

TEXT = Text(WORDS, LENGTH)


class TwoEyes(nn.Module):
    """One that looks twice: a cut in one backbone is crossed by what the other sees."""

    def __init__(self):
        super().__init__()
        self.one, self.other = Transformer(), Recurrent(nn.GRU)

    def forward(self, image, tokens):
        return self.one(image, tokens) * torch.sigmoid(self.other(image, tokens))


def inputs(rows=3):
    torch.manual_seed(5)
    return torch.randn(rows, 3, SIDE, SIDE), torch.randint(1, len(WORDS), (rows, LENGTH))


@cache
def traced(kind):
    """The graph of a network of the next word, of every position."""
    images, tokens = inputs(2)
    return after_each_token(trace(made(partial(Next, kind)), {"image": images, "tokens": tokens}), pad=0)


@pytest.mark.parametrize(
    "kind", [TwoEyes, *(pytest.param(each, marks=pytest.mark.exhaustive) for each in (Recurrent, Transformer))]
)
def test_scores_after_each_token_are_those_of_each_beginning_alone(kind):
    module, graph, (images, tokens) = made(partial(Next, kind)).double(), deepcopy(traced(kind)).double(), inputs()
    with torch.no_grad():
        alone = [module(images.double(), tokens[:, : at + 1]) for at in range(LENGTH)]
        torch.testing.assert_close(graph(images.double(), tokens), torch.stack(alone, 1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layer", ["auto", "inner.one.encoder.1", "inner.other.cnn.1"])
def test_the_head_of_any_rows_is_the_network(layer):
    images, tokens = inputs()
    network = Network(deepcopy(traced(TwoEyes)), {"image": images[:2], "tokens": tokens[:2]}, layer)
    assert network.positions == LENGTH
    rows = [2, 0, 0]
    frontier = network.cut.frontier(images, tokens).rows(rows)
    with torch.no_grad():
        expected = made(partial(Next, TwoEyes)).inner(images[rows], tokens[rows]).flatten(1)
        torch.testing.assert_close(network.cut.head.scores(frontier, tokens[rows]), expected, rtol=1e-5, atol=1e-4)


def test_one_that_reads_the_last_token_whatever_it_is_takes_padding_for_words():
    class Blind(Next):
        def forward(self, image, tokens):
            return self.inner(image, tokens)[:, -1]

    images, tokens = inputs(2)
    graph = trace(made(Blind), {"image": images, "tokens": tokens})
    with pytest.raises(ModelFailed, match="takes '<pad>' for a word: return the logits of every position"):
        of_every_position(graph, TEXT)


class Silent(Next):
    """One to which padding never follows, and that has a buffer of its own by the name of ours."""

    def __init__(self, kind):
        super().__init__(kind)
        self.register_buffer("later", torch.tensor([-torch.inf] + [0.0] * (len(WORDS) - 1)))

    def forward(self, image, tokens):
        return super().forward(image, tokens) + self.later


def test_a_word_that_never_follows_is_no_difference_and_a_buffer_keeps_its_name():
    module, (images, tokens) = made(partial(Silent, Recurrent)), inputs(2)
    graph = of_every_position(trace(module, {"image": images, "tokens": tokens}), TEXT)
    with torch.no_grad():
        alone = [module(images, tokens[:, : at + 1]) for at in range(LENGTH)]
        torch.testing.assert_close(graph(images, tokens), torch.stack(alone, 1), rtol=1e-5, atol=1e-4)
    assert graph(images, tokens)[:, :, 0].eq(-torch.inf).all()
    check(Network(graph, {"image": images, "tokens": tokens}), images, Text(WORDS, LENGTH))


def test_one_of_every_position_stays_as_it_is():
    images, tokens = inputs(2)
    graph = trace(made(Recurrent), {"image": images, "tokens": tokens})
    assert of_every_position(graph, TEXT) is graph
