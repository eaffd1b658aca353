"""Trains `policy`: ``python -m gradcam_service.zoo.policy.train`` (what ``make zoo MODEL=policy`` calls).

Two stages. Imitation first: a planner that sees the environment's state says what is best in states that it and the
network come to by turns (DAgger, https://arxiv.org/abs/1011.0686). Then stable-baselines3's PPO goes on from there with
the environment's own reward. The network has nothing but the pictures in both.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss
from tqdm import tqdm

from gradcam_service.zoo.policy import doorkey
from gradcam_service.zoo.policy.card import Training, card
from gradcam_service.zoo.policy.evaluate import evaluate
from gradcam_service.zoo.policy.network import ACTIONS, Features, PolicyNetwork, pixels, policy_network
from gradcam_service.zoo.training import cost
from gradcam_service.zoo.weights import save

MODEL = Path(__file__).parent.parent / "models" / "policy" / "1"

FIRST_TRAINING_SEED = 1_000_000

_WORLDS = 32
_BATCH = 256
_EPOCHS = 2
_RATE = 1e-3
_DISCOUNT = 0.99


def imitate(network: PolicyNetwork, rounds: int, steps: int, seed: int) -> None:
    """Train ``network`` on ``rounds`` times ``steps`` states of each of 32 worlds, each round's seen twice."""
    rng = np.random.default_rng(seed)
    worlds = [doorkey.make() for _ in range(_WORLDS)]
    pictures = np.stack([world.reset(seed=seed + i)[0] for i, world in enumerate(worlds)])
    batches = rounds * _EPOCHS * (steps * _WORLDS // _BATCH)
    optimizer = torch.optim.Adam(network.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=batches, pct_start=0.1)
    with tqdm(total=rounds * steps * _WORLDS, desc="imitate", unit="step") as bar:
        for _ in range(rounds):
            seen = np.empty((steps, _WORLDS, *pictures.shape[1:]), dtype=np.uint8)
            best = np.zeros((steps, _WORLDS, len(ACTIONS)), dtype=np.float32)
            value = np.zeros((steps, _WORLDS), dtype=np.float32)
            for step in range(steps):
                seen[step] = pictures
                pictures = _step(network, worlds, pictures, best[step], value[step], rng)
                bar.update(_WORLDS)
            loss = _learn(network, optimizer, schedule, seen.reshape(-1, *seen.shape[2:]), best, value, rng)
            bar.set_postfix(loss=f"{loss:.3f}")


def _step(
    network: PolicyNetwork,
    worlds: list[Any],
    pictures: NDArray[np.uint8],
    best: NDArray[np.float32],
    value: NDArray[np.float32],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """One step of every world by the planner or the network, as a coin says; fills in what the planner knows."""
    with torch.inference_mode():
        chances = network(pixels(pictures))[0].double().softmax(1).numpy()
    after = np.empty_like(pictures)
    for i, world in enumerate(worlds):
        plan = doorkey.plan(doorkey.state(world))
        best[i, plan.actions] = 1 / max(1, len(plan.actions))
        value[i] = _DISCOUNT**plan.steps
        follow = plan.actions and rng.random() < 0.5
        action = (
            rng.choice(plan.actions)
            if follow
            else min(len(ACTIONS) - 1, int((chances[i].cumsum() < rng.random()).sum()))
        )
        picture, _, done, late, _ = world.step(int(action))
        after[i] = world.reset()[0] if done or late else picture
    return after


def _learn(
    network: PolicyNetwork,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    seen: NDArray[np.uint8],
    best: NDArray[np.float32],
    value: NDArray[np.float32],
    rng: np.random.Generator,
) -> float:
    """Learn a round's states; the last loss."""
    actions, values = torch.from_numpy(best.reshape(len(seen), -1)), torch.from_numpy(value.reshape(len(seen), 1))
    for _ in range(_EPOCHS):
        for rows in np.array_split(rng.permutation(len(seen)), len(seen) // _BATCH):
            logits, worth = network(pixels(seen[rows]))
            loss: Tensor = cross_entropy(logits, actions[rows]) + mse_loss(worth, values[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return float(loss.detach())


def reinforce(network: PolicyNetwork, steps: int, seed: int) -> None:
    """Train ``network`` on by PPO (https://arxiv.org/abs/1707.06347) in ``steps`` steps of the environment."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    agent = PPO(
        "CnnPolicy",
        make_vec_env(doorkey.make, n_envs=16, seed=seed),
        learning_rate=lambda left: 1e-4 * left,
        n_steps=256,
        batch_size=_BATCH,
        n_epochs=4,
        gamma=_DISCOUNT,
        clip_range=0.1,
        normalize_advantage=False,  # what is nearly right already has small ones: scaled up, their noise undoes it
        seed=seed,
        device="cpu",
        policy_kwargs={"features_extractor_class": Features, "net_arch": []},
    )
    parts = {
        network.features: agent.policy.features_extractor,
        network.action: agent.policy.action_net,
        network.value: agent.policy.value_net,
    }
    for own, its in parts.items():
        its.load_state_dict(own.state_dict())
    agent.learn(steps, progress_bar=False, callback=_bar(steps))
    for own, its in parts.items():
        own.load_state_dict(its.state_dict())


def fit_value(network: PolicyNetwork, worlds: int, seed: int) -> None:
    """Fit the value's weights, by least squares, to the returns that the finished policy gets in ``worlds`` worlds.

    PPO's critic shares its features with the actor and is off by a quarter where it ends: what drifts is the features.
    """
    environment = doorkey.make()
    inputs: list[Tensor] = []
    returns: list[float] = []
    picture, _ = environment.reset(seed=seed)
    for _ in tqdm(range(worlds), desc="value", unit="world"):
        rewards: list[float] = []
        over = False
        while not over:
            with torch.no_grad():
                inputs.append(network.features(pixels(picture[None]))[0])
                action = network.action(inputs[-1]).softmax(0).multinomial(1)
            picture, reward, done, late, _ = environment.step(int(action))
            rewards.append(float(reward))
            over = done or late
        returns += [rewards[-1] * _DISCOUNT**left for left in reversed(range(len(rewards)))]
        picture, _ = environment.reset()
    known = torch.stack([*inputs]).double()
    known = torch.cat([known, torch.ones(len(known), 1, dtype=torch.float64)], 1)
    ridge = 1e-2 * torch.eye(known.shape[1], dtype=torch.float64)
    fitted = torch.linalg.solve(known.T @ known + ridge, known.T @ torch.tensor(returns, dtype=torch.float64))
    with torch.no_grad():
        network.value.weight.copy_(fitted[None, :-1])
        network.value.bias.copy_(fitted[-1:])


def _bar(steps: int) -> Any:  # noqa: ANN401  a function that stable-baselines3 calls after each step of all worlds
    bar = tqdm(total=steps, desc="PPO", unit="step")

    def after_a_step(known: dict[str, Any], _: dict[str, Any]) -> bool:
        bar.update(known["env"].num_envs)
        finished = [episode["r"] for episode in known["self"].ep_info_buffer]
        if finished:
            bar.set_postfix(reward=f"{np.mean(finished):.3f}", refresh=False)
        return True

    return after_a_step


@click.command()
@click.option("--rounds", default=24, show_default=True, help="Of imitation.")
@click.option("--steps", default=256, show_default=True, help="Of each of 32 worlds in a round.")
@click.option("--reinforced", default=102_400, show_default=True, help="Steps of PPO after that.")
@click.option("--measure", default=1_000, show_default=True, help="How many unseen worlds to measure on.")
@click.option("--seed", default=0, show_default=True, help="Of the initial weights and all that is drawn.")
@click.option("--threads", default=2, show_default=True, help="Of torch.")
def main(rounds: int, steps: int, reinforced: int, measure: int, seed: int, threads: int) -> None:
    """Train the embedded policy from nothing, measure it and write its card."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    started = time.monotonic()
    network = policy_network()
    imitate(network, rounds, steps, FIRST_TRAINING_SEED + seed)
    imitated = evaluate(network, measure).figures
    reinforce(network, reinforced, FIRST_TRAINING_SEED + seed + _WORLDS)
    fit_value(network, 200, FIRST_TRAINING_SEED + seed)
    size = save(network, MODEL, labels=ACTIONS)
    training = Training(
        imitated=rounds * steps * _WORLDS,
        reinforced=reinforced,
        versions=", ".join(f"{name} {version(name)}" for name in ("minigrid", "stable-baselines3")),
        cost=cost(network, size, started),
    )
    (MODEL / "CARD.md").write_text(card(imitated, evaluate(network, measure), training), encoding="utf-8")
    click.echo((MODEL / "CARD.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
