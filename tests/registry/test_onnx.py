"""Networks in ONNX files are explained as the networks that were exported, whoever exported them."""

import functools
import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision
from methods.networks import ARCHITECTURES, CLASSES, SIZE, batched_maps, calibrated, known, narrow
from onnx import TensorProto, helper
from onnxruntime import InferenceSession
from registry.onnx_files import BY_HAND, CONVOLUTION, DENSE, images, imported, spec, written
from torch import nn
from torch.testing import assert_close

from gradcam_service.errors import ModelFailed
from gradcam_service.explain.network import Network
from gradcam_service.explain.objectives import Logit
from gradcam_service.explain.suitability import refusals
from gradcam_service.registry.built import build
from gradcam_service.registry.folder import ModelFolder

CONVOLUTIONAL = [name for name in ARCHITECTURES if name not in ("swin", "vit", "vgg11")]
# One of each kind of head and block; the others differ in numbers.
USUAL = ("alexnet", "convnext", "densenet", "mobilenet_v3", "resnet18", "squeezenet")
POOLED = (
    "resnext",
    "densenet",
    "efficientnet",
    "googlenet",
    "mnasnet",
    "mobilenet_v2",
    "regnet",
    "resnet18",
    "shufflenet",
)


@functools.cache
def original(name):
    """A torchvision model, its network, and its pictures' side: AlexNet's pooling would enlarge small ones."""
    if name != "alexnet":
        return known(name).module, known(name).network, SIZE
    module = calibrated(narrow(torchvision.models.alexnet, num_classes=CLASSES), 224)
    return module, Network(module, (3, 224, 224)), 224


def exported(folder, module, size, dynamo, batch=None):
    """Export a module by one of torch's two exporters, for ``batch`` images or for any number."""
    example = torch.zeros(batch or 2, 3, *size)
    named = {"input_names": ["images"], "dynamic_axes": {"images": {0: "batch"}}}
    dynamic = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if dynamo else named
    torch.onnx.export(
        module, (example,), folder / "model.onnx", dynamo=dynamo, verbose=False, **({} if batch else dynamic)
    )
    return folder


def agree(network, truth, module, size, methods=("gradcam",)):
    for count in (1, 3):
        x = images(count, *size)
        frontier, scores = network.predict(x)
        with torch.no_grad():
            expected = module(x)
        assert_close(scores, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
        targets = torch.arange(count) % CLASSES
        for method in methods:
            ours = batched_maps(method, network.cut, frontier, targets)
            theirs = batched_maps(method, truth.cut, truth.cut.frontier(x), targets)
            assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))
    gradients = network.cut.head.gradients(frontier, Logit(targets))
    assert gradients.any()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "dynamo",
    [pytest.param(False, id="torchscript"), pytest.param(True, id="dynamo", marks=pytest.mark.exhaustive)],
)
@pytest.mark.parametrize(
    "name", [name if name in USUAL else pytest.param(name, marks=pytest.mark.exhaustive) for name in CONVOLUTIONAL]
)
def test_an_exported_architecture_is_explained_as_the_original(tmp_path, name, dynamo):
    module, truth, side = original(name)
    size = (side, side)
    network = imported(exported(tmp_path, module, size, dynamo), size)
    assert network.opaque == ""
    assert network.cut.layer.shape == truth.cut.layer.shape
    # An operator outside of any module is called by its own name, which ONNX writes with a capital.
    assert network.cut.layer.name.lower() == truth.cut.layer.name.lower()
    assert (network.cut.head.weight is not None) == (truth.cut.head.weight is not None) == (name in POOLED)
    agree(network, truth, module, size, ("gradcam", "layercam"))
    repeated = network.predict(images(1, *size))[0].rows([0] * CLASSES)
    assert batched_maps("gradcam", network.cut, repeated, torch.arange(CLASSES)).any()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize(
    "name", ["shufflenet", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("resnet18", "mobilenet_v2"))]
)
def test_a_file_for_one_image_takes_any_number(tmp_path, name, dynamo):
    module, truth, _ = original(name)
    network = imported(exported(tmp_path, module, (64, 64), dynamo, batch=1))
    assert network.opaque == ""
    agree(network, truth, module, (64, 64))


