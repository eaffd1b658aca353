"""Runs an ONNX model in ONNX Runtime: what its scores are, whatever its operators."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from gradcam_service.errors import ModelFailed, unwrapped
from gradcam_service.registry.onnx_input import ImageInput
from gradcam_service.registry.spec import Preprocess
from gradcam_service.runtime.onnxruntime import open_session


class Session(nn.Module):
    """A model in ONNX Runtime, on the CPU.

    Args:
        model: checked, with one output.
        preprocess: what the images that it will be given have been through.
        channels: how many they have.

    Attributes:
        takes: the model's input.
        classes: how many scores it answers with.
        nbytes: size of the model, which ONNX Runtime holds.

    Raises:
        ModelFailed: ONNX Runtime can't run it, or it takes something else than such images.
    """

    def __init__(self, model: onnx.ModelProto, preprocess: Preprocess, channels: int) -> None:
        super().__init__()
        content = model.SerializeToString()
        self.nbytes = len(content)
        try:
            self._session = open_session(content)
        except Exception as error:  # of several classes of its own, without a common base
            raise ModelFailed(f"ONNX Runtime can't run the model: {unwrapped(error)}") from error
        self.takes = ImageInput.of(self._session, preprocess, channels)
        self.classes = self(torch.zeros(1, channels, *preprocess.input_size)).shape[1]

    def forward(self, images: Tensor) -> Tensor:
        """Compute scores (N, classes) of images (N, C, H, W), on the images' device.

        Raises:
            ModelFailed: ONNX Runtime failed, or the answer is something else.
        """
        rows = [self._run(part) for part in torch.split(images, self.takes.batch or len(images))]
        return torch.cat(rows).to(images.device)

    def _run(self, images: Tensor) -> Tensor:
        """Scores of as many images as the model takes at once, or of fewer, which are filled up."""
        missing = (self.takes.batch or len(images)) - len(images)
        filled = self.takes.array(torch.cat([images, images[:1].expand(missing, -1, -1, -1)]))
        try:
            (scores,) = self._session.run(None, {self.takes.name: filled})
        except Exception as error:  # likewise
            raise ModelFailed(f"ONNX Runtime failed: {unwrapped(error)}") from error
        one_row = scores.ndim > 0 and scores.size == len(filled) * max(scores.shape[1:], default=1)
        if not one_row or len(scores) != len(filled) or scores.dtype.kind != "f":
            raise ModelFailed(f"the model does not answer with one row of scores for each image but {scores.shape}")
        return torch.from_numpy(scores[: len(images)]).reshape(len(images), -1).float()
