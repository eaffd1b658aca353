"""Evaluation in worlds that the policy has not seen: does it reach the goal, and do its maps point at what matters?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from gradcam_service.zoo.policy import doorkey
from gradcam_service.zoo.policy.network import CELLS, LAYER, LAYERS, METHOD, METHODS, TILE, PolicyNetwork, pixels


@dataclass(frozen=True)
class Seen:
    """A state as the policy sees it, and where things are in it.

    Attributes:
        picture: uint8 (64, 64, 3).
        things: the cell (x, y) of the agent, of the key where it lies, of the door and of the goal.
        floor: how many cells are neither wall nor door.
        towards: what a planner would go to next: key, door or goal.
    """

    picture: NDArray[np.uint8]
    things: dict[str, tuple[int, int]]
    floor: int
    towards: str


@dataclass(frozen=True)
class Figures:
    """Figures of one set of worlds.

    Attributes:
        worlds: how many.
        reached: in how many of them the goal is reached.
        steps: median of the actions that takes.
        best: median of what the planner takes in the same worlds.
    """

    worlds: int
    reached: int
    steps: float
    best: float


def play(network: PolicyNetwork, worlds: int, unseen: bool, rng: np.random.Generator) -> tuple[Figures, list[Seen]]:
    """Play ``worlds`` worlds by the most probable action, and keep a state of each, any of those it comes to.

    Policy and world are deterministic, so that one who comes to a state again never reaches the goal.
    """
    environment = doorkey.make().env
    taken, best, kept = [], [], []
    for seed in tqdm(range(worlds), desc="play", unit="world"):
        picture, _ = doorkey.reset(environment, seed, unseen)
        best.append(doorkey.plan(doorkey.state(environment)).steps)
        episode: dict[bytes, Seen] = {}
        done = False
        while not done and picture.tobytes() not in episode:
            now = doorkey.state(environment)
            towards = doorkey.plan(now).towards
            episode[picture.tobytes()] = Seen(picture, now.things(), len(now.world.floor), towards)
            with torch.inference_mode():
                action = int(network(pixels(picture[None]))[0].argmax())
            picture, _, done, _, _ = environment.step(action)
        kept.append(list(episode.values())[rng.integers(len(episode))])
        if done:
            taken.append(len(episode))
    return Figures(worlds, len(taken), float(np.median(taken)) if taken else np.inf, float(np.median(best))), kept


def cam(
    network: PolicyNetwork, pictures: NDArray[np.uint8], method: str = METHOD, layer: str = LAYER
) -> NDArray[np.float32]:
    """Explain the most probable action of each of ``pictures`` at ``layer``: maps (N, 8, 8), not negative.

    Grad-CAM (``gradcam``) averages the gradient over the grid, HiResCAM (``hirescam``,
    https://arxiv.org/abs/2011.08891) lets it count where it is.
    """
    kept: list[Tensor] = []
    hook = network.get_submodule(layer).register_forward_hook(lambda _module, _given, out: kept.append(out))
    logits, _ = network(pixels(pictures))
    hook.remove()
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), kept[0])
    weights = gradient.mean((2, 3), keepdim=True) if method == "gradcam" else gradient
    return np.asarray((weights * kept[0]).sum(1).relu().detach().numpy())


def peaks(maps: NDArray[np.float32]) -> list[tuple[int, int]]:
    """The cell (x, y) in which each of the maps (N, 8, 8), enlarged bilinearly to the picture, has its maximum."""
    side = CELLS * TILE
    large = interpolate(torch.from_numpy(maps)[:, None], (side, side), mode="bilinear", align_corners=False)
    return [(at % side // TILE, at // side // TILE) for at in large.flatten(1).argmax(1).tolist()]


@dataclass(frozen=True)
class Pointing:
    """Where the maps of the chosen actions have their maxima, in one state of each world.

    Attributes:
        states: how many.
        on: how many maxima lie in the agent's cell, the key's, the door's or the goal's.
        beside: how many lie in one of the eight cells around one of these.
        chance: the share of all cells that these are, on the average: how often a random place hits one.
        chance_inside: the same of a random place that is in no wall.
        towards: of the states in which a planner goes to the key, the door or the goal next: how many, and in how many
            of them the maximum lies there, and on the agent.
        besides: how many maps have the largest value of all cells but the agent's in that of the key, door or goal.
        chance_besides: how often a random place that is in no wall, nor the agent's, hits one of these three.
        share: of the maps' sum that lies on the agent, key, door and goal, on the average.
    """

    states: int
    on: dict[str, int]
    beside: int
    chance: float
    chance_inside: float
    towards: dict[str, tuple[int, int, int]]
    besides: int
    chance_besides: float
    share: float

    @property
    def hits(self) -> int:
        """How many maxima lie on something that matters."""
        return sum(self.on.values())

    def p_value(self, hits: int, chance: float) -> float:
        """How probable ``hits`` or more are at random places (one-sided binomial test).

        The chance differs a little from state to state; its mean makes the test a conservative one
        (Hoeffding 1956, https://doi.org/10.1214/aoms/1177728178).
        """
        return float(binomtest(hits, self.states, chance, alternative="greater").pvalue)


def pointing(maps: NDArray[np.float32], seen: Sequence[Seen]) -> Pointing:
    """Compare ``maps`` (N, 8, 8), not negative, with where things are in the N states; an empty map hits nothing."""
    on, beside, besides = Counter[str](), 0, 0
    towards: dict[str, tuple[int, int, int]] = {}
    shares = []
    for own, one, (x, y) in zip(maps, seen, peaks(maps), strict=True):
        cells = {cell: name for name, cell in one.things.items()}
        name = cells.get((x, y)) if own.any() else None
        if name:
            on[name] += 1
        elif own.any():
            beside += any(max(abs(x - across), abs(y - down)) == 1 for across, down in cells)
        n, there, here = towards.get(one.towards, (0, 0, 0))
        towards[one.towards] = (n + 1, there + (name == one.towards), here + (name == "agent"))
        others = own.copy()
        others[one.things["agent"][::-1]] = 0
        down, across = np.unravel_index(others.argmax(), others.shape)
        besides += bool(others.any()) and (int(across), int(down)) in cells
        shares.append(sum(float(own[down, across]) for across, down in cells) / max(float(own.sum()), 1e-12))
    matter = np.array([len(one.things) for one in seen])
    inside = np.array([one.floor + 1 for one in seen])
    return Pointing(
        states=len(seen),
        on={name: on[name] for name in ("agent", "key", "door", "goal")},
        beside=beside,
        chance=float((matter / CELLS**2).mean()),
        chance_inside=float((matter / inside).mean()),
        towards=towards,
        besides=besides,
        chance_besides=float(((matter - 1) / (inside - 1)).mean()),
        share=float(np.mean(shares)),
    )


@dataclass(frozen=True)
class Measured:
    """What a model card tells: how often the goal is reached, and where the maps point.

    Attributes:
        figures: of the worlds.
        pointing: by method and layer; the default ones first.
    """

    figures: Figures
    pointing: dict[tuple[str, str], Pointing]


def evaluate(network: PolicyNetwork, worlds: int, seed: int = 0) -> Measured:
    """All of it in ``worlds`` worlds whose arrangement training has never seen."""
    figures, seen = play(network, worlds, unseen=True, rng=np.random.default_rng(seed))
    pictures = np.stack([one.picture for one in seen])
    ways = [(method, layer) for method in METHODS for layer in LAYERS]
    return Measured(figures, {way: pointing(cam(network, pictures, *way), seen) for way in ways})
