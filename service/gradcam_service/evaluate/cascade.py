"""Cascading randomisation of a network: Adebayo et al., NeurIPS 2018, section 3, https://arxiv.org/abs/1810.03292."""

from __future__ import annotations

import copy
import operator
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor, fx

from gradcam_service.explain.endings import has_both_sides
from gradcam_service.explain.network import Network


def cascade(network: Network, input_shape: tuple[int, int, int], stages: int, seed: int = 0) -> Iterator[Network]:
    """Networks ever less trained: the layers nearest the scores are random first, those nearest the image at last.

    A layer is made random by shuffling each of its tensors, those of its normalisation included, so that values keep
    their distribution, signs and scale. The last network is random throughout. Networks share what is shuffled: each is
    to be done with before the next is asked for. The network itself stays as it is.

    Args:
        network: the trained one, on any runtime; the random ones are on eager PyTorch.
        input_shape: (C, H, W).
        stages: at most so many networks, each with as many layers more.
        seed: of the shuffles.
    """
    traced = copy.deepcopy(network.traced)
    random = torch.Generator().manual_seed(seed)
    layers = [*reversed(_layers(traced))]
    for stage in range(min(stages, len(layers))):
        first, last = (len(layers) * which // min(stages, len(layers)) for which in (stage, stage + 1))
        for tensor in (tensor for layer in layers[first:last] for tensor in layer):
            order = torch.randperm(tensor.numel(), generator=random).to(tensor.device)
            with torch.no_grad():
                tensor.copy_(tensor.flatten()[order].view_as(tensor))
        yield Network(traced, input_shape, network.cut.layer.name, network.activation)


def _layers(traced: fx.GraphModule) -> list[list[Tensor]]:
    """The tensors of each layer of more than one number, in the order in which the layers are first used."""
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for node in traced.graph.find_nodes(op="get_attr"):
        tensor = operator.attrgetter(node.target)(traced)
        answers = has_both_sides(traced) and node.target == "sides"  # which are no and yes, and nothing learnt
        if tensor.is_floating_point() and tensor.numel() > 1 and not answers:
            layers[node.target.rpartition(".")[0]][node.target] = tensor
    return [[*tensors.values()] for tensors in layers.values()]
