"""Explanations by every method leave nothing behind: a leak of one explanation is seen after any number of them."""

import gc

import pytest
import torch

from gradcam_service.explain.methods import METHODS

from .networks import answers, cheaply, picture, tiny


def live() -> tuple[int, int]:
    """How many tensors there are, and their bytes; those without memory, of traced graphs, don't count."""
    gc.collect()
    tensors = [found for found in gc.get_objects() if type(found) in (torch.Tensor, torch.nn.Parameter)]
    return len(tensors), sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("method", METHODS)
def test_explanations_leave_no_tensor_behind(method, count):
    network, image = tiny(), picture(24)
    answers(network, image, [cheaply(method, targets=(1,))])  # what is made once, the guided copy say, is made
    before = live()
    for target in range(count):
        answers(network, image, [cheaply(method, targets=(target % 6,))])
    assert live() == before
