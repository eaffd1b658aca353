"""What captions say is what the scenes hold, and the network that learns them is causal."""

import numpy as np
import pytest
import torch

from gradcam_service.zoo.scenes import CLASSES, Scene, SceneObject
from gradcam_service.zoo.scenes_captions.evaluate import Described, figures
from gradcam_service.zoo.scenes_captions.examples import _examples, coloured_scene
from gradcam_service.zoo.scenes_captions.language import COLOURS, LENGTH, VOCABULARY, caption, named, tokens
from gradcam_service.zoo.scenes_captions.network import captions_network

SEEDS = range(60)


def placed(*objects: tuple[str, str, int, int]) -> Scene:
    """A scene 90 × 90 of squares of 10 pixels: colour, shape, and the middle's x and y of each."""
    items = []
    for name, shape, x, y in objects:
        mask = np.zeros((90, 90), dtype=bool)
        mask[y - 5 : y + 5, x - 5 : x + 5] = True
        items.append(SceneObject(CLASSES.index(shape), mask, (x - 5, y - 5, x + 5, y + 5), np.array(COLOURS[name])))
    return Scene(np.zeros((90, 90, 3), dtype=np.uint8), tuple(items))


def sentence(of: Scene) -> str:
    return " ".join(word.text for word in caption(of))


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ([("red", "star", 20, 15)], "a red star at the top left"),
        ([("orange", "fish", 45, 45)], "an orange fish in the middle"),
        ([("white", "heart", 75, 45)], "a white heart at the right"),
        ([("black", "arrow", 45, 80)], "a black arrow at the bottom"),
        ([("blue", "fish", 70, 40), ("red", "star", 20, 45)], "a red star left of a blue fish"),
        ([("red", "star", 40, 70), ("blue", "fish", 50, 20)], "a red star below a blue fish"),
        (
            [("green", "cross", 80, 20), ("red", "star", 40, 20), ("blue", "fish", 50, 70)],
            "a red star above a blue fish below a green cross",
        ),
    ],
)
def test_a_caption_says_what_is_where_from_left_to_right(objects, expected):
    assert sentence(placed(*objects)) == expected


def test_words_speak_of_the_objects_whose_colours_and_shapes_they_are():
    for seed in SEEDS:
        drawn = coloured_scene(seed)
        words = caption(drawn)
        spoken = [word for word in words if word.of is not None]
        assert sorted({word.of for word in spoken}) == list(range(len(drawn.objects)))
        for word in spoken:
            item = drawn.objects[word.of]
            if word.text in CLASSES:
                assert CLASSES[item.label] == word.text
            else:  # the pixels of the object, apart from its edge, shading and noise, have the word's colour
                seen = np.median(drawn.image[item.mask], axis=0)
                nearest = min(COLOURS, key=lambda name: np.linalg.norm(np.array(COLOURS[name]) - seen))
                assert nearest == word.text


def test_colours_are_further_apart_than_their_variation():
    values = np.array(list(COLOURS.values()))
    distances = np.linalg.norm(values[:, None] - values[None], axis=2)[~np.eye(len(values), dtype=bool)]
    assert distances.min() > 2 * np.sqrt(3) * 12


def test_the_vocabulary_has_each_word_once_and_all_that_captions_need():
    assert len(VOCABULARY) == len(set(VOCABULARY)) <= 60
    assert VOCABULARY[0] == "<pad>"
    captions = [[word.text for word in caption(coloured_scene(seed))] for seed in SEEDS]
    assert {word for words in captions for word in words} <= set(VOCABULARY)
    assert max(map(len, captions)) <= LENGTH
    row = tokens(captions[0])
    assert [VOCABULARY[token] for token in row][1 : 1 + len(captions[0])] == captions[0]
    assert len(row) == LENGTH + 2


def test_examples_hold_the_scene_its_caption_and_where_each_word_points():
    examples = _examples(range(4))
    for row, seed in enumerate(range(4)):
        drawn = coloured_scene(seed)
        assert np.array_equal(examples.images[row], drawn.image)
        for at, word in enumerate(caption(drawn)):
            assert VOCABULARY[examples.tokens[row, at + 1]] == word.text
            assert examples.of[row, at] == (0 if word.of is None else word.of + 1)
            if word.of is not None:
                assert np.array_equal(examples.regions[row] == word.of + 1, drawn.objects[word.of].mask)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return captions_network().double().eval()


def test_words_that_come_later_change_nothing(network):
    images = torch.randn(2, 3, 128, 128, dtype=torch.float64)
    words = torch.randint(3, len(VOCABULARY), (2, LENGTH + 1))
    padded = words.clone()
    padded[:, 5:] = 0
    with torch.inference_mode():
        whole, cut, short = network(images, words), network(images, padded), network(images, words[:, :5])
    assert whole.shape == (2, LENGTH + 1, len(VOCABULARY))
    assert torch.allclose(whole[:, :5], cut[:, :5], atol=1e-12)
    assert torch.allclose(whole[:, :5], short, atol=1e-12)
    assert not torch.allclose(whole[:, 5:], cut[:, 5:], atol=1e-3)


def test_the_decoder_looks_at_the_picture_and_its_attention_adds_up_to_one(network):
    images = torch.randn(2, 3, 128, 128, dtype=torch.float64)
    words = torch.randint(3, len(VOCABULARY), (2, LENGTH + 1))
    with torch.inference_mode():
        maps = network.backbone(images)
        logits, attention = network.decode(maps, words)
        assert maps.shape == (2, 128, 16, 16)
        assert torch.equal(logits, network(images, words))
        assert torch.allclose(attention.sum(2), torch.ones(2, LENGTH + 1, dtype=torch.float64))
        assert (logits - network(images.flip(0), words)).abs().max() > 1e-3


def test_figures_count_what_was_said_and_where_it_peaks():
    of = placed(("red", "star", 20, 45), ("blue", "fish", 70, 45))
    right = Described(tuple(sentence(of).split()), tuple([(20, 45)] * 5 + [None] + [(70, 45)] * 2))
    wrong = Described(("a", "red", "fish"), ((70, 45), (20, 45), (70, 45)))
    counted = figures([(of, right), (of, wrong)])
    assert (counted.named, counted.exact) == (0.5, 0.5)
    assert counted.shapes == 1.0  # star, fish; fish, which is there, though of another colour
    assert counted.colours == pytest.approx(2 / 3)  # red on the star, blue on the fish; red, said of the fish, not
    assert counted.counts == {"a": 3, "left": 1, "of": 1}
    assert counted.others == {"a": pytest.approx(2 / 3), "left": 1.0, "of": 1.0}


def test_what_is_named_is_a_set_of_coloured_shapes():
    assert named(["a", "red", "star", "left", "of", "a", "blue", "fish"]) == {("red", "star"), ("blue", "fish")}
    assert named(["a", "red", "star", "above", "a", "star"]) == {("red", "star")}
