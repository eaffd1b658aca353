"""Makes an exported graph functional by renaming its operators, where that is all that tracing it again would do."""

from __future__ import annotations

import operator

import torch
from torch import fx

from gradcam_service.explain.graph import operator_name

aten = torch.ops.aten

_KEPT = frozenset({
    "adaptive_avg_pool2d", "add", "amax", "avg_pool2d", "cat", "celu", "clamp", "clamp_min", "conv2d", "div", "elu",
    "exp", "flip", "gelu", "hardsigmoid", "hardswish", "hardtanh", "layer_norm", "leaky_relu", "linear", "log",
    "log_softmax", "max_pool2d", "mean", "mish", "mul", "neg", "pad", "pow", "prelu", "relu", "relu6", "rsub", "selu",
    "sigmoid", "silu", "softmax", "softplus", "sub", "sum", "tanh",
})  # fmt: skip
"""Operators that torch's decompositions leave as they are. None answers with a view of what it takes."""
_VIEWS = frozenset({"permute", "select", "slice", "squeeze", "transpose", "unsqueeze"})
"""Likewise, but the answer is a view."""


def is_made_of_usual_operators(graph: fx.Graph) -> bool:
    """Whether `make_functional` makes of an exported graph what `ExportedProgram.run_decompositions` would.

    So it is for most convolutional networks. It takes a moment; to trace them again takes longer than to export them.
    """
    return all(_is_usual(node) for node in graph.nodes if node.op == "call_function")


def make_functional(graph: fx.Graph) -> None:
    """Have no operator of such a graph write into what it takes, nor do what training alone needs."""
    position = {node: place for place, node in enumerate(graph.nodes)}
    for node in list(position):
        if node.op != "call_function":
            continue
        if node.target == aten.dropout.default:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.target == aten.batch_norm.default:
            position[_normalise(graph, node)] = position[node]
        elif (target := _without_writing(node)) is not None:
            written = node.args[0]
            for user in [user for user in written.users if position[user] > position[node]]:
                user.replace_input_with(written, node)
            node.target = target
            node._rename(operator_name(node))


def _is_usual(node: fx.Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "aten":
        return False
    if node.target == aten.dropout.default:
        return node.args[2] is False
    if node.target == aten.batch_norm.default:
        return node.args[5] is False
    if node.target == aten.flatten.using_ints:
        return bool(node.meta["val"].dim() == 2)  # rows, which are no layer
    if operator_name(node) in _KEPT | _VIEWS:
        return not bool(node.target._schema.is_mutable)
    return _without_writing(node) is not None and _writes_over_nothing_else(node)


def _without_writing(node: fx.Node) -> torch._ops.OpOverload | None:
    """``aten.add.Tensor`` for ``aten.add_.Tensor``; None for an operator that isn't one of these."""
    name, _, overload = str(node.target).removeprefix("aten.").partition(".")
    if not name.endswith("_") or (name := name.removesuffix("_")) not in _KEPT:
        return None
    return getattr(getattr(aten, name), overload, None)


def _writes_over_nothing_else(node: fx.Node) -> bool:
    """Whether an operator writes into a value of its own, float32 as all that it takes, that nothing is a view of."""
    written = node.args[0]
    if not isinstance(written, fx.Node) or operator_name(written).removesuffix("_") not in _KEPT | {"batch_norm"}:
        return False
    types = {getattr(value.meta["val"], "dtype", None) for value in node.all_input_nodes}
    views = _VIEWS | {"flatten", "dropout"}
    return types == {torch.float32} and not any(operator_name(user) in views for user in written.users)


def _normalise(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """Write a normalisation as torch's decompositions do, as the first of three results of another operator."""
    values, weight, bias, mean, variance, _, momentum, epsilon, *_ = node.args
    arguments = (values, weight, bias, mean, variance, momentum, epsilon)
    with graph.inserting_before(node):
        results = graph.call_function(aten._native_batch_norm_legit_no_training.default, arguments)
    results.meta = {**node.meta, "val": (node.meta["val"], None, None)}
    node.target, node.args = operator.getitem, (results, 0)
    return results
