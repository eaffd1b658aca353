"""Samples of a data set: pictures, and what is where in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gradcam_service.images.geometry import PreparedImage

Box: TypeAlias = tuple[float, float, float, float]
"""x0, y0, x1, y1 in the original's pixels, of which the first reaches from 0 to 1; x1 and y1 exclusive."""
Mask: TypeAlias = NDArray[np.bool_]

_SLACK = 1.0
"""Pixels that a box may reach beyond its picture unnoticed: some annotations count from 0, some from 1."""


@dataclass(frozen=True, eq=False)
class Thing:
    """One object of a picture, or no more than the fact that the picture is of its class.

    Attributes:
        label: as the data set calls its class.
        box: around it, where that is known.
        mask: draws the pixels (H, W) of the original in which it is visible, where they are known.
        index: of the class among the model's, once it is known.
    """

    label: str
    box: Box | None = None
    mask: Callable[[], Mask] | None = None
    index: int = -1


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture of a data set.

    Attributes:
        name: unique in the data set.
        read: its encoded bytes. Raises OSError.
        things: what is in it; several of one class, too.
        group: the picture's, where the data set has groups.
        question: asked about it, of models that answer one.
        size: (width, height) that the annotations are made for; None where they don't say.
    """

    name: str
    read: Callable[[], bytes]
    things: tuple[Thing, ...]
    group: str = ""
    question: str = ""
    size: tuple[int, int] | None = None

    @property
    def labels(self) -> list[int]:
        """The classes that are there, each once."""
        return list(dict.fromkeys(thing.index for thing in self.things))

    def boxes(self, label: int) -> list[Box]:
        """The boxes of a class."""
        return [thing.box for thing in self.things if thing.index == label and thing.box is not None]

    def where(self, label: int, image_size: tuple[int, int]) -> Mask | None:
        """The pixels (H, W) of the original that a class's masks, else its boxes, cover; None where neither is known.

        A pixel belongs to a box if its centre does.

        Args:
            label: index of the class.
            image_size: (width, height) of the original.
        """
        covered = np.zeros(image_size[::-1], np.bool_)
        things = [thing for thing in self.things if thing.index == label and (thing.mask or thing.box)]
        for thing in things:
            if thing.mask is not None:
                covered |= thing.mask()
            elif thing.box is not None:
                x0, y0, x1, y1 = (max(0, int(np.ceil(edge - 0.5))) for edge in thing.box)
                covered[y0:y1, x0:x1] = True
        return covered if things else None

    def digest(self, data: bytes) -> str:
        """Hex SHA-256 of the picture's bytes, of what is said to be where in it, and of what is asked about it."""
        truth = [(t.index, t.box, "" if t.mask is None else np.packbits(t.mask()).tobytes()) for t in self.things]
        return hashlib.sha256(
            repr((hashlib.sha256(data).digest(), truth, self.group, self.question)).encode()
        ).hexdigest()


@dataclass(frozen=True, order=True)
class Problem:
    """Something of a data set that can't be used.

    Attributes:
        kind: in a few words, the same for all of a kind.
        sample: the picture's name, or the class's.
        detail: what is wrong.
    """

    kind: str
    sample: str
    detail: str = ""


@dataclass
class Collected:
    """What a data set yields: samples, and what is wrong with others.

    Attributes:
        samples: in the data set's order.
        problems: whatever was left out, and why.
    """

    samples: list[Sample] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def fitting(sample: Sample, image_size: tuple[int, int]) -> tuple[Sample, list[Problem]]:
    """The sample with its boxes clipped to its picture, without those outside, and what was wrong with them.

    A thing whose box is of no use is still known to be there.

    Args:
        sample: as it was annotated.
        image_size: (width, height) of its picture.
    """
    if sample.size is not None and sample.size != image_size:
        bare = tuple(replace(thing, box=None, mask=None) for thing in sample.things)
        made, is_ = ("×".join(map(str, size)) for size in (sample.size, image_size))
        detail = f"made for {made} pixels, the picture has {is_}"
        return replace(sample, things=bare, size=None), [Problem("boxes of another size", sample.name, detail)]
    width, height = image_size
    things, problems = [], []
    for thing in sample.things:
        if thing.box is None:
            things.append(thing)
            continue
        x0, y0, x1, y1 = thing.box
        clipped = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
        outside = max(abs(a - b) for a, b in zip(clipped, thing.box, strict=True)) > _SLACK
        is_empty = not (clipped[0] < clipped[2] and clipped[1] < clipped[3])
        if outside or is_empty:
            what = "left out" if is_empty else "clipped"
            detail = f"{thing.label} {thing.box} of {width}×{height}: {what}"
            problems.append(Problem("box outside the picture, or empty", sample.name, detail))
        things.append(replace(thing, box=None if is_empty else clipped))
    return replace(sample, things=tuple(things)), problems


def at_input(mask: Mask, prepared: PreparedImage) -> Mask:
    """Which pixels (h, w) of the model's input have their centre in a mask (H, W) of the original.

    What the model sees beside the picture, where it pads, is in no mask.
    """
    region, (width, height) = prepared.region, prepared.size
    x = np.floor(region.x0 + (np.arange(width) + 0.5) * (region.x1 - region.x0) / width).astype(int)
    y = np.floor(region.y0 + (np.arange(height) + 0.5) * (region.y1 - region.y0) / height).astype(int)
    inside_x, inside_y = (x >= 0) & (x < mask.shape[1]), (y >= 0) & (y < mask.shape[0])
    seen = np.zeros((height, width), np.bool_)
    seen[np.ix_(inside_y, inside_x)] = mask[np.ix_(y[inside_y], x[inside_x])]
    return seen
