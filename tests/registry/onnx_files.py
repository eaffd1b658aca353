"""ONNX files made by hand, and the networks that they become."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from gradcam_service.explain.network import Network
from gradcam_service.registry.built import build
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.spec import Preprocess, Spec


def spec(size=(64, 64), **given):
    return Spec(source="onnx", weights="model.onnx", preprocess=Preprocess((0, 0, 0), (1, 1, 1), resize=size), **given)


def imported(folder, size=(64, 64), **given):
    activation = given.get("activation", "softmax")
    return Network(build(ModelFolder(spec(size, **given), folder)).module, (3, *size), activation=activation)


def images(count, *size):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def written(folder, nodes, weights, shape=("N", 3, 2, 2), answer=("N", 2), opsets=(("", 17),)):
    """A model file of these nodes, from ``images`` to ``scores``."""
    graph = helper.make_graph(
        nodes,
        "by hand",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, answer)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*opset) for opset in opsets], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return folder


CONVOLUTION = np.float32([[[[1]], [[0]], [[0]]], [[[0]], [[-1]], [[2]]]])  # red; twice the blue without the green
DENSE = np.float32([[1, -1], [0, 3]])
BY_HAND = [
    helper.make_node("Conv", ["images", "w"], ["a"]),
    helper.make_node("Relu", ["a"], ["b"]),
    helper.make_node("ReduceMean", ["b"], ["p"], axes=[2, 3], keepdims=0),
    helper.make_node("Gemm", ["p", "d"], ["scores"], transB=1),
]
