"""What an ONNX model takes as images, and how images become that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.built import takes_channels
from gradcam_service.registry.spec import Preprocess

_BRIGHTEST = {"tensor(float)": None, "tensor(uint8)": 255, "tensor(uint16)": 65535}


@dataclass(frozen=True)
class ImageInput:
    """The one input of an ONNX model.

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
    def of(cls, session: onnxruntime.InferenceSession, preprocess: Preprocess, channels: int) -> ImageInput:
        """Find out what a model takes.

        Raises:
            ModelFailed: it is something else than images of this many channels and this size.
        """
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _BRIGHTEST or len(inputs[0].shape) != 4:
            shown = ", ".join(f"{value.name}: {value.type} {value.shape}" for value in inputs)
            raise ModelFailed(
                f"a model takes one input, images (N, C, H, W) or (N, H, W, C), float, uint8 or uint16; this: {shown}"
            )
        batch, *shape = (length if isinstance(length, int) else None for length in inputs[0].shape)
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
        return cls(inputs[0].name, batch, channels_last, _BRIGHTEST[inputs[0].type], preprocess)

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
