"""Inputs of an ONNX model: images, and text beside them, and how these become what it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.built import takes_channels
from gradcam_service.registry.spec import Preprocess

_BRIGHTEST = {"tensor(float)": None, "tensor(uint8)": 255, "tensor(uint16)": 65535}
_TOKENS = {"tensor(int64)": torch.int64, "tensor(int32)": torch.int32}


@dataclass(frozen=True)
class ImageInput:
    """The images that an ONNX model takes.

    Attributes:
        name: of the input.
        batch: the number of images that it takes at once, None where it takes any.
        channels_last: whether it takes them as (N, H, W, C).
        brightest: what a pixel of 1 is, where the model takes uint8 or uint16 and brings them into its range by itself;
            else None.
        preprocess: what images have been through.
    """

    name: str
    batch: int | None
    channels_last: bool
    brightest: int | None
    preprocess: Preprocess

    @classmethod
    def of(cls, value: onnxruntime.NodeArg, preprocess: Preprocess, channels: int) -> ImageInput:
        """Find out how a model takes images.

        Raises:
            ModelFailed: not of this many channels and this size.
        """
        batch, *shape = _lengths(value)
        first, last, size = shape[0], shape[2], preprocess.input_size
        fits_last = last == channels or (first != channels and tuple(shape[:2]) == size)
        channels_last = first != channels and fits_last
        (declared, *sides) = (last, *shape[:2]) if channels_last else shape
        if declared not in (None, channels):
            raise ModelFailed(takes_channels(declared, channels))
        if any(side not in (None, own) for side, own in zip(sides, size, strict=True)):
            raise ModelFailed(
                f"the model takes images of {sides[1]}×{sides[0]}, but preprocess makes {size[1]}×{size[0]}"
            )
        return cls(value.name, batch, channels_last, _BRIGHTEST[value.type], preprocess)

    def given(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) float32 after ``preprocess``, in the model's layout and units, unrounded."""
        if self.brightest is not None:
            mean, std = (
                torch.tensor(values, device=images.device)[:, None, None]
                for values in (self.preprocess.mean, self.preprocess.std)
            )
            images = (images * std + mean) * self.brightest
        return images.permute(0, 2, 3, 1) if self.channels_last else images

    def array(self, images: Tensor) -> np.ndarray:
        """The same, as the model's very input."""
        values = self.given(images.detach().cpu()).contiguous().numpy()
        if self.brightest is None:
            return values
        return values.round().clip(0, self.brightest).astype(np.min_scalar_type(self.brightest))


@dataclass(frozen=True)
class TokenInput:
    """The text that an ONNX model takes beside images, tokens (N, T).

    Attributes:
        name: of the input.
        dtype: int64 or int32.
    """

    name: str
    dtype: torch.dtype


@dataclass(frozen=True)
class Takes:
    """All inputs of an ONNX model.

    Attributes:
        images: the images.
        tokens: the text beside them; None of a model that takes images alone.
        order: the inputs' names, as the model has them.
    """

    images: ImageInput
    tokens: TokenInput | None
    order: tuple[str, ...]

    @classmethod
    def of(
        cls, session: onnxruntime.InferenceSession, preprocess: Preprocess, channels: int, length: int | None
    ) -> Takes:
        """Find out what a model takes, whatever it calls that.

        Args:
            session: of the model.
            preprocess: what images have been through.
            channels: of the images.
            length: how many tokens it is given beside each image; None for none.

        Raises:
            ModelFailed: it is something else.
        """
        inputs = session.get_inputs()
        pictures = [value for value in inputs if value.type in _BRIGHTEST and len(value.shape) == 4]
        texts = [value for value in inputs if value.type in _TOKENS and len(value.shape) == 2]
        if len(pictures) != 1 or len(inputs) != 1 + len(texts) or len(texts) != (length is not None):
            shown = ", ".join(f"{value.name}: {value.type} {value.shape}" for value in inputs)
            one = "images (N, C, H, W) or (N, H, W, C), float, uint8 or uint16"
            takes = f"one input, {one}" if length is None else f"{one}, and tokens (N, {length}), int64 or int32"
            raise ModelFailed(f"a model takes {takes}; this: {shown}")
        images, tokens = ImageInput.of(pictures[0], preprocess, channels), None
        for value in texts:
            batch, own = _lengths(value)
            if own not in (None, length):
                raise ModelFailed(f"the model takes {own} tokens; say length: {own} in model.yaml, not {length}")
            images, tokens = replace(images, batch=images.batch or batch), TokenInput(value.name, _TOKENS[value.type])
        return cls(images, tokens, tuple(value.name for value in inputs))

    def given(self, *inputs: Tensor) -> list[Tensor]:
        """Images (N, C, H, W) float32 after preprocessing, and tokens (N, T), as the model takes them, in its order."""
        images, *others = inputs
        by_name = {self.images.name: self.images.given(images)}
        if self.tokens is not None:
            by_name[self.tokens.name] = others[0].to(self.tokens.dtype)
        return [by_name[name] for name in self.order]

    def arrays(self, *inputs: Tensor) -> dict[str, np.ndarray]:
        """The same by name, as the model's very inputs."""
        images, *others = inputs
        found = {self.images.name: self.images.array(images)}
        if self.tokens is not None:
            found[self.tokens.name] = others[0].to(self.tokens.dtype).cpu().numpy()
        return found


def _lengths(value: onnxruntime.NodeArg) -> list[int | None]:
    """How long an input's dimensions are, None where one may be of any length."""
    return [length if isinstance(length, int) else None for length in value.shape]
