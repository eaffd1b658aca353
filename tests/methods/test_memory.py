"""Explanations by every method leave nothing behind: a leak of one explanation is seen after any number of them."""

import gc
from collections.abc import Iterable

import pytest
import torch

from gradcam_service.explain.methods import METHODS

from .networks import answers, cheaply, picture, tiny


def live() -> tuple[int, int]:
    """How many tensors there are, and their bytes; those without memory, of traced graphs, don't count."""
    gc.collect()
    tensors = [found for found in gc.get_objects() if type(found) in (torch.Tensor, torch.nn.Parameter)]
    return len(tensors), sum(tensor.nbytes for tensor in tensors)


def explain(count: int, methods: Iterable[str]) -> None:
    for target in range(count):
        for method in methods:
            answers(tiny(), picture(24), [cheaply(method, targets=(target % 6,))])


def test_explanations_leave_no_tensor_behind():
    explain(1, METHODS)  # what is made once, the guided copy say, is made
    before = live()
    explain(5, METHODS)
    assert live() == before


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", METHODS)
def test_many_explanations_leave_no_tensor_behind(method):
    explain(1, [method])
    before = live()
    explain(200, [method])
    assert live() == before
