"""The data set is read as it is meant, and the network that answers its questions keeps its contract."""

from collections import Counter

import numpy as np
import pytest
import torch

from gradcam_service.zoo.easy_vqa import dataset
from gradcam_service.zoo.easy_vqa.dataset import NONE, load, mask
from gradcam_service.zoo.easy_vqa.evaluate import Figures, explain, figures, points
from gradcam_service.zoo.easy_vqa.language import ANSWERS, LENGTH, VOCABULARY, tokens, words
from gradcam_service.zoo.easy_vqa.network import vqa_network
from gradcam_service.zoo.network import normalise


@pytest.fixture(scope="module")
def test_part():
    pytest.importorskip("easy_vqa", reason="the data set: pip install -e '.[zoo]'")
    return load("test")


def test_the_test_part_is_whole_and_its_answers_are_known(test_part):
    import easy_vqa

    asked, answers, pictures = easy_vqa.get_test_questions()
    of, at = np.nonzero(test_part.answers != NONE)
    assert len(of) == len(asked) == 9_673
    read = Counter(
        (int(i), " ".join(VOCABULARY[t] for t in test_part.tokens[i, k] if t), ANSWERS[test_part.answers[i, k]])
        for i, k in zip(of, at, strict=True)
    )
    assert read == Counter(zip(pictures, (q.rstrip("?") for q in asked), answers, strict=True))
    assert set(ANSWERS) == set(easy_vqa.get_answers())


def test_masks_have_the_colour_and_the_extent_of_the_shape(test_part):
    named = {"black": (0, 0, 0), "blue": (0, 0, 255), "red": (255, 0, 0), "gray": (128, 128, 128)}
    seen = 0
    for picture in range(200):
        for answer in test_part.answers[picture]:
            if answer != NONE and ANSWERS[answer] in named:
                inside = test_part.images[picture][test_part.masks[picture]]
                assert np.abs(np.median(inside, axis=0) - named[ANSWERS[answer]]).max() < 40  # edges are blended
                seen += 1
    assert seen > 50
    assert test_part.masks.sum((1, 2)).min() > 30


def test_a_mask_is_what_differs_from_the_ground():
    image = np.full((64, 64, 3), (245, 240, 235), dtype=np.uint8)
    image[10:20, 30:50] = (0, 128, 128)
    assert mask(image)[10:20, 30:50].all()
    assert mask(image).sum() == 200


def test_questions_are_their_words_and_padding():
    assert words("Is there NOT a red shape?") == ["is", "there", "not", "a", "red", "shape"]
    row = tokens(words("is there a red shape?"))
    assert len(row) == LENGTH
    assert [VOCABULARY[token] for token in row] == [*"is there a red shape".split(), *["<pad>"] * 4]  # noqa: SIM905
    assert len(VOCABULARY) == len(set(VOCABULARY))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return vqa_network().double().eval()


def test_padding_changes_nothing_and_pictures_and_questions_do(network):
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    questions = torch.randint(1, len(VOCABULARY), (2, 5))
    padded = torch.cat([questions, torch.zeros(2, 4, dtype=torch.int64)], 1)
    with torch.inference_mode():
        scores = network(images, questions)
        assert scores.shape == (2, len(ANSWERS))
        assert torch.allclose(network(images, padded), scores, atol=1e-12)
        assert (network(images.flip(0), questions) - scores).abs().max() > 1e-4
        assert (network(images, questions.flip(0)) - scores).abs().max() > 1e-4


def test_many_questions_about_a_picture_are_answered_as_if_alone(network):
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    questions = torch.randint(1, len(VOCABULARY), (2, 3, LENGTH))
    with torch.inference_mode():
        together = network.decide(network.backbone(images), questions)
        for at in range(3):
            assert torch.allclose(together[:, at], network(images, questions[:, at]), atol=1e-12)


def test_maps_are_those_of_the_definition(network):
    """Grad-CAM's weights are means over cells of finite differences in float64; of HiResCAM one cell is looked at."""
    images, questions = torch.randn(1, 3, 16, 16, dtype=torch.float64), torch.randint(1, len(VOCABULARY), (1, LENGTH))
    (fine,), (found,), (top,) = explain(network, images, questions)
    with torch.inference_mode():
        maps = network.backbone(images)
        step, weights = 1e-5, torch.zeros(64, dtype=torch.float64)
        for channel in range(64):  # moving all cells of a channel at once is the sum of their derivatives
            shift = torch.zeros_like(maps)
            shift[:, channel] = step
            up, down = (network.decide(moved, questions[:, None])[0, 0, top] for moved in (maps + shift, maps - shift))
            weights[channel] = (up - down) / (2 * step) / maps[0, 0].numel()
        expected = torch.einsum("k,khw->hw", weights, maps[0]).relu()
        cell = torch.zeros(64, dtype=torch.float64)
        for channel in range(64):
            shift = torch.zeros_like(maps)
            shift[:, channel, 2, 1] = step
            up, down = (network.decide(moved, questions[:, None])[0, 0, top] for moved in (maps + shift, maps - shift))
            cell[channel] = (up - down) / (2 * step)
    assert torch.allclose(found, expected, atol=1e-8)
    assert torch.allclose(fine[2, 1], (cell * maps[0, :, 2, 1]).sum().relu(), atol=1e-8)


def test_a_map_points_where_it_is_highest_and_an_empty_one_nowhere():
    maps = torch.zeros(3, 4, 4)
    maps[0, 1, 2] = maps[1, 3, 0] = 1.0
    masks = np.zeros((3, 16, 16), dtype=bool)
    masks[:, 4:8, 8:12] = True
    assert points(maps, masks).tolist() == [True, False, False]


def test_figures_are_by_what_is_asked():
    truth = np.array([ANSWERS.index(answer) for answer in ("red", "blue", "circle", "yes", "no")])
    answers, pointed = truth.copy(), np.array([[True, False, True, True, False], [True] * 5])
    answers[1] = ANSWERS.index("red")
    found = figures(truth, answers, pointed)
    assert (found["all"].questions, found["all"].right, found["all"].hirescam, found["all"].gradcam) == (
        5,
        0.8,
        0.6,
        1.0,
    )
    assert found["which colour"] == Figures(2, 0.5, 0.5, 1.0)
    assert found["is it there: no"].hirescam == 0
    assert found["which shape"].right == 1


def test_pictures_of_the_data_set_are_of_the_network_s_size(test_part):
    assert test_part.images.shape == (1_000, dataset.SIZE, dataset.SIZE, 3)
    with torch.inference_mode():
        assert vqa_network().eval().backbone(normalise(torch.from_numpy(test_part.images[:2]))).shape == (2, 64, 16, 16)
