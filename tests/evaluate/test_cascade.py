"""Cascading randomisation, on networks of which it is known whose maps change and whose can't."""

from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import torch
from methods.networks import maps_of, picture, tiny
from torch import nn

from gradcam_service.evaluate.cascade import cascade
from gradcam_service.evaluate.metrics.sanity import ignores_weights
from gradcam_service.evaluate.metrics.similarity import structural_similarity
from gradcam_service.explain.network import Network
from gradcam_service.explain.quality import rank_correlation


def weights(network):
    return {name: tensor.clone() for name, tensor in network.traced.state_dict().items()}


def test_every_tensor_is_shuffled_at_the_end_and_the_network_stays():
    network = tiny()
    before, scores = weights(network), network.scores(picture(32))
    (last,) = (deepcopy(weights(stage)) for stage in cascade(network, (3, 32, 32), 1))
    for name, tensor in before.items():
        if tensor.is_floating_point() and tensor.numel() > 1:
            assert torch.equal(last[name].flatten().sort().values, tensor.flatten().sort().values)
            assert tensor.unique().numel() < 2 or not torch.equal(last[name], tensor), name
    assert all(torch.equal(weights(network)[name], tensor) for name, tensor in before.items())
    assert torch.equal(network.scores(picture(32)), scores)


def test_layers_go_from_the_scores_to_the_image():
    network, image = tiny(), picture(32)
    frontier, scores = network.predict(image)
    features = []
    changed = []
    before = weights(network)
    for stage in cascade(network, (3, 32, 32), 100):
        own_frontier, own_scores = stage.predict(image)
        assert not torch.equal(own_scores, scores)
        features.append(torch.equal(own_frontier.features, frontier.features))
        changed.append({name for name, tensor in weights(stage).items() if not torch.equal(tensor, before[name])})
    assert features[0]  # the first to go is the classifier
    assert not features[-1]
    assert all(earlier <= later for earlier, later in pairwise(changed))


def test_no_more_stages_than_asked_for_and_the_last_is_the_same():
    network, image = tiny(), picture(32)
    few = [stage.scores(image) for stage in cascade(network, (3, 32, 32), 2)]
    many = [stage.scores(image) for stage in cascade(network, (3, 32, 32), 100)]
    assert len(few) == 2
    assert torch.equal(few[-1], many[-1])


def test_a_single_logits_two_sides_stay_no_and_yes():
    network = Network(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)),
        (3, 16, 16),
        activation="sigmoid",
    )
    for seed in range(4):
        (stage,) = cascade(network, (3, 16, 16), 1, seed)
        no, yes = stage.scores(picture(16))[0]
        assert no == -yes
        assert torch.equal(stage.traced.sides, network.traced.sides)


@pytest.mark.parametrize("alike", [structural_similarity, rank_correlation])
def test_a_method_is_named_on_a_network_whose_features_have_no_weights(alike):
    """Eigen-CAM takes nothing but the features, which are pooled pixels here; Grad-CAM weighs them."""
    module = nn.Sequential(nn.AvgPool2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 8))
    network = Network(module, (3, 32, 32), layer="1")
    images = [picture(32, seed) for seed in range(6)]

    def maps(of, method):
        return [maps_of(of, image, method, (2,))[0].numpy() for image in images]

    verdicts = {}
    for method in ("eigencam", "xgradcam"):
        trained = maps(network, method)
        curve = [
            [alike(one, other) for one, other in zip(trained, maps(stage, method), strict=True)]
            for stage in cascade(network, (3, 32, 32), 3)
        ]
        verdicts[method] = ignores_weights(np.array(curve))
    assert verdicts == {"eigencam": True, "xgradcam": False}
