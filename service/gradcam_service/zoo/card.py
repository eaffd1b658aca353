"""The model card: what `scenes` is, how it came to be, what was measured and what it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradcam_service.zoo.evaluate import Figures
from gradcam_service.zoo.scenes import CLASSES
from gradcam_service.zoo.training import Cost


@dataclass(frozen=True)
class Training:
    """Record of a training.

    Attributes:
        command: what repeats it.
        scenes: how many scenes were drawn.
        epochs: how often each was seen.
        cost: drawing included, measuring not.
        measured_on: how many unseen scenes of each kind the figures are of.
    """

    command: str
    scenes: int
    epochs: int
    cost: Cost
    measured_on: int


_CARD = """\
# scenes

A small residual network that names the shapes in a picture: {classes}. Several may be there at once, so each class has
a probability of its own (sigmoid). It is embedded in the service so that `/predict` and `/explain` work, and can be
checked against the truth, without a download.

## Network

{parameters:,} parameters, {megabytes:.1f} MB of float32 weights. Input 128 × 128 RGB, the whole picture, padded to a
square with grey. A stem and five residual blocks lead to a last feature map of 128 channels at 16 × 16, then come
global average pooling and one linear layer: Grad-CAM on that feature map is exact and needs no backward pass.

## Data

Drawn by `gradcam_service.zoo.scenes`: 1–4 objects of different classes in random colour, size, rotation and place,
partly hiding each other (at least half of each stays visible), on plain, smooth, textured or cluttered backgrounds.
Seeds from 1,000,000 up are for training; the figures below are of seeds 0–{last}. 30 % of the training pictures are
strips between grey bars, as wide or tall photos become; 4 % of them hold no object.

## Training

`{command}`: from random weights, {scenes:,} scenes, {epochs} epochs at a resolution growing from 64
to 128 pixels, AdamW, one cycle. It took {minutes:.0f} minutes on {hardware}
and {cpu_minutes:.0f} minutes of CPU time, all cores together.

Two losses: binary cross-entropy on the labels and, in the second half and with little weight, minus the logarithm of
the share of a class's positive evidence that lies on its object. So the network has been shown where objects are: how
well its maps point is no measure of how well maps point in networks that learnt from labels alone. (Without the
second loss this one's maps peak on 0.89 of the objects of ordinary scenes; most others are missed by less than half a
cell of the 16 × 16 map.)

## Measured

On {n:,} unseen scenes of each kind. *Pointing*: the maximum of the Grad-CAM map of an object's class, enlarged
bilinearly to the picture, lies inside the visible part of that object, without tolerance.

| scenes | mean average precision | highest score is right | pointing | all objects pointed at |
|---|---|---|---|---|
{kinds}

| class | average precision | pointing |
|---|---|---|
{by_class}

(By class: ordinary scenes. Wide scenes: one object, 1.5 to 3 times as wide as high, between bars.)

## Limits

- It knows drawn, filled shapes of one colour, about 18 to 64 pixels across after the picture has been brought
  to 128 pixels. Smaller ones are missed: in a photo of 1200 pixels, a shape should be 170 pixels or more across.
- It has never seen a photograph. On one it answers all the same, and the answer means nothing.
- On a background of strong, soft patches as large as the shape itself, shapes below 25 pixels are often misnamed.
- Outlined, shaded or patterned shapes, and shapes the colour of their background, were not in its data.
- Probabilities are not calibrated. A shape that is more than half hidden may be taken for another.

## Intended use

Trying out, testing and demonstrating the service. Not for decisions about anything.
"""


def card(figures: Mapping[str, Figures], training: Training) -> str:
    """The card as Markdown; ``figures`` as `evaluate` gives them."""
    ordinary = figures["ordinary"]
    by_class = zip(CLASSES, ordinary.precision, ordinary.pointing, strict=True)
    return _CARD.format(
        classes=", ".join(CLASSES),
        parameters=training.cost.parameters,
        megabytes=training.cost.weights / 1e6,
        last=f"{training.measured_on - 1:,}",
        command=training.command,
        scenes=training.scenes,
        epochs=training.epochs,
        minutes=training.cost.minutes,
        cpu_minutes=training.cost.cpu_minutes,
        hardware=training.cost.hardware,
        n=training.measured_on,
        kinds="\n".join(f"| {_TITLES[kind]} | {_row(of_kind)} |" for kind, of_kind in figures.items()),
        by_class="\n".join(f"| {name} | {ap:.3f} | {pointing:.3f} |" for name, ap, pointing in by_class),
    )


_TITLES = {"ordinary": "1–4 objects", "two": "2 objects", "wide": "wide, padded"}


def _row(of: Figures) -> str:
    """The figures of one kind of scenes as cells of a table."""
    cells = (of.mean_average_precision, of.named, of.pointed, of.all_pointed)
    return " | ".join(f"{value:.3f}" for value in cells)
