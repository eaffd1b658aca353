"""Runs an ONNX model in ONNX Runtime: what its scores are, whatever its operators."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, fx, nn

from gradcam_service.errors import ModelFailed
from gradcam_service.explain.graph import flat
from gradcam_service.runtime.onnxruntime import open_session


class Session(nn.Module):
    """A model in ONNX Runtime, on the CPU.

    Args:
        model: checked, with one output (N, classes).
        size: (H, W) of the images that it will be given.

    Attributes:
        size: likewise.
        batch: the number of images that it takes at once, None where it takes any.
        channels_last: whether it takes them as (N, H, W, 3).
        nbytes: size of the model, which ONNX Runtime holds.

    Raises:
        ModelFailed: ONNX Runtime can't run it, or it takes something else than such images.
    """

    def __init__(self, model: onnx.ModelProto, size: tuple[int, int]) -> None:
        super().__init__()
        content = model.SerializeToString()
        self.nbytes = len(content)
        try:
            self._session = open_session(content)
        except Exception as error:  # of several classes of its own, without a common base
            raise ModelFailed(f"ONNX Runtime can't run the model: {' '.join(str(error).split())}") from error
        self.size = size
        self._input, shape = self._image_input()
        self.batch = shape[0] if isinstance(shape[0], int) else None
        self.channels_last = shape[3] == 3 and shape[1] != 3
        channels, *declared = (shape[3], *shape[1:3]) if self.channels_last else shape[1:]
        if isinstance(channels, int) and channels != 3:
            raise ModelFailed(f"the model takes images of {channels} channels, not of red, green and blue")
        if any(isinstance(side, int) and side != own for side, own in zip(declared, size, strict=True)):
            raise ModelFailed(
                f"the model takes images of {declared[1]}×{declared[0]}, but preprocess makes {size[1]}×{size[0]}"
            )
        self(torch.zeros(1, 3, *size))

    def _image_input(self) -> tuple[str, list[int | str | None]]:
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
            shown = ", ".join(f"{value.name}: {value.type} {value.shape}" for value in inputs)
            raise ModelFailed(f"a model takes one input, images (N, 3, H, W) or (N, H, W, 3) of float32; this: {shown}")
        return inputs[0].name, inputs[0].shape

    def forward(self, images: Tensor) -> Tensor:
        """Compute scores (N, classes) of images (N, 3, H, W), on the images' device.

        Raises:
            ModelFailed: ONNX Runtime failed, or the answer is something else.
        """
        given = images.permute(0, 2, 3, 1) if self.channels_last else images
        rows = [self._run(part) for part in torch.split(given.detach().cpu(), self.batch or len(given))]
        return torch.cat(rows).to(images.device)

    def _run(self, images: Tensor) -> Tensor:
        """Scores of as many images as the model takes at once, or of fewer, which are filled up."""
        missing = (self.batch or len(images)) - len(images)
        filled = torch.cat([images, images[:1].expand(missing, -1, -1, -1)]).contiguous()
        try:
            (scores,) = self._session.run(None, {self._input: filled.numpy()})
        except Exception as error:  # likewise
            raise ModelFailed(f"ONNX Runtime failed: {' '.join(str(error).split())}") from error
        if scores.ndim != 2 or len(scores) != len(filled) or scores.dtype.kind != "f":
            raise ModelFailed(f"the model does not answer with one row of scores for each image but {scores.shape}")
        return torch.from_numpy(scores[: len(images)]).float()


def black_box(session: Session, classes: int, reason: str) -> fx.GraphModule:
    """Wrap a session in a graph of one node: nothing inside it can be seen or differentiated, for ``reason``."""
    graph = fx.Graph()
    image = graph.placeholder("images")
    image.meta["val"] = torch.empty(2, 3, *session.size, device="meta")
    scores = graph.call_module("session", (image,))
    scores.meta["val"] = torch.empty(2, classes, device="meta")
    graph.output(scores)
    graph_module = flat(fx.GraphModule({"session": session}, graph))
    graph_module.meta["opaque"] = reason
    return graph_module
