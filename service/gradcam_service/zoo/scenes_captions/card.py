"""The model card: what `scenes-captions` is, how it came to be, what was measured and what it does not know."""

from __future__ import annotations

from gradcam_service.zoo.scenes_captions.evaluate import Figures
from gradcam_service.zoo.scenes_captions.language import LENGTH, VOCABULARY
from gradcam_service.zoo.training import Cost

_CARD = """\
# scenes-captions

Says in a sentence what is in a drawn scene: "a red star left of a blue fish". Each word can be explained, and what its
map points at can be checked against the truth. It is embedded so that captions can be tried without a download.

## Network

{cost}

Input 128 × 128 RGB, padded to a square with grey, and tokens (N, {length}) of the caption so far; output the logits of
the word after each of them. The convolutions of `scenes` and a small path for colours are merged into a feature map of
128 channels at 16 × 16. A decoder of two transformer layers looks at the words so far and at the cells; at its end one
head of attention reads the feature map itself, unprojected. Words: {words} and the special ones.

## Data

Drawn by `gradcam_service.zoo.scenes`: 1–3 objects of different shapes, in eight colours that have names, a little
varied, on plain, smooth, textured or cluttered backgrounds. The sentence follows from the scene by a grammar
(`gradcam_service.zoo.scenes_captions.language`): from left to right, each object's relation to the next, or the place
of one that is alone. Seeds from 1,000,000 up are for training; the figures below are of seeds 0–{last}.

## Training

`make zoo MODEL=scenes-captions`: {scenes:,} scenes, {epochs} epochs, AdamW, one cycle. The convolutions of `scenes` are
taken from its weights and not trained any more; that model was shown where objects are.

Three losses: cross-entropy on the words and, with little weight, minus the logarithm of the share of the last
attention, and of the word's positive evidence in the feature map, that lies on the object that a colour or a shape is
said of. So this network, too, has been shown where to look: how well its maps point is no measure of how well maps
point in captioners that learnt from sentences alone.

## Measured

On {n:,} unseen scenes, captions word by word the likeliest (greedy), in one process with plain PyTorch and no part of
the service: Grad-CAM at `backbone.merge`, enlarged bilinearly to the picture, its maximum inside the visible part of
the object or not, without tolerance. A word for something that isn't there counts as a miss.

| | share |
|---|---|
| captions that name all objects with their colours and nothing else | {named:.3f} |
| captions that are right word by word | {exact:.3f} |
| words for shapes whose map peaks on that shape | {shapes:.3f} |
| words for colours whose map peaks on the shape that they are said of | {colours:.3f} |

All other words speak of no one thing. How often their maps peak on any object:

| word | said | on an object |
|---|---|---|
{others}

## Limits

- It knows the shapes and the limits of `scenes`, one to three of them, in eight colours. It has never seen a
  photograph. On one it says a sentence all the same, which means nothing.
- Its sentences name objects from left to right; where two lie nearly above each other, either order may come.
- Other sentences than the grammar's are explained as well, but were never learnt.

## Intended use

Trying out, testing and demonstrating the service. Not for decisions about anything.
"""


def card(figures: Figures, cost: Cost, scenes: int, epochs: int, measured_on: int) -> str:
    """The card as Markdown, of a network trained on ``scenes`` and measured on ``measured_on`` others."""
    rows = (f"| {word} | {figures.counts[word]} | {share:.3f} |" for word, share in figures.others.items())
    return _CARD.format(
        cost=cost,
        length=LENGTH + 1,
        words=", ".join(word for word in VOCABULARY if not word.startswith("<")),
        last=f"{measured_on - 1:,}",
        scenes=scenes,
        epochs=epochs,
        n=measured_on,
        named=figures.named,
        exact=figures.exact,
        shapes=figures.shapes,
        colours=figures.colours,
        others="\n".join(rows),
    )
