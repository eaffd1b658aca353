"""One network in the forms in which people export it: each predicts and explains as the same numbers by hand."""

import numpy as np
import onnx
import pytest
import torch
from methods.networks import batched_maps
from onnx import TensorProto, helper, numpy_helper
from registry.onnx_files import CONVOLUTION, DENSE
from torch.testing import assert_close

from gradcam_service.errors import ModelFailed
from gradcam_service.registry import onnx_session
from gradcam_service.registry.loader import load
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry
from gradcam_service.runtime.onnxruntime import open_session

FLOAT, HALF, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT64
UINT8, UINT16 = TensorProto.UINT8, TensorProto.UINT16
MEAN, STD = np.float32([0.5, 0.4, 0.3]), np.float32([0.25, 0.2, 0.3])
YAML = "source: onnx\nweights: model.onnx\npreprocess: {resize: [2, 2], mean: [0.5, 0.4, 0.3], std: [0.25, 0.2, 0.3]}\n"
ROW = {"scores": (FLOAT, ("N", 2))}


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def network(images="images", scores="scores", **_):
    """The network of the other tests by hand, from and to tensors of these names; what `by_hand` computes."""
    return [
        node("Conv", f"{images} w", "a"),
        node("Relu", "a", "b"),
        node("ReduceMean", "b", "p", axes=[2, 3], keepdims=0),
        node("Gemm", "p d", scores, transB=1),
    ]


def by_hand(x):
    """Scores (N, 2) of images (N, 3, 2, 2) float64, and Grad-CAM (classes, N, 2, 2)."""
    features = np.maximum(np.einsum("kc,nchw->nkhw", CONVOLUTION[:, :, 0, 0], x), 0)
    maps = np.maximum(np.einsum("ck,nkhw->cnhw", DENSE / 4, features), 0)
    return features.mean((2, 3)) @ DENSE.T, maps


def saved(folder, nodes, outputs=ROW, dtype=FLOAT, shape=("N", 3, 2, 2), weights=None, half=False, metadata=None):
    """Write ``model.onnx``: outputs by name are their types and shapes."""
    tensors = {"w": CONVOLUTION, "d": DENSE} | (weights or {})
    own = {HALF: np.float16, DOUBLE: np.float64}.get(HALF if half else dtype, np.float32)
    tensors = {name: np.asarray(v, own if np.asarray(v).dtype.kind == "f" else None) for name, v in tensors.items()}
    graph = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info("images", dtype, shape)],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, folder / "model.onnx")


def loaded(folder, yaml=YAML):
    (folder / "model.yaml").write_text(yaml)
    return load(Entry("mine", "1", LocalPlace(folder)), torch.device("cpu"))


def normalised(full):
    """Nodes of a network that brings pixels from 0 to ``full`` into its own range, and their weights."""
    nodes = [
        node("Cast", "pixels", "float", to=FLOAT),
        node("Div", "float full", "unit"),
        node("Sub", "unit mean", "c"),
    ]
    planes = {"mean": MEAN[:, None, None], "std": STD[:, None, None], "full": np.float32(full)}
    return [*nodes, node("Div", "c std", "x"), *network("x")], planes