@pytest.mark.filterwarnings("ignore")
def test_a_relu_of_an_onnx_file_is_guided(tmp_path):
    module, truth, _ = original("mobilenet_v2")  # ReLU6, which is a Clip in ONNX
    network = imported(exported(tmp_path, module, (64, 64), dynamo=False))
    gradients = []
    for guided in (network.guided, truth.guided):
        x = images(1, 64, 64).requires_grad_()
        gradients.append(torch.autograd.grad(guided(x)[0, 3], x)[0])
    assert gradients[1].any()
    assert_close(gradients[0], gradients[1], rtol=0, atol=1e-4 * float(gradients[1].abs().max()))


@pytest.mark.parametrize(
    ("folder", "size", "layer"), [("keras", (48, 64), (24, 12, 16)), ("flax_model", (32, 48), (16, 16, 24))]
)
def test_a_model_is_explained_as_the_framework_that_made_it_would(folder, size, layer):
    """Scores by TensorFlow or JAX, Grad-CAM by its own gradients, computed once: README.md or make.py beside them."""
    expected = np.load(Path(__file__).parent / folder / "expected.npz")
    network = imported(Path(__file__).parent / folder, size)
    x = torch.from_numpy(expected["images"]).permute(0, 3, 1, 2)
    frontier, scores = network.predict(x)
    assert_close(scores.numpy(), expected["logits"], rtol=0, atol=1e-5)
    assert network.cut.layer.shape == layer
    for target in range(5):
        maps = batched_maps("gradcam", network.cut, frontier, torch.full((3,), target)).numpy()
        assert_close(maps, expected["gradcam"][:, target], rtol=0, atol=1e-4 * expected["gradcam"].max())


def test_probabilities_of_a_keras_model_are_those_of_its_own_softmax():
    folder = Path(__file__).parent / "keras"
    expected = np.load(folder / "expected.npz")
    network = imported(folder, (48, 64))
    scores = network.scores(torch.from_numpy(expected["images"]).permute(0, 3, 1, 2))
    assert_close(network.probabilities(scores).numpy(), expected["probabilities"], rtol=0, atol=1e-5)
    assert network.cut.head.weight is not None


