"""Runs an ONNX model in ONNX Runtime: what its scores are, whatever its operators."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn

from gradcam_service.errors import ModelFailed, unwrapped
from gradcam_service.registry.onnx_input import Takes
from gradcam_service.registry.spec import Preprocess
from gradcam_service.runtime.onnxruntime import open_session
from gradcam_service.text import Text


class Session(nn.Module):
    """A model in ONNX Runtime, on the CPU.

    Args:
        model: checked, with one output.
        preprocess: what the images that it will be given have been through.
        channels: how many they have.
        text: of what text they come with; None for none.

    Attributes:
        takes: the model's inputs.
        scores: the shape of what it answers an image with: (classes,) or, of each token the next words, (T, words).
        nbytes: size of the model, which ONNX Runtime holds.

    Raises:
        ModelFailed: ONNX Runtime can't run it, or it takes something else than such images.
    """

    def __init__(self, model: onnx.ModelProto, preprocess: Preprocess, channels: int, text: Text | None = None) -> None:
        super().__init__()
        content = model.SerializeToString()
        self.nbytes = len(content)
        try:
            self._session = open_session(content)
        except Exception as error:  # of several classes of its own, without a common base
            raise ModelFailed(f"ONNX Runtime can't run the model: {unwrapped(error)}") from error
        self._length = None if text is None else text.length
        self.takes = Takes.of(self._session, preprocess, channels, self._length)
        beside = [] if text is None else [torch.from_numpy(text.example())[None]]
        self.scores = tuple(self(torch.zeros(1, channels, *preprocess.input_size), *beside).shape[1:])

    def forward(self, images: Tensor, *others: Tensor) -> Tensor:
        """Compute scores (N, classes) or (N, T, words) of images (N, C, H, W), on the images' device.

        Args:
            images: N rows.
            others: tokens (N, T), of a model that takes text.

        Raises:
            ModelFailed: ONNX Runtime failed, or the answer is something else.
        """
        most = self.takes.images.batch or len(images)
        parts = zip(*(torch.split(values, most) for values in (images, *others)), strict=True)
        rows = [self._run(*part) for part in parts]
        return torch.cat(rows).to(images.device)

    def _run(self, *inputs: Tensor) -> Tensor:
        """Scores of as many images as the model takes at once, or of fewer, which are filled up."""
        count = len(inputs[0])
        rows = self.takes.images.batch or count
        filled = [torch.cat([each, each[:1].expand(rows - count, *each.shape[1:])]) for each in inputs]
        try:
            (scores,) = self._session.run(None, self.takes.arrays(*filled))
        except Exception as error:  # likewise
            raise ModelFailed(f"ONNX Runtime failed: {unwrapped(error)}") from error
        one_row = scores.ndim > 0 and scores.size == rows * max(scores.shape[1:], default=1)
        of_words = self._length is not None and scores.ndim == 3 and scores.shape[1] == self._length
        if not (one_row or of_words) or len(scores) != rows or scores.dtype.kind != "f":
            raise ModelFailed(f"the model does not answer with one row of scores for each image but {scores.shape}")
        found = torch.from_numpy(scores[:count]).float()
        return found if of_words else found.reshape(count, -1)