NHWC = [node("Transpose", "images", "pixels", perm=[0, 3, 1, 2])]
EIGHT, WEIGHTS_8 = normalised(255)
SIXTEEN, WEIGHTS_16 = normalised(65535)
ENDS = {
    "softmax, clip and reshape": [
        node("Softmax", "y", "s", axis=1),
        node("Clip", "s low high", "clipped"),
        node("Reshape", "clipped shape", "scores"),
    ],
    "log-softmax": [node("LogSoftmax", "y", "scores", axis=1)],
    "softmax of the last dimension": [node("Softmax", "y", "scores")],
    "softmax written out": [
        node("ReduceMax", "y", "largest", axes=[1], keepdims=1),
        node("Sub", "y largest", "shifted"),
        node("Exp", "shifted", "powers"),
        node("ReduceSum", "powers one", "total", keepdims=1),
        node("Div", "powers total", "scores"),
    ],
    "reshapes that lead back": [node("Unsqueeze", "y two", "u"), node("Reshape", "u shape", "scores")],
}
END = {
    "low": np.float32(1e-6),
    "high": np.float32(0.6),
    "shape": np.int64([-1, 2]),
    "two": np.int64([2]),
    "one": np.int64([1]),
}
FORMS = {
    "half": {"nodes": network(), "dtype": HALF, "outputs": {"scores": (HALF, ("N", 2))}},
    "double": {"nodes": network(), "dtype": DOUBLE, "outputs": {"scores": (DOUBLE, ("N", 2))}},
    "half inside": {
        "nodes": [node("Cast", "images", "h", to=HALF), *network("h", "y"), node("Cast", "y", "scores", to=FLOAT)],
        "half": True,
    },
    "uint8": {"nodes": [node("Identity", "images", "pixels"), *EIGHT], "dtype": UINT8, "weights": WEIGHTS_8},
    "uint8, channels last": {
        "nodes": [*NHWC, *EIGHT],
        "dtype": UINT8,
        "shape": ("N", 2, 2, 3),
        "weights": WEIGHTS_8,
    },
    "uint16": {"nodes": [node("Identity", "images", "pixels"), *SIXTEEN], "dtype": UINT16, "weights": WEIGHTS_16},
    "scores of four dimensions": {
        "nodes": [*network(scores="y"), node("Reshape", "y shape", "scores")],
        "weights": {"shape": np.int64([-1, 2, 1, 1])},
        "outputs": {"scores": (FLOAT, ("N", 2, 1, 1))},
    },
    "scores of a shape that is not said": {"nodes": network(), "outputs": {"scores": (FLOAT, None)}},
    "several scores of shapes that are not said": {
        "nodes": network(),
        "outputs": {"b": (FLOAT, None), "scores": (FLOAT, None)},
    },
    "an index of the winner, first": {
        "nodes": [*network(), node("ArgMax", "scores", "winner", axis=1, keepdims=0)],
        "outputs": {"winner": (INT64, ("N",)), **ROW},
    },
} | {name: {"nodes": [*network(scores="y"), *end], "weights": END} for name, end in ENDS.items()}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_predicts_and_explains_as_the_network_by_hand(tmp_path, form):
    saved(tmp_path, **FORMS[form])
    model = loaded(tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (3, 2, 2, 3), np.uint8)
    expected, maps = by_hand(((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2))
    assert model.network.opaque == ""
    assert {"gradcam", "cam"} <= set(model.card.method_names())
    for count in (1, 3):
        frontier, scores = model.network.predict(model.images(list(pixels[:count])))
        assert_close(scores.numpy(), np.float32(expected[:count]), rtol=0, atol=1e-4)
        for target in (0, 1):
            found = batched_maps("gradcam", model.network.cut, frontier, torch.full((count,), target))
            assert_close(found.numpy(), np.float32(maps[target, :count]), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("shape", "perm"), [(("N", 1, 4, 4), None), (("N", 4, 4, 1), [0, 3, 1, 2])])
def test_a_model_of_one_channel_takes_gray_pictures_and_says_so_where_it_would_get_others(tmp_path, shape, perm):
    head = [node("Transpose", "images", "x", perm=perm)] if perm else [node("Identity", "images", "x")]
    saved(tmp_path, [*head, *network("x")], shape=shape, weights={"w": np.float32([[[[1]]], [[[-2]]]])})
    colours = YAML.replace("[2, 2]", "[4, 4]")
    with pytest.raises(ModelFailed, match=r"takes 1 channel, but would be given 3;.* input: {channels: gray}"):
        loaded(tmp_path, colours)
    gray = "source: onnx\nweights: model.onnx\ninput: {channels: gray}\n"
    gray += "preprocess: {resize: [4, 4], mean: [0], std: [1]}\n"
    shades = np.random.default_rng(2).integers(0, 256, (4, 4, 1), np.uint8)
    model = loaded(tmp_path, gray)
    mean = shades.mean() / 255  # no shade is negative, so that the other feature map is empty
    assert_close(model.network.scores(model.images([shades])).numpy(), np.float32([[mean, 0]]), rtol=0, atol=1e-6)
    with pytest.raises(ModelFailed, match="mean and std have 1 values, but the input 2 channels"):
        loaded(tmp_path, gray.replace("gray", "2"))


def test_labels_are_the_names_in_the_file_where_model_yaml_names_none(tmp_path):
    """As YOLO's exporter writes them: a dictionary of Python as text."""
    saved(tmp_path, network(), metadata={"names": "{1: 'dog', 0: 'cat'}", "task": "classify"})
    assert loaded(tmp_path).card.labels == ["cat", "dog"]
    (tmp_path / "labels.txt").write_text("Katze\nHund\n")
    assert loaded(tmp_path, YAML + "labels: labels.txt\n").card.labels == ["Katze", "Hund"]
    saved(tmp_path, network(), metadata={"names": "['cat', 'dog']"})
    assert loaded(tmp_path).card.labels == ["cat", "dog"]


@pytest.mark.parametrize(
    "names", ["__import__('os').abort()", "{0: 'a'}", "{0: 'a', 2: 'b'}", "{'a': 0}", "7", "(" * 5000]
)
def test_names_that_name_no_classes_are_left_out(tmp_path, names, caplog):
    saved(tmp_path, network(), metadata={"names": names})
    assert loaded(tmp_path).card.labels == ["0", "1"]
    assert "names in the ONNX file's metadata" in caplog.text


HEADS = {"p": (FLOAT, ("N", 2)), "a": (FLOAT, ("N", 2, 2, 2)), "scores": (FLOAT, ("N", 2))}


def test_of_several_outputs_model_yaml_says_which(tmp_path):
    saved(tmp_path, network(), outputs=HEADS)
    with pytest.raises(ModelFailed, match=r"2 outputs could be scores: p \(N, 2\), scores \(N, 2\); .* output: scores"):
        loaded(tmp_path)
    with pytest.raises(ModelFailed, match=r"no 'logits'; it has p \(N, 2\), a \(N, 2, 2, 2\), scores \(N, 2\)"):
        loaded(tmp_path, YAML + "output: logits\n")
    with pytest.raises(ModelFailed, match=r"no output is a row of scores .* there are a \(N, 2, 2, 2\)"):
        loaded(tmp_path, YAML + "output: a\n")
    x = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(3))
    scores = np.float32(by_hand(x.double().numpy())[0])
    chosen, pooled = loaded(tmp_path, YAML + "output: scores\n"), loaded(tmp_path, YAML + "output: p\n")
    assert_close(chosen.network.scores(x).numpy(), scores, rtol=0, atol=1e-5)
    assert_close(pooled.network.scores(x).numpy() @ DENSE.T, scores, rtol=0, atol=1e-5)
    assert chosen.card.digest != pooled.card.digest


