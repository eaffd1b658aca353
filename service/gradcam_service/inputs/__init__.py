"""Kinds of input, one file each: from bytes to the numbers that a model receives. Torch-free.

A kind parses what a caller sends, and has what the model needs prepared from it: resized, cropped and scaled. What is
left, normalising by the model's mean and standard deviation, is done on the device for a whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ConfigDict

from gradcam_service.errors import UnfitInput
from gradcam_service.images.geometry import PreparedImage
from gradcam_service.images.samples import Channels
from gradcam_service.kinds import Kinds

Sent: TypeAlias = bytes | NDArray[Any] | tuple[bytes, ...]
"""A picture's file, numbers in its place, or the files of several frames."""


@dataclass(frozen=True)
class Takes:
    """Input that a model takes: ``input`` in its ``model.yaml``.

    Attributes:
        kind: a file in `gradcam_service.inputs`, or a plugin; empty for the one that reads these channels and bits.
        channels: rgb; bgr, the same in the order of OpenCV and Caffe; gray; or how many bands.
        depth: bits of a number from 0 to the brightest, 8 or 16, which becomes 0 to 1; float: numbers as they are.
        range: the numbers that become 0 and 1 instead, of more than 8 bits; what lies beyond becomes 0 or 1 too.
        bands: which three of several, from 0, are drawn as red, green and blue under an overlay.
        frames: how many pictures of these channels, oldest first, which are stacked along the channels.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: str = ""
    channels: Literal["rgb", "bgr", "gray"] | int = "rgb"
    depth: Literal[8, 16, "float"] = 8
    bands: tuple[int, int, int] | None = None
    range: tuple[float, float] | None = None
    frames: int = 1

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError("input.frames takes a number of pictures, at least 1")
        if not 1 <= self.of_frame <= self.count <= 1024:
            raise ValueError("input.channels takes rgb, bgr, gray or a number of bands from 1 to 1024, of all frames")
        if self.bands is not None and not all(0 <= band < self.of_frame for band in self.bands):
            raise ValueError(f"input.bands takes three numbers from 0 to {self.of_frame - 1}")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError("input.range takes two numbers, the lower one first")
        if self.range is not None and (self.depth == 8 or not all(map(math.isfinite, self.range))):
            raise ValueError(
                "input.range takes two finite numbers, with input.depth: 16 or float; 8 bits have 0 to 255"
            )

    @property
    def reader(self) -> str:
        """The name of the kind."""
        of_one = "picture" if self.channels in ("rgb", "bgr") and self.depth == 8 else "array"
        return self.kind or ("frames" if self.frames > 1 else of_one)

    @property
    def count(self) -> int:
        """How many channels the network takes, those of all frames."""
        return self.frames * self.of_frame

    @property
    def of_frame(self) -> int:
        """How many channels a picture has."""
        return self.channels if isinstance(self.channels, int) else {"gray": 1}.get(self.channels, 3)

    @property
    def read_as(self) -> Channels:
        """The channels that files are read in: colours red, green and blue, in whichever order the model has them."""
        return "rgb" if self.channels == "bgr" else self.channels

    @property
    def shown(self) -> tuple[int, int, int]:
        """The channels drawn as red, green and blue, of frames the newest's; of fewer than three, the first as gray."""
        gray_or_colours = (0, 1, 2) if self.of_frame >= len("rgb") else (0, 0, 0)
        red, green, blue = self.bands or ((2, 1, 0) if self.channels == "bgr" else gray_or_colours)
        newest = self.count - self.of_frame
        return newest + red, newest + green, newest + blue


class Preparing(Protocol):
    """Preprocessing of a model, as far as a kind of input needs to know it."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Of each channel, in the range 0 to 1: what padding is filled with."""

    @property
    def std(self) -> tuple[float, ...]:
        """Of each channel, in the same units."""

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of what the model receives."""

    def geometry(self) -> dict[str, Any]:
        """Keyword arguments of `gradcam_service.images.geometry.prepare`."""


@dataclass(frozen=True, eq=False)
class Received:
    """Input from a caller, ready for a model, and to be drawn on.

    Attributes:
        inputs: what the worker is sent, by the names of the model's inputs; ``image`` is (H, W, C), uint8 from 0 to 255
            or float32 that the mean and standard deviation are for.
        prepared: the same as a picture, and which part of the original it is.
        original: draws the original, mode RGB.
        warnings: sentences for the caller about what the model is likely to see otherwise than it was meant.
    """

    inputs: Mapping[str, np.ndarray]
    prepared: PreparedImage
    original: Callable[[], Image.Image]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Input:
    """A kind of input.

    Attributes:
        media_types: the content types of what it reads, ``image/*`` for any of images.
        receive: the bytes, what the model takes, how it wants them prepared and the most pixels that are decoded → what
            is sent to the worker. Raises TooLarge, UndecodableImage or UnfitInput.
        size: (width, height) of the original as its header claims; (0, 0) where that can't be read.
        receive_all: the same as ``receive`` of several files that are one input; None where one file is all of it.
        receive_array: the same as ``receive`` of numbers that came otherwise than in a file, as in JSON: an array of
            any type, (H, W) or (H, W, C), of frames one dimension more; None where only files are read.
        endings: of the names of files that a browser, which offers them to be opened, doesn't know by the media types.
    """

    media_types: tuple[str, ...]
    receive: Callable[[bytes, Takes, Preparing, int], Received]
    size: Callable[[bytes], tuple[int, int]]
    receive_all: Callable[[Sequence[bytes], Takes, Preparing, int], Received] | None = None
    receive_array: Callable[[NDArray[Any], Takes, Preparing, int], Received] | None = None
    endings: tuple[str, ...] = ()

    def read(self, sent: bytes | NDArray[Any], takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
        """Receive a file, or numbers in its place.

        Raises:
            TooLarge, UndecodableImage: as ``receive`` and ``receive_array``.
            UnfitInput: likewise, or only files are read.
        """
        if not isinstance(sent, np.ndarray):
            return self.receive(sent, takes, preprocess, max_pixels)
        if self.receive_array is None:
            files = ", ".join(self.media_types)
            raise UnfitInput(f"an array {sent.shape} came in no file; this model takes files alone: {files}")
        return self.receive_array(sent, takes, preprocess, max_pixels)


OWN_PIXELS = 50_000_000
"""Most that a picture may have which no caller has sent: a model's sample, and the service's own."""

INPUTS: Kinds[Input] = Kinds(__name__, "INPUT")


def media_types() -> list[str]:
    """The content types that some kind of input reads, ``image/*`` for any of images."""
    return sorted({media_type for kind in INPUTS.values() for media_type in kind.media_types})
