"""Frames, oldest first: pictures of one size, stacked along their channels; a file each, or all in one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcam_service.errors import UnfitInput
from gradcam_service.images.animation import Frame, check_count, frames_of, size_of_frame
from gradcam_service.images.numbers import ENDINGS, MEDIA_TYPES
from gradcam_service.inputs import INPUTS, Input, Preparing, Received, Takes


@dataclass(frozen=True)
class _OfFrame:
    """`Preparing` of one frame of several: its own channels' mean, deviation and fill."""

    whole: Preparing
    channels: slice

    @property
    def mean(self) -> tuple[float, ...]:
        return self.whole.mean[self.channels]

    @property
    def std(self) -> tuple[float, ...]:
        return self.whole.std[self.channels]

    @property
    def input_size(self) -> tuple[int, int]:
        return self.whole.input_size

    def geometry(self) -> dict[str, Any]:
        whole = self.whole.geometry()
        return {**whole, "fill": whole["fill"][self.channels]}


def receive(data: bytes, takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
    """Read the frames of one file, an animation or an array; see `receive_all`.

    Raises:
        TooLarge, UndecodableImage, UnfitInput: as `receive_all`.
    """
    return _of_one(data, takes, preprocess, max_pixels)


def receive_array(values: NDArray[Any], takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
    """Receive frames (frames, H, W) or (frames, H, W, C) as `receive` those of a file of them.

    Raises:
        TooLarge, UndecodableImage, UnfitInput: as `receive_all`.
    """
    return _of_one(values, takes, preprocess, max_pixels)


def receive_all(files: Sequence[bytes], takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
    """Read each frame as a model of one picture would, and stack them along the channels, (H, W, frames · C).

    What is drawn on is the newest, which is the last.

    Args:
        files: of a frame each, oldest first; or one of all of them.
        takes: of how many frames, of which channels.
        preprocess: of all channels of all frames.
        max_pixels: that all frames together may have.

    Raises:
        TooLarge: they have more.
        UndecodableImage: one is no picture, or damaged.
        UnfitInput: there are more or fewer than the model takes, or of different sizes, or one doesn't fit.
    """
    if len(files) == 1:
        return _of_one(files[0], takes, preprocess, max_pixels)
    check_count(len(files), takes.frames)
    return _stacked(files, takes, preprocess, max_pixels)


def _of_one(sent: Frame, takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
    return _stacked(frames_of(sent, takes.read_as, takes.frames, max_pixels), takes, preprocess, max_pixels)


def _stacked(sent: Iterable[Frame], takes: Takes, preprocess: Preparing, max_pixels: int) -> Received:
    """As many frames as the model takes, each read and prepared by itself."""
    one = replace(takes, kind="", frames=1)
    reader, channels, most = INPUTS[one.reader], one.count, max_pixels // takes.frames
    frames = [
        reader.read(frame, one, _OfFrame(preprocess, slice(at * channels, (at + 1) * channels)), most)
        for at, frame in enumerate(sent)
    ]
    sizes = list(dict.fromkeys(frame.prepared.image_size for frame in frames))
    if len(sizes) > 1:
        shown = ", ".join(f"{width}×{height}" for width, height in sizes)
        raise UnfitInput(f"the frames are of different sizes, {shown}; frames of one size would work")
    newest = frames[-1]
    stacked = np.concatenate([frame.inputs["image"] for frame in frames], axis=2)
    warnings = tuple(dict.fromkeys(warning for frame in frames for warning in frame.warnings))
    return replace(newest, inputs={"image": stacked}, warnings=warnings)


INPUT = Input(MEDIA_TYPES, receive, size_of_frame, receive_all, receive_array, ENDINGS)
