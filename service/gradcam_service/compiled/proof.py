"""Proof of compiled graphs: what they answer about real pictures is what the model in torch answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradcam_service.compiled.model import CompiledModel, load
from gradcam_service.errors import ModelFailed, UnsupportedMethod
from gradcam_service.explain import batch
from gradcam_service.explain.arrays import on_host
from gradcam_service.explain.costs import refusal_at
from gradcam_service.explain.cut import Cut
from gradcam_service.explain.frontier import Frontier
from gradcam_service.explain.method import Batched
from gradcam_service.explain.methods import METHODS
from gradcam_service.explain.objectives import Logit
from gradcam_service.registry.loader import LoadedModel
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry
from gradcam_service.runtime._agreement import check_agreement, unsteadiness


def prove(model: LoadedModel, folder: Path) -> None:
    """Compare scores, and the maps of every batched method at every layer, of the top class and of two others.

    Raises:
        UnsupportedMethod: the graphs answer unlike the model, or can't be opened.
    """
    try:
        made = load(Entry(folder.parent.name, folder.name, LocalPlace(folder)))
    except ModelFailed as error:
        raise UnsupportedMethod(f"what was compiled can't be opened: {error.detail}") from error
    text, network = model.card.text, model.network
    for images in made.real_batches():
        others = [] if text is None else [np.repeat(text.example()[None], len(images), 0)]
        given = [torch.from_numpy(values) for values in (images, *others)]
        expected = network.scores(*given).numpy()
        check_agreement("the compiled graphs' scores", made.network.scores(images, *others), expected)
        for layer in made.network.cuts:
            in_torch, compiled = network.cut_at(layer), made.network.cut_at(layer)
            before, after = in_torch.frontier(*given), compiled.frontier(images)
            for shift in range(min(3, expected.shape[1])):
                targets = (expected.argmax(1) + shift) % expected.shape[1]
                for name, method in _batched(made, in_torch).items():
                    explained = partial(_maps, method, in_torch, Logit(torch.from_numpy(targets)), given[1:])
                    found = batch.row_maps(method, compiled, after, Logit(targets), {}, tuple(others))
                    check_agreement(
                        f"the compiled graphs' maps of {name} at {layer}",
                        found,
                        explained(before),
                        partial(unsteadiness, explained, before),
                    )


def _batched(made: CompiledModel, cut: Cut) -> dict[str, Batched]:
    """The batched methods that explain it at a layer, by name."""
    known = {name: METHODS[name] for name in made.card.method_names()}
    return {
        name: method for name, method in known.items() if isinstance(method, Batched) and not refusal_at(method, cut)
    }


def _maps(method: Batched, cut: Cut, aim: Logit, others: Sequence[Tensor], frontier: Frontier) -> np.ndarray:
    found: np.ndarray = np.asarray(on_host(batch.row_maps(method, cut, frontier, aim, {}, tuple(others))))
    return found
