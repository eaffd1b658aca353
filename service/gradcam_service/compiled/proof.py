"""Proof of compiled graphs: what they answer about real pictures is what the model in torch answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradcam_service.compiled import manifest as folder_of
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
        _compare("scores", made.network.scores(images, *others), expected)
        for layer in made.network.cuts:
            in_torch, compiled = network.cut_at(layer), made.network.cut_at(layer)
            before, after = in_torch.frontier(*given), compiled.frontier(images)
            for shift in range(min(3, expected.shape[1])):
                targets = (expected.argmax(1) + shift) % expected.shape[1]
                for name, method in _batched(made, in_torch).items():
                    explained = partial(_maps, method, in_torch, Logit(torch.from_numpy(targets)), given[1:])
                    found = batch.row_maps(method, compiled, after, Logit(targets), {}, tuple(others))
                    _compare(
                        f"maps of {name} at {layer}",
                        found,
                        explained(before),
                        partial(_unsteadiness, explained, before),
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


def _unsteadiness(explained: Callable[[Frontier], np.ndarray], frontier: Frontier) -> float:
    """How far the model's own maps move when the last digits of the feature maps do.

    A gradient jumps where a ReLU's input crosses zero or another cell becomes a window's maximum, and no two
    implementations round alike. It is next to nothing at a last layer, and a few percent at a first one.
    """
    generator, features = torch.Generator().manual_seed(0), frontier.features
    step, still = 3e-5 * features.abs().max(), explained(frontier)
    noisy = (features + step * torch.randn(features.shape, generator=generator) for _ in range(4))
    return max(float(abs(explained(frontier.having(moved)) - still).max()) for moved in noisy)


def _compare(
    what: str, actual: np.ndarray, expected: np.ndarray, unsteadiness: Callable[[], float] = lambda: 0.0
) -> None:
    difference, largest = float(abs(actual - expected).max()), float(abs(expected).max())
    bound = folder_of.TOLERANCE * largest
    if not difference <= bound and not difference <= bound + 2 * unsteadiness():
        raise UnsupportedMethod(
            f"the compiled graphs' {what} differ from the model's by {difference:.1e}, where the largest is "
            f"{largest:.1e}; nothing is written"
        )
