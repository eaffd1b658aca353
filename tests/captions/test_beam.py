"""Beam search: the most probable of all captions where the beam holds all beginnings, and greedy where it is 1."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from gradcam_service.core.options import ExplainOptions, PredictOptions
from gradcam_service.errors import BadOption, TooExpensive
from gradcam_service.explain.network import Network
from gradcam_service.text import Text
from gradcam_service.worker.captions import spoken

WORDS = ["<pad>", "<start>", "<end>", "a", "b"]
LENGTH = 4
START, END = 1, 2


class Tiny(nn.Module):
    """Two words and an end, after at most three of which a caption is full."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
        self.embedding = nn.Embedding(5, 4)
        self.recurrent = nn.GRU(4, 4, batch_first=True)
        self.words = nn.Linear(4, 5)

    def forward(self, image, tokens):
        said, _ = self.recurrent(self.embedding(tokens), self.features(image).mean((2, 3))[None].contiguous())
        return self.words(said)


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(4)
    module = Tiny()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 2.0)
    images = torch.randn(40, 3, 8, 8) * 2 + torch.randn(40, 3, 1, 1)
    examples = {"image": images[:2], "tokens": torch.ones(2, LENGTH, dtype=torch.int64)}
    return module.eval(), Network(module, examples), images


def searched(network, images, widths):
    tokens = torch.zeros(len(images), LENGTH, dtype=torch.int64)
    tokens[:, 0] = START
    frontier, scores = network.predict(images, tokens)
    found, scores = spoken(network, frontier, tokens, scores, widths, Text(WORDS, LENGTH), most=8)
    torch.testing.assert_close(scores, network.scores(images, found), rtol=1e-4, atol=1e-4)
    return found.tolist()


def probabilities(module, image):
    """Of every caption, the natural logarithm of its probability, in float64, one caption after the other."""
    module, found = module.double(), {}
    for length in range(LENGTH):
        for words in product((3, 4), repeat=length):
            text = [START, *words]
            with torch.no_grad():
                likely = module(image.double(), torch.tensor([text])).log_softmax(2)[0]
            ends = [] if length == LENGTH - 1 else [END]  # there is no room for an end
            found[words] = sum(float(likely[at, word]) for at, word in enumerate([*words, *ends]))
    module.float()
    return found


def padded(words):
    return [START, *words, *[0] * (LENGTH - 1 - len(words))]


def test_a_beam_that_holds_all_beginnings_finds_the_most_probable_caption(tiny):
    module, network, images = tiny
    best = []
    for image in images:
        found = probabilities(module, image[None])
        best.append(padded(max(found, key=found.get)))
    assert searched(network, images, [8] * 40) == best
    assert len({tuple(words) for words in best}) > 3


def test_a_beam_of_one_is_greedy_and_another_is_at_times_better(tiny):
    module, network, images = tiny
    greedy = []
    for image in images:
        words = []
        while len(words) < LENGTH - 1:
            with torch.no_grad():
                logits = module(image[None], torch.tensor([[START, *words]]))[0, -1]
            word = 2 + int(logits[2:].argmax())
            if word == END:
                break
            words.append(word)
        greedy.append(padded(words))
    assert searched(network, images, [1] * 40) == greedy
    assert searched(network, images, [8] * 40) != greedy


def test_captions_with_beams_of_their_own_are_found_as_if_alone(tiny):
    _, network, images = tiny
    widths = [1, 2, 3, 8] * 10
    alone = [searched(network, image[None], [width])[0] for image, width in zip(images, widths, strict=True)]
    assert searched(network, images, widths) == alone


def test_a_caption_that_is_given_stays(tiny):
    _, network, images = tiny
    tokens = torch.tensor([[1, 3, 4, 3], [1, 0, 0, 0]])
    frontier, scores = network.predict(images[:2], tokens)
    found, _ = spoken(network, frontier, tokens, scores, [0, 4], Text(WORDS, LENGTH), most=8)
    assert found[0].tolist() == [1, 3, 4, 3]
    assert found[1].tolist() == searched(network, images[1:2], [4])[0]


def test_a_wider_beam_says_what_is_more_probable_and_each_word_is_explained(opened, pictures):
    local, better = opened("attends"), 0
    for picture in pictures:
        narrow, wide = (local.explain(picture, ExplainOptions(beam=beam, output=["map"])) for beam in (1, 8))
        said, found = narrow.prediction.caption, wide.prediction.caption
        better += found.text != said.text
        given = local.explain(picture, ExplainOptions(caption=found.text, output=["map"])) if found.text else wide
        for one, other in zip(wide.explanations, given.explanations, strict=True):
            np.testing.assert_allclose(one.map, other.map, rtol=1e-4, atol=1e-6)
    assert better


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"beam": 2, "caption": "a red star"}, BadOption, "'caption' is yours"),
        ({"beam": 8}, TooExpensive, "a beam of 8 would take 48 passes"),
    ],
)
def test_what_a_beam_is_not_for_is_refused(opened, pictures, options, error, said):
    local = opened("attends")
    few = local.settings.model_copy(update={"max_forward_passes": 47})
    with pytest.raises(error) as raised:
        type(local)(local.entry, local.model, few).explain(pictures[0], ExplainOptions(**options))
    assert said in raised.value.detail


def test_a_beam_is_of_captioners(opened):
    from gradcam_service.tasks import beside

    assert PredictOptions(beam="3").numbers == {"beam": 3}
    with pytest.raises(BadOption, match="is of models of task captioning, and this one's is classification"):
        beside("classification", None, {}, {"beam": 3})