def test_a_constant_may_count_images_in_any_dimension(tmp_path):
    """As the first state of a recurrent network does, (1, N, K): here 1.5, made for as many images as there are."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["p"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["p", "d"], ["y"]),
        helper.make_node("Shape", ["images"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["n"], axis=0),
        helper.make_node("Concat", ["one", "n", "two"], ["sizes"], axis=0),
        helper.make_node("ConstantOfShape", ["sizes"], ["state"], value=helper.make_tensor("", 1, [1], [1.5])),
        helper.make_node("Unsqueeze", ["y", "zero"], ["row"]),
        helper.make_node("Add", ["row", "state"], ["added"]),
        helper.make_node("Squeeze", ["added", "zero"], ["scores"]),
    ]
    numbers = {"first": [0], "one": [1], "two": [2], "zero": [0]}
    weights = {name: np.int64(value) for name, value in numbers.items()} | {"d": np.float32([[1, 0], [0, 1], [1, 1]])}
    network = imported(written(tmp_path, nodes, weights), (2, 2))
    assert network.opaque == ""
    for count in (1, 3):
        x = torch.arange(12.0).view(1, 3, 2, 2).repeat(count, 1, 1, 1)
        assert network.predict(x)[1].tolist() == [[1.5 + 9.5 + 1.5, 5.5 + 9.5 + 1.5]] * count


def test_numbers_by_hand(tmp_path):
    network = imported(written(tmp_path, BY_HAND, {"w": CONVOLUTION, "d": DENSE}), (2, 2))
    x = torch.tensor([[[1.0, -2], [3, 4]], [[0, 1], [4, 1]], [[2, 1], [1, 0]]])[None]
    # A = red: 1 0 / 3 4, mean 2; 2·blue − green: 4 1 / 0 0 (of 4 1 / −2 −1), mean 5/4. y = (2 − 5/4, 3 · 5/4).
    frontier, scores = network.predict(x)
    assert scores.tolist() == [[0.75, 3.75]]
    assert frontier.features.tolist() == [[[[1, 0], [3, 4]], [[4, 1], [0, 0]]]]
    # dy_0/dA = (1, −1) / 4: (1 − 4)/4 < 0, (0 − 1)/4 < 0, 3/4, 4/4; dy_1/dA = (0, 3) / 4.
    maps = batched_maps("gradcam", network.cut, frontier.rows([0, 0]), torch.tensor([0, 1]))
    assert maps.tolist() == [[[0, 0], [0.75, 1]], [[3, 0.75], [0, 0]]]


@pytest.mark.parametrize(("operator", "activation"), [("Softmax", "softmax"), ("Sigmoid", "sigmoid")])
def test_scores_are_what_the_models_own_activation_is_applied_to(tmp_path, operator, activation):
    nodes = [*BY_HAND[:-1], helper.make_node("Gemm", ["p", "d"], ["y"], transB=1)]
    nodes.append(helper.make_node(operator, ["y"], ["scores"]))
    folder = written(tmp_path, nodes, {"w": CONVOLUTION, "d": DENSE})
    network = imported(folder, (2, 2), activation=activation)
    x = images(2, 2, 2)
    (probabilities,) = InferenceSession(folder / "model.onnx").run(None, {"images": x.numpy()})
    assert_close(network.probabilities(network.scores(x)).numpy(), probabilities)
    assert network.scores(x).min() < 0
    other = {"softmax": "sigmoid", "sigmoid": "softmax"}[activation]
    with pytest.raises(ModelFailed, match=f"ends in {operator}; activation must be {activation}"):
        imported(folder, (2, 2), activation=other)


def quantised(folder, form):
    """A convolutional network by torch, quantised by ONNX Runtime's own tool; its answer to three images."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                           nn.Flatten(), nn.Linear(8, 4))  # fmt: skip
    exported(folder, module.eval(), (16, 16), dynamo=False)
    (folder / "model.onnx").rename(folder / "float.onnx")

    class Images(CalibrationDataReader):
        batches = iter([{"images": images(8, 16, 16).numpy()}])

        def get_next(self):
            return next(self.batches, None)

    quantize_static(folder / "float.onnx", folder / "model.onnx", Images(), quant_format=QuantFormat[form])
    (scores,) = InferenceSession(folder / "model.onnx").run(None, {"images": images(3, 16, 16).numpy()})
    return torch.from_numpy(scores)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_a_quantised_model_predicts_as_onnx_runtime_and_says_why_it_has_no_gradients(tmp_path, form):
    scores = quantised(tmp_path, form)
    network = imported(tmp_path, (16, 16))
    assert_close(network.predict(images(3, 16, 16))[1], scores, rtol=0, atol=1e-3 * float(scores.abs().max()))
    refused = refusals(network)
    assert set(refused) >= {"gradcam", "layercam", "integrated_gradients", "smoothgrad", "guided_backprop"}
    assert not {"occlusion", "rise"} & set(refused)
    assert "gradient" in refused["gradcam"]


TO_NOWHERE = [helper.make_node("Wobble", ["images"], ["scores"], domain="acme")]
POOL = [helper.make_node("GlobalAveragePool", ["images"], ["p"])]
BROKEN = {
    "unknown operator": ({"nodes": TO_NOWHERE, "opsets": (("", 17), ("acme", 1))}, r"acme.*Wobble"),
    "no scores": (
        {"nodes": [helper.make_node("Relu", ["images"], ["scores"])], "answer": ("N", 3, 2, 2)},
        r"no output is a row of scores.*scores \(N, 3, 2, 2\)",
    ),
    "one channel": (
        {"nodes": [*POOL, helper.make_node("Flatten", ["p"], ["scores"])], "shape": ("N", 1, 2, 2), "answer": ("N", 1)},
        r"takes 1 channel, but would be given 3; in model.yaml say input: {channels: gray}",
    ),
    "another size": (
        {"nodes": [*POOL, helper.make_node("Flatten", ["p"], ["scores"])], "shape": ("N", 3, 4, 5), "answer": ("N", 3)},
        "5×4, but preprocess makes 2×2",
    ),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_what_cannot_be_run_fails_by_name(tmp_path, reason):
    made, says = BROKEN[reason]
    with pytest.raises(ModelFailed, match=says) as caught:
        imported(written(tmp_path, weights={}, **made), (2, 2))
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "is an empty file"), (b"not a model", "is text, which begins"), (b"\x08\x08" * 40, "is no")],
)
def test_a_damaged_file_fails(tmp_path, content, says):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelFailed, match=rf"model\.onnx {says}"):
        imported(tmp_path)


