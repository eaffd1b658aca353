"""Acceleration of a model that answers: its feature maps are left to the fastest runtime that computes the same."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from gradcam_service import __version__
from gradcam_service.explain.methods import DEFAULT
from gradcam_service.explain.network import Backbone
from gradcam_service.registry import cache
from gradcam_service.registry.acceptance import compare, real_pictures
from gradcam_service.registry.card import Card
from gradcam_service.registry.checks import made_up
from gradcam_service.registry.loader import LoadedModel
from gradcam_service.runtime import RUNTIMES, Contender, Precision, Workload, fastest


def accelerated(model: LoadedModel, precision: Precision = "float32", cache_bytes: int = 0) -> LoadedModel | str:
    """Move a model to a faster runtime, all parameters shared; why there is none, where there isn't.

    Args:
        model: as it was loaded.
        precision: to compute feature maps in, where the model itself doesn't say.
        cache_bytes: that what is fetched and compiled may take on the disk; 0 for no bound.
    """
    card, backbone = model.card, model.network.of_images
    images = torch.randn(2, card.input.count, *card.preprocess.input_size, device=model.device)
    with cache.holding() as leases, torch.no_grad():
        work = Workload(backbone, images, card.batch, cache.compilations(card.digest, card.torch, __version__))
        wanted = model.spec.precision or precision
        found = fastest(model.network, work, model.spec.runtime, wanted, partial(_unacceptable, model))
    cache.prune(cache_bytes)
    if found.winner is None:
        return "; ".join(found.reasons)
    return replace(
        model,
        card=_faster(card, found.winner, backbone),
        network=model.network.with_backbone(found.winner.made),
        leases=(*model.leases, *leases),
        others=found.reasons,
    )


def _unacceptable(model: LoadedModel, backbone: Backbone) -> str:
    """What is wrong with the answers that a backbone in less than float32 leads to; empty where nothing is."""
    card = model.card
    pictures = [*real_pictures(card.input, card.preprocess)]
    pictures += [] if model.sample is None else [model.sample]
    images = model.images(pictures) if pictures else made_up(card.input.count, card.preprocess.input_size)
    batches = torch.split(images.to(model.device), card.batch)
    other = model.network.with_backbone(backbone)
    others = () if card.text is None else (model.placed(card.text.example()[None]),)
    figures = compare(model.network, other, batches, others, differentiable=DEFAULT in card.method_names())
    return "" if figures.accepted else str(figures)


def _faster(card: Card, winner: Contender[Backbone], backbone: nn.Module) -> Card:
    """The card of a model that a runtime computes, which holds the weights of the backbone once more, or twice."""
    bits = torch.finfo(getattr(torch, winner.precision)).bits
    weights = sum(tensor.nbytes for tensor in backbone.state_dict().values()) * bits // 32
    return card.on_runtime(winner.runtime, winner.precision, RUNTIMES[winner.runtime].copies * weights)
