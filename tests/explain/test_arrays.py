"""What both engines compute with: of NumPy arrays and of torch tensors the same, and what torch's own functions say."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from gradcam_service.explain.activation import probabilities
from gradcam_service.explain.arrays import gather, resized, scatter_add, softmax
from gradcam_service.explain.cut import gradient
from gradcam_service.explain.methods.finercam import Finer
from gradcam_service.explain.methods.rise import _numbers
from gradcam_service.explain.objectives import Contrast, Logit


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


OBJECTIVES = {
    "class": lambda of: Logit(of([2, 0, 5])),
    "class of some outputs": lambda of: Logit(of([2, 0, 5]), 6),
    "contrast": lambda of: Contrast(of([2, 0, 5]), of([[0, 1], [3, 0], [0, 0]]), of([[0.5, 0.5], [1.0, 0.0], [1, 0]])),
    "one for all rows": lambda of: Contrast(of([2]), of([[0, 6]]), of([[0.25, 0.75]])),
    "finer": lambda of: Finer(Logit(of([2, 0, 5]), 6), 0.7, 3),
    "finer than all": lambda of: Finer(Logit(of([2, 0, 5])), 1.0, 50),
}


@pytest.mark.parametrize("made", OBJECTIVES.values(), ids=OBJECTIVES)
def test_an_objectives_gradient_is_the_one_that_torch_finds(made):
    outputs = drawn(3, 7)
    ours, in_torch = made(np.asarray), made(torch.tensor)
    leaf = torch.from_numpy(outputs)
    np.testing.assert_allclose(ours(outputs), in_torch(leaf).numpy(), rtol=1e-12)
    expected = gradient(in_torch, leaf).numpy()
    np.testing.assert_allclose(ours.gradient(outputs), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(in_torch.gradient(leaf).numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("made", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_linear_objectives_gradient_is_the_same_everywhere(made):
    at_zero, elsewhere = (made(np.asarray).gradient(outputs) for outputs in (np.zeros((3, 7)), drawn(3, 7)))
    assert np.array_equal(at_zero, elsewhere) == made(np.asarray).linear


def test_an_objectives_gradient_is_of_the_outputs_type():
    outputs = drawn(3, 7).astype(np.float32)
    for made in OBJECTIVES.values():
        assert made(np.asarray).gradient(outputs).dtype == np.float32


@pytest.mark.parametrize(("old", "new"), [((7, 7), (224, 224)), ((4, 9), (33, 20)), ((8, 8), (3, 5)), ((1, 2), (4, 4))])
def test_a_grid_is_resized_as_torch_does(old, new):
    grids = drawn(2, *old)
    expected = F.interpolate(torch.from_numpy(grids)[:, None], size=new, mode="bilinear", align_corners=False)[:, 0]
    np.testing.assert_allclose(resized(grids, new), expected.numpy(), rtol=0, atol=1e-12)
    torch.testing.assert_close(resized(torch.from_numpy(grids), new), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 7, 2**63 - 1])
def test_the_numbers_of_a_seed_are_those_that_torch_draws(seed):
    generator, numbers = torch.Generator().manual_seed(seed), _numbers(seed)
    assert np.array_equal(numbers(50) % 2**24 / 2**24, torch.rand(50, generator=generator).numpy())
    assert np.array_equal(numbers(40) % 32, torch.randint(0, 32, (40,), generator=generator).numpy())


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_probabilities_are_those_of_torch_and_a_value_stays(activation):
    scores = np.concatenate([50 * drawn(3, 6), [[7.0], [8.0], [9.0]]], 1)
    logits = torch.from_numpy(scores[:, :6])
    expected = {"softmax": logits.softmax(1), "sigmoid": logits.sigmoid(), "none": logits}[activation]
    for found in (probabilities(scores, activation, 1, 1), probabilities(torch.from_numpy(scores), activation, 1, 1)):
        np.testing.assert_allclose(found[:, :6], expected.numpy(), rtol=1e-9, atol=1e-30)
        assert [*found[:, 6]] == [7, 8, 9]


def test_words_have_probabilities_at_each_position():
    scores = drawn(2, 12)
    found = probabilities(scores, "softmax", 3)
    np.testing.assert_allclose(found.reshape(2, 3, 4).sum(2), 1, rtol=1e-12)
    np.testing.assert_allclose(softmax(scores, 1), torch.from_numpy(scores).softmax(1).numpy(), rtol=1e-12)


def test_values_are_taken_for_each_row_or_the_same_for_all():
    values = np.arange(6).reshape(2, 3)
    for of in (np.asarray, torch.tensor):
        assert gather(of(values), of([[0, 2], [1, 1]])).tolist() == [[0, 2], [4, 4]]
        assert gather(of(values), of([[2]])).tolist() == [[2], [5]]


def test_values_are_added_to_columns_of_each_row_as_often_as_they_come():
    for of in (np.asarray, torch.tensor):
        values = of([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        own = scatter_add(values, of([[0, 2], [1, 1]]), of([[10.0, 20.0], [30.0, 40.0]]))
        assert own.tolist() == [[11, 2, 23], [4, 75, 6]]
        assert scatter_add(values, of([[2]]), of([[1.0]])).tolist() == [[1, 2, 4], [4, 5, 7]]
        assert values.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_what_both_engines_share_imports_no_torch():
    shared = "arrays, activation, batch, costs, frontier, layout, method, methods, objectives, parts, subject"
    code = (
        f"import sys; from gradcam_service.explain import {shared}; "
        "dict(methods.METHODS); assert len(methods.METHODS) > 10; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
