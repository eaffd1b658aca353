"""The model card: what `policy` is, how it came to be, what was measured and what it does not know."""

from __future__ import annotations

from dataclasses import dataclass

from gradcam_service.zoo.policy.evaluate import Figures, Measured
from gradcam_service.zoo.policy.network import LAYER, METHOD
from gradcam_service.zoo.training import Cost


@dataclass(frozen=True)
class Training:
    """Record of a training.

    Attributes:
        imitated: how many states the planner judged.
        reinforced: how many steps PPO took.
        versions: of minigrid and stable-baselines3.
        cost: measuring after the imitation included.
    """

    imitated: int
    reinforced: int
    versions: str
    cost: Cost


_CARD = """\
# policy

An agent that acts on pixels alone in a world that others wrote:
[DoorKey-8x8](https://minigrid.farama.org/environments/minigrid/DoorKeyEnv) of MiniGrid (Apache-2.0). A wall with a
locked door parts the world in two rooms; the agent, a red triangle, has to pick up the key, open the door and reach
the green goal. The model sees a picture of the whole world and gives a logit for each of MiniGrid's seven actions,
and the value of the state. It is embedded so that the explanation of an action can be tried, and checked against
where things are, without a download.

## Network

{parameters:,} parameters, {megabytes:.1f} MB of float32 weights. Input 64 × 64 RGB, 8 × 8 pixels for each cell. Three
convolutions, the first with a kernel and a stride of a cell, keep a grid of 8 × 8. Then come a hidden layer of 128
and a linear layer each for actions and value. One picture is the whole state: whether the agent has the key is seen
by its not lying there. So nothing is stacked (`frames` is 1).

## Training

`make zoo MODEL=policy`, in two stages; {versions}.

1. Imitation. A planner that knows where everything is says which actions begin a shortest way, in {imitated:,} states
   that planner and network come to by turns (DAgger, [arXiv:1011.0686](https://arxiv.org/abs/1011.0686)). So the
   agent hasn't found out by itself what keys are for.
2. stable-baselines3's PPO, `CnnPolicy`, from there: {reinforced:,} steps with the environment's own reward. The value's
   weights are then fitted to the returns that the finished policy gets, by least squares: PPO left them a quarter off.

It took {minutes:.0f} minutes on {hardware} that had other work, {cpu_minutes:.0f} minutes of processor time. An
eighth of all arrangements of wall, door and key is held out: training never sees them, whatever its seed.

## Measured

In {worlds:,} worlds of other seeds, whose arrangement was held out, by the most probable action, within the
environment's 640 steps (one that comes to a state again has failed, since nothing is random):

| | goal reached | median of steps | of the planner |
|---|---|---|---|
| after imitation | {imitated_success} |
| **after PPO** | {success} |

Maps: HiResCAM of the chosen action at `{layer}`, the defaults of this model, in {states:,} states, one of each of
these worlds, so that they are independent; where the map, enlarged bilinearly to the picture, has its maximum.

| the maximum lies in the cell of | states |
|---|---|
{on}
| **one of these** | **{hits:.1%}** |

Agent, key, door and goal are {chance:.1%} of all cells, so that a random place hits one as often; {p_value} (binomial
test, one-sided). Of the cells that aren't wall they are {chance_inside:.1%}; {p_inside}. {share:.0%} of the maps' sum
lies on them. Nothing in the training says where to look.

| next, a planner goes to the | states | the maximum lies on it | on the agent |
|---|---|---|---|
{towards}

What decides most often is where the agent is and how it is turned. Its cell left aside, the largest value is the
key's, the door's or the goal's in {besides:.1%} of the states; of a random place that is no wall it would be in
{chance_besides:.1%} ({p_besides}). The goal always lies in the same corner, so that there is little to be seen about
it.

| method | layer | maximum on one of these | beside one | of the sum on these |
|---|---|---|---|---|
{ways}

Why not the last layer: from layer to layer a place sees more cells, and what stands for a thing moves to its
neighbours. Why not Grad-CAM: it averages the gradient over the grid, which loses nothing where a network ends in a
pooling; this one's hidden layer weighs each place by itself, and averages over it now and then make a map of all
walls, or an empty one. HiResCAM lets the gradient count where it is.

## Limits

- It knows pictures of DoorKey-8x8 as MiniGrid draws them with `highlight=False`, brought to 64 × 64 pixels. Of any
  other picture, another size of the world among them, the answer means nothing.
- All its worlds are of one kind, and of one size: that it reaches the goal there says nothing of others.
- The maximum says which cell counted most for the action, on a grid of 8 × 8; it is a claim about the network, not
  about what an agent ought to look at.
- `drop` and `done` are actions of MiniGrid that no solution needs.

## Intended use

Trying out, testing and demonstrating the service. Not for decisions about anything.
"""


def card(imitated: Figures, measured: Measured, training: Training) -> str:
    """The card as Markdown."""
    pointing = measured.pointing[METHOD, LAYER]
    return _CARD.format(
        parameters=training.cost.parameters,
        megabytes=training.cost.weights / 1e6,
        versions=training.versions,
        imitated=training.imitated,
        reinforced=training.reinforced,
        minutes=training.cost.minutes,
        cpu_minutes=training.cost.cpu_minutes,
        hardware=training.cost.hardware,
        worlds=measured.figures.worlds,
        imitated_success=_row(imitated),
        success=_row(measured.figures),
        states=pointing.states,
        on="\n".join(f"| {name} | {hits / pointing.states:.1%} |" for name, hits in pointing.on.items()),
        hits=pointing.hits / pointing.states,
        chance=pointing.chance,
        p_value=_p(pointing.p_value(pointing.hits, pointing.chance)),
        chance_inside=pointing.chance_inside,
        p_inside=_p(pointing.p_value(pointing.hits, pointing.chance_inside)),
        besides=pointing.besides / pointing.states,
        chance_besides=pointing.chance_besides,
        p_besides=_p(pointing.p_value(pointing.besides, pointing.chance_besides)),
        share=pointing.share,
        layer=LAYER,
        ways="\n".join(
            f"| {method} | `{layer}` | {of.hits / of.states:.1%} | {of.beside / of.states:.1%} | {of.share:.0%} |"
            for (method, layer), of in measured.pointing.items()
        ),
        towards="\n".join(
            f"| {name} | {n} | {there / n:.1%} | {here / n:.1%} |"
            for name, (n, there, here) in sorted(pointing.towards.items())
        ),
    )


def _row(figures: Figures) -> str:
    """The figures as cells of a table."""
    return f"{figures.reached / figures.worlds:.1%} | {figures.steps:.0f} | {figures.best:.0f}"


def _p(value: float) -> str:
    """How probable something is by chance, in words."""
    return f"p = {value:.1e}" if value >= 1e-300 else "p < 1e-300"
