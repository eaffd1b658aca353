"""Networks that take text beside a picture, cut where a question meets it early or late, and where captions begin.

Random weights, float64: the two parts are the plain module to the last digits, and so is the gradient between them.
"""

from __future__ import annotations

from copy import copy

import pytest
import torch
from captions import decoders

from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit

from . import answerers

NETWORKS = {  # name → plain module, words, tokens, pixels, default layer, one before it, whether images are shared
    "question early": (lambda: answerers.network("early"), 7, 4, (16, 20), "last", "last.0", False),
    "question late": (lambda: answerers.network("late"), 7, 4, (16, 20), "last", "first.0", True),
    "attention": (decoders.made, 12, decoders.LENGTH, (32, 32), "features", "features.2", True),
    "start vector": (decoders.pooled, 12, decoders.LENGTH, (32, 32), "features", "features.1", True),
}


@pytest.fixture(scope="module", params=NETWORKS)
def both(request):
    """The plain module and the same traced, both in float64, its inputs of three rows, and its layers."""
    make, words, length, size, *layers, shared = NETWORKS[request.param]
    text = torch.randint(0, words, (3, length), generator=torch.Generator().manual_seed(0))
    image = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(1))
    traced = Network(make(), {"image": image[:2], "tokens": text[:2]})
    traced.traced.double()
    return make().double(), traced, (image.double(), text), layers, shared


@pytest.mark.parametrize("inner", [False, True])
def test_head_and_rest_are_the_model(both, inner):
    plain, traced, (image, text), layers, shared = both
    cut = traced.cut_at(layers[inner])
    with torch.no_grad():
        expected = plain(image, text).flatten(1)
        frontier = cut.frontier(image, text)
        assert frontier.features.dtype == torch.float64
        assert (cut.head.scores(frontier, text) - expected).abs().max() < 1e-12 * expected.abs().max()
        _, scores = traced.predict(image, text)
        assert (scores - expected).abs().max() < 1e-12 * expected.abs().max()
    reads_text = bool(cut.backbone.graph.find_nodes(op="placeholder")[1].users)
    assert reads_text == (not shared)


@pytest.mark.parametrize("inner", [False, True])
def test_the_gradient_is_that_of_the_plain_module(both, inner):
    plain, traced, (image, text), layers, _ = both
    path, kept = layers[inner], []
    hook = plain.get_submodule(path).register_forward_hook(lambda _, __, output: kept.append(output) or output.clone())
    with torch.enable_grad():
        scores = plain(image.clone().requires_grad_(), text).flatten(1)
    hook.remove()
    targets = torch.tensor([0, 3, 2])
    (expected,) = torch.autograd.grad(scores.gather(1, targets[:, None]).sum(), kept[0])
    cut = traced.cut_at(path)
    found = cut.head.gradients(cut.frontier(image, text), Logit(targets), text)
    assert (found - expected).abs().max() < 1e-12 * expected.abs().max()


def test_images_that_are_alike_pass_the_backbone_once_where_it_does_not_see_the_text(both):
    _, traced, (image, text), _, shared = both
    passed = []

    def counting(*inputs):
        passed.append([len(values) for values in inputs])
        return traced.cut.backbone(*inputs)

    rows = [1, 0, 1, 1, 0]
    asked = text[[0, 1, 2, 1, 0]]
    counted = copy(traced)
    counted.backbone = counting
    frontier, scores = counted.predict(image[rows], asked, alike=[0, 1, 0, 0, 1])
    expected_frontier, expected = traced.predict(image[rows], asked)
    assert passed == [[2, 2] if shared else [5, 5]]
    assert (frontier.features - expected_frontier.features).abs().max() < 1e-14
    assert (scores - expected).abs().max() < 1e-12