def test_an_operator_that_torch_has_no_graph_for_makes_a_black_box(tmp_path, caplog):
    """ONNX Runtime has operators of its own; its scores are served and what else works is said."""
    nodes = [*BY_HAND[:2], helper.make_node("QuickGelu", ["b"], ["q"], domain="com.microsoft", alpha=1.7)]
    nodes += [helper.make_node("ReduceMean", ["q"], ["p"], axes=[2, 3], keepdims=0), BY_HAND[3]]
    opsets = (("", 17), ("com.microsoft", 1))
    network = imported(written(tmp_path, nodes, {"w": CONVOLUTION, "d": DENSE}, opsets=opsets), (2, 2))
    x = images(3, 2, 2)
    (scores,) = InferenceSession(tmp_path / "model.onnx").run(None, {"images": x.numpy()})
    assert_close(network.predict(x)[1].numpy(), scores)
    if network.opaque:
        assert "QuickGelu" in network.opaque
        assert (network.cut.layer.name, network.cut.layer.shape) == ("input", (3, 2, 2))


def external(folder, location):
    """A model that keeps its convolution's weights in another file."""
    written(folder, BY_HAND, {"w": CONVOLUTION, "d": DENSE})
    model = onnx.load(folder / "model.onnx")
    tensor = model.graph.initializer[0]
    (folder / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    onnx.save(model, folder / "model.onnx")
    return folder


def test_tensors_beside_the_file_are_part_of_the_model(tmp_path):
    folder = external(tmp_path, "weights.bin")
    assert imported(folder, (2, 2)).scores(torch.ones(1, 3, 2, 2)).tolist() == [[0, 3]]
    before = build(ModelFolder(spec((2, 2)), folder)).content
    (folder / "weights.bin").write_bytes((2 * CONVOLUTION).tobytes())
    assert build(ModelFolder(spec((2, 2)), folder)).content != before
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    with pytest.raises(ModelFailed, match="sha256 does not cover"):
        imported(folder, (2, 2), sha256=digest)


def test_a_digest_does_not_cover_what_a_constant_keeps_in_another_file(tmp_path):
    folder = external(tmp_path, "weights.bin")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    weights = model.graph.initializer.pop(0)
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [weights.name], value=weights))
    onnx.save(model, folder / "model.onnx")
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    with pytest.raises(ModelFailed, match="sha256 does not cover"):
        imported(folder, (2, 2), sha256=digest)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "nowhere.bin"])
def test_files_elsewhere_are_never_read(tmp_path, location):
    (tmp_path / "models").mkdir()
    (tmp_path / "weights.bin").write_bytes(CONVOLUTION.tobytes())
    with pytest.raises(ModelFailed, match=r"model\.onnx is no valid ONNX model"):
        imported(external(tmp_path / "models", location), (2, 2))


def test_a_link_to_a_file_elsewhere_is_never_read(tmp_path):
    (tmp_path / "models").mkdir()
    folder = external(tmp_path / "models", "weights.bin")
    (folder / "weights.bin").rename(tmp_path / "secret.bin")
    (folder / "weights.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelFailed, match=r"model\.onnx is no valid ONNX model"):
        imported(folder, (2, 2))


def test_a_digest_is_checked_before_the_file_is_read(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelFailed, match="SHA-256"):
        imported(tmp_path, sha256="0" * 64)
