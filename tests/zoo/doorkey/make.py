"""Writes states.npz: ``python tests/zoo/doorkey/make.py``, with the extra `zoo`; see README.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gradcam_service.zoo.policy import doorkey
from gradcam_service.zoo.policy.network import ACTIONS

STATES = 150
FIRST_SEED = 700_000  # neither training's nor the model card's


def main() -> None:
    """Walk by planner or at random, as a coin says, in a held-out world for each state."""
    rng = np.random.default_rng(0)
    environment = doorkey.make().env
    pictures, things, best, floor, towards, steps = [], [], [], [], [], []
    for seed in range(FIRST_SEED, FIRST_SEED + STATES):
        picture, _ = doorkey.reset(environment, seed, unseen=True)
        for _ in range(rng.integers(doorkey.plan(doorkey.state(environment)).steps)):
            choices = doorkey.plan(doorkey.state(environment)).actions if rng.random() < 0.8 else range(len(ACTIONS))
            picture, *_ = environment.step(int(rng.choice(list(choices))))
        now = doorkey.state(environment)
        plan = doorkey.plan(now)
        pictures.append(picture)
        things.append([now.things().get(name, (-1, -1)) for name in ("agent", "key", "door", "goal")])
        best.append(np.isin(np.arange(len(ACTIONS)), plan.actions))
        floor.append(len(now.world.floor))
        towards.append(plan.towards)
        steps.append(plan.steps)
    np.savez_compressed(
        Path(__file__).parent / "states.npz",
        pictures=np.stack(pictures),
        things=np.array(things, dtype=np.int8),
        best=np.array(best),
        floor=np.array(floor, dtype=np.int8),
        towards=np.array(towards),
        steps=np.array(steps, dtype=np.int16),
    )


if __name__ == "__main__":
    main()
