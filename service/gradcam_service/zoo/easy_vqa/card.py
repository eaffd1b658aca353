"""The model card: what `easy-vqa` is, how it came to be, what was measured and what it does not know."""

from __future__ import annotations

from collections.abc import Mapping

from gradcam_service.zoo.easy_vqa.evaluate import Figures
from gradcam_service.zoo.easy_vqa.language import ANSWERS, LENGTH, VOCABULARY
from gradcam_service.zoo.training import Cost

_CARD = """\
# easy-vqa

Answers questions about a picture of one coloured shape: "what color is the circle?", "is there not a red shape?".
{answers} answers: {names}. It is embedded so that answers can be tried and explained without a download.

## Network

{cost}

Input 64 × 64 RGB and tokens (N, {length}) of the question; output the logits of the answers. A stem and three residual
blocks lead to a feature map of 64 channels at 16 × 16. The question, as the sum of its words' embeddings, decides which
cells attention reads and is multiplied with what was read; so pictures go through the convolutions once, whatever is
asked. The order of words plays no part. Words it knows: {words}.

## Data

[easy-VQA](https://github.com/vzhou842/easy-VQA) by Victor Zhou, package `easy-vqa` 1.0 of PyPI, whose metadata says
"License :: OSI Approved :: MIT License" (its field License says UNKNOWN, and no text of a license is in the package).
4,000 pictures with 38,575 questions for training, 1,000 with 9,673 for testing. The package is needed for training
alone; nothing of it is in this service.

## Training

`make zoo MODEL=easy-vqa`: from random weights, {epochs} epochs of the training part, pictures turned by quarters and
mirrored, cross-entropy, AdamW, one cycle. Nothing told the network where shapes are.

## Measured

On the whole test part, which nothing else was done with, in one process with plain PyTorch and no part of the service.
*Pointing*: the maximum of the map of the top answer at `backbone.layer2`, enlarged bilinearly to the picture, lies on
the shape, whose pixels are those that differ from the background, without tolerance. Every question names a shape or a
colour, or asks for it.

| questions | number | right | pointing, HiResCAM | pointing, Grad-CAM |
|---|---|---|---|---|
{rows}

HiResCAM is the method unless a request names another; that was chosen on the training part. Of Grad-CAM's misses nine
of ten lie within two pixels of the shape (200 questions of the training part): half a cell of the map. Questions for
the shape are answered by its edges, and the maps often peak just outside of them.

## Limits

- Pictures of one rectangle, circle or triangle in one of eight plain colours on a pale ground, at 64 × 64 pixels.
- Questions of the data set's {templates} words; a question of other make gets an answer that means nothing.
- It has never seen a photograph.

## Intended use

Trying out, testing and demonstrating the service. Not for decisions about anything.
"""


def card(figures: Mapping[str, Figures], cost: Cost, epochs: int) -> str:
    """The card as Markdown; ``figures`` as `evaluate` gives them."""
    rows = (
        f"| {kind} | {of.questions:,} | {of.right:.3f} | {of.hirescam:.3f} | {of.gradcam:.3f} |"
        for kind, of in figures.items()
    )
    known = VOCABULARY[1:]
    return _CARD.format(
        answers=len(ANSWERS),
        names=", ".join(ANSWERS),
        cost=cost,
        length=LENGTH,
        words=", ".join(known),
        epochs=epochs,
        rows="\n".join(rows),
        templates=len(known),
    )