def saved_black_box(folder):
    """A network with an operator that torch has no graph for, and a softmax at its end."""
    nodes = [*network(scores="y")[:1], helper.make_node("QuickGelu", ["a"], ["b"], domain="com.microsoft", alpha=1.7)]
    nodes += [*network(scores="y")[2:], *ENDS["softmax, clip and reshape"]]
    saved(folder, nodes, weights=END)
    model = onnx.load(folder / "model.onnx")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, folder / "model.onnx")


def test_a_black_box_loses_its_softmax_too(tmp_path):
    """What torch has no graph for would otherwise have its probabilities taken for scores."""
    saved_black_box(tmp_path)
    network_ = loaded(tmp_path).network
    scores = network_.scores(torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(4)))
    assert scores.min() < 0


def test_a_black_box_answers_on_all_threads_though_half_of_them_loaded_it(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(onnx_session, "open_session", lambda model: opened.append(open_session(model)) or opened[-1])
    saved_black_box(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        model = loaded(tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert model.network.opaque
    assert [session.get_session_options().intra_op_num_threads for session in opened] == [4]


@pytest.mark.parametrize("ending", ["Softmax", "LogSoftmax"])
def test_a_softmax_over_the_images_is_no_ending_but_refused(tmp_path, ending):
    saved(tmp_path, [*network(scores="y"), node(ending, "y", "scores", axis=0)])
    with pytest.raises(ModelFailed, match="mixes the pictures of a batch"):
        loaded(tmp_path)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_program_says_how_many_channels_it_takes(tmp_path, channels):
    module = torch.nn.Sequential(
        torch.nn.Conv2d(channels, 2, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    ).eval()
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(module, (torch.zeros(2, channels, 4, 4),), dynamic_shapes=dynamic)
    torch.export.save(program, tmp_path / "m.pt2")
    given = "source: pt2\nweights: m.pt2\npreprocess: {{resize: [4, 4], mean: {0}, std: {0}}}\n"
    with pytest.raises(ModelFailed, match=rf"takes {channels} channels?, but would be given 3"):
        loaded(tmp_path, given.format([1, 1, 1]))
    said = given.format([1] * channels) + f"input: {{channels: {channels}}}\n"
    assert loaded(tmp_path, said).card.input.count == channels
