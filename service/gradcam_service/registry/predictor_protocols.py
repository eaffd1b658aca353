"""The two protocols by which a predictor of KServe is asked for scores. Torch-free.

V1: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol; V2, the Open Inference Protocol:
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol
from urllib.parse import quote

import msgspec
import numpy as np
from PIL import Image

from gradcam_service.bytes_tensor import packed
from gradcam_service.errors import ModelFailed, shortened

Encoding = Literal["png", "nchw", "nhwc"]
_HEAD = "Inference-Header-Content-Length"
_FLOATS = {"FP32": "<f4", "FP64": "<f8"}


@dataclass(frozen=True)
class Request:
    """Request that is posted to a predictor."""

    path: str
    content: bytes
    headers: Mapping[str, str]


class Scored(NamedTuple):
    """Scores that a predictor answers.

    Attributes:
        scores: (N, classes) float32.
        version: of the model that they are of; empty where it isn't told.
    """

    scores: np.ndarray
    version: str = ""


class PredictorProtocol(Protocol):
    """A protocol, as one predictor speaks it."""

    @property
    def normalised(self) -> bool:
        """Whether it takes numbers after mean and standard deviation, and no pixels in 0–1."""

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(H, W) of its input, where it says so."""

    def request(self, images: np.ndarray) -> Request:
        """Ask for the scores of images (N, C, H, W) float32."""

    def scored(self, content: bytes, headers: Mapping[str, str]) -> Scored:
        """The scores in an answer.

        Raises:
            KeyError, TypeError, ValueError: there are none in it.
        """


@dataclass(frozen=True)
class V1:
    """The protocol of TensorFlow Serving.

    Attributes:
        model: its name there.
        encoding: of an instance: nested numbers in one order or the other, or a PNG as ``{"image_bytes": {"b64": …}}``.
    """

    model: str
    encoding: Encoding = "png"
    input_size: tuple[int, int] | None = None

    @property
    def normalised(self) -> bool:
        """Whether instances are numbers."""
        return self.encoding != "png"

    def request(self, images: np.ndarray) -> Request:
        """See `PredictorProtocol`."""
        instances: list[Any]
        if self.encoding == "png":
            instances = [{"image_bytes": {"b64": base64.b64encode(png).decode()}} for png in _pngs(images)]
        else:
            instances = (images if self.encoding == "nchw" else images.transpose(0, 2, 3, 1)).tolist()
        content = msgspec.json.encode({"instances": instances})
        return Request(f"/v1/models/{quote(self.model)}:predict", content, {"Content-Type": "application/json"})

    def scored(self, content: bytes, headers: Mapping[str, str]) -> Scored:
        """See `PredictorProtocol`."""
        return Scored(np.array(msgspec.json.decode(content)["predictions"], np.float32))


@dataclass(frozen=True)
class V2:
    """The Open Inference Protocol.

    Attributes:
        model: its name there.
        input: name, datatype and shape of its input.
        output: name of the scores among its outputs.
        binary: whether tensors may go in binary.
    """

    model: str
    input: Mapping[str, Any]
    output: str
    binary: bool

    @classmethod
    def described(cls, model: str, metadata: Mapping[str, Any], extensions: list[str]) -> V2:
        """Understand what a server says of a model.

        Raises:
            ModelFailed: it takes something else than pictures.
        """
        inputs, outputs = metadata["inputs"], metadata["outputs"]
        scores = [output["name"] for output in outputs if output["datatype"] in _FLOATS and len(output["shape"]) <= 2]
        kinds = {"BYTES": (1, 2), "UINT8": (4,), "FP32": (4,)}
        fits = len(inputs) == 1 and len(inputs[0]["shape"]) in kinds.get(inputs[0]["datatype"], ())
        if not fits or not scores:
            raise ModelFailed(
                "a predictor takes one input, images FP32 or UINT8 of four dimensions or BYTES, and answers scores "
                f"(N, classes) FP32 or FP64; this: {shortened(str(inputs))} → {shortened(str(outputs))}"
            )
        return cls(model, inputs[0], scores[0], "binary_tensor_data" in extensions)

    @property
    def normalised(self) -> bool:
        """Whether its input are floats."""
        return bool(self.input["datatype"] == "FP32")

    @property
    def channels_last(self) -> bool:
        """Whether its input is (N, H, W, C)."""
        return bool(self.input["shape"][-1] == 3 and self.input["shape"][1] != 3)

    @property
    def input_size(self) -> tuple[int, int] | None:
        """See `PredictorProtocol`."""
        if len(self.input["shape"]) != 4:
            return None
        height, width = self.input["shape"][1:3] if self.channels_last else self.input["shape"][2:]
        return (height, width) if height > 0 and width > 0 else None

    def request(self, images: np.ndarray) -> Request:
        """See `PredictorProtocol`."""
        datatype = self.input["datatype"]
        tensor: dict[str, Any] = {"name": self.input["name"], "datatype": datatype}
        if datatype == "BYTES":
            pngs = _pngs(images)
            tensor["shape"] = [len(pngs), *[1 for _ in self.input["shape"][1:]]]
            data = b"".join(packed(pngs))
            values = [] if self.binary else [base64.b64encode(png).decode() for png in pngs]
        else:
            rows = images.transpose(0, 2, 3, 1) if self.channels_last else images
            rows = _levels(rows) if datatype == "UINT8" else rows
            tensor["shape"] = rows.shape
            data, values = (rows.tobytes(), []) if self.binary else (b"", rows.ravel().tolist())
        head: dict[str, Any] = {"inputs": [tensor], "outputs": [{"name": self.output}]}
        path = f"/v2/models/{quote(self.model)}/infer"
        if not self.binary:
            tensor["data"] = values
            return Request(path, msgspec.json.encode(head), {"Content-Type": "application/json"})
        tensor["parameters"] = {"binary_data_size": len(data)}
        head["outputs"][0]["parameters"] = {"binary_data": True}
        text = msgspec.json.encode(head)
        headers = {"Content-Type": "application/octet-stream", _HEAD: str(len(text))}
        return Request(path, text + data, headers)

    def scored(self, content: bytes, headers: Mapping[str, str]) -> Scored:
        """See `PredictorProtocol`."""
        length = int(headers.get(_HEAD, len(content)))
        answer = msgspec.json.decode(content[:length])
        (output,) = (one for one in answer["outputs"] if one["name"] == self.output)
        dtype = _FLOATS[output["datatype"]]
        values = np.frombuffer(content[length:], dtype) if "data" not in output else np.array(output["data"], dtype)
        return Scored(values.reshape(output["shape"]).astype(np.float32), str(answer.get("model_version") or ""))


def _levels(pixels: np.ndarray) -> np.ndarray:
    """Pixels in 0–1 as levels of 8 bits."""
    return (pixels * 255).round().clip(0, 255).astype(np.uint8)


def _pngs(images: np.ndarray) -> list[bytes]:
    """Images (N, 3, H, W) in 0–1 as pictures."""
    pictures = []
    for levels in _levels(images.transpose(0, 2, 3, 1)):
        file = io.BytesIO()
        Image.fromarray(levels).save(file, "PNG", compress_level=1)
        pictures.append(file.getvalue())
    return pictures
