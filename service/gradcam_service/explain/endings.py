"""Endings of networks, read right: scores are in logit units, and a row for each image."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from gradcam_service.errors import UnsupportedMethod
from gradcam_service.explain.activation import UNCHANGED, Activation
from gradcam_service.explain.graph import VALUES, flat, is_reshaped, operator_name, scores_node, shape_of
from gradcam_service.explain.outputs import is_a_row

aten = torch.ops.aten

_ACTIVATIONS = {
    "softmax": "softmax",
    "_softmax": "softmax",
    "log_softmax": "softmax",
    "_log_softmax": "softmax",
    "sigmoid": "sigmoid",
    "sigmoid_": "sigmoid",
    "log_sigmoid": "sigmoid",
}
_ROUNDS_OFF = ("_to_copy", "to", "clamp", "clamp_min", "clamp_max", "clip", "log", "exp")
_AFFINE = {"add": -torch.inf, "sub": -torch.inf, "mul": 0.0, "div": 0.0}
"""Operators that with one number leave the order of scores, where the number is above this."""


def scores_of(graph_module: fx.GraphModule, activation: Activation) -> fx.GraphModule:
    """The graph of the scores that ``activation`` makes probabilities of, (N, classes) where they are a row.

    A single logit of a sigmoid is both sides of a question, −y for no and y for yes. Scores (N, T, words) of what
    may follow each of T tokens are a row of T · words; see `positions_of`.

    Raises:
        UnsupportedMethod: it ends in another activation.
    """
    return _both_sides(_as_rows(_in_a_row(logits_of(graph_module, activation))), activation)


def logits_of(graph_module: fx.GraphModule, activation: Activation) -> fx.GraphModule:
    """The graph without the softmax, log-softmax or sigmoid that it ends in, if it does: scores are in logit units.

    Casts, reshapes, clamps, logarithms and one number added or multiplied may follow it; of these only reshapes to
    another shape stay.

    Raises:
        UnsupportedMethod: what it ends in is not ``activation``.
    """
    node = scores_node(graph_module.graph)
    after = []
    while (source := _what_is_passed_on(graph_module, node)) is not None:
        after.append((node, source))
        node = source
    written_out = _softmax_written_out(node)
    ending = "softmax" if written_out else _ACTIVATIONS.get(operator_name(node), "")
    if not ending or activation in UNCHANGED or _is_of_the_batch(node):
        return graph_module
    if ending != activation:
        raise UnsupportedMethod(
            f"the network ends in a {ending}, but its activation is said to be {activation}; "
            f"say activation: {ending}, or activation: none for scores as they are"
        )
    for dropped, source in (*after, (node, written_out or node.all_input_nodes[0])):
        if not is_reshaped(dropped) or shape_of(dropped) == shape_of(source):
            dropped.replace_all_uses_with(source)
    return flat(graph_module)


def positions_of(graph_module: fx.GraphModule) -> int:
    """After how many tokens each it scores the words that may follow, one after the other in its scores; 1 mostly."""
    return int(graph_module.meta.get("positions", 1))


def values_of(graph_module: fx.GraphModule) -> int:
    """How many of its scores, the last, are values beside those of classes."""
    return int(graph_module.meta.get(VALUES, 0))


def has_both_sides(graph_module: fx.GraphModule) -> bool:
    """Whether its scores are −y and y of the one logit that the network has."""
    return bool(graph_module.meta.get("both_sides"))


def _what_is_passed_on(graph_module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The value that a node reshapes, rounds off, scales or shifts as a whole; None where it does something else."""
    name = _called(node).removesuffix("_")
    if is_reshaped(node) or operator_name(node) in _ROUNDS_OFF or name in _ROUNDS_OFF:
        return node.all_input_nodes[0]
    if name not in _AFFINE or len(node.args) != len(("value", "number")) or node.kwargs:
        return None
    first, second = (_number(graph_module, value) for value in node.args)
    if second is None and name in ("add", "mul"):
        first, second, source = second, first, node.args[1]
    else:
        source = node.args[0]
    passes = first is None and second is not None and second > _AFFINE[name]
    return source if passes and isinstance(source, fx.Node) else None


def _number(graph_module: fx.GraphModule, value: object) -> float | None:
    """The one number that an argument is, as it is written or kept in the graph's module."""
    while isinstance(value, fx.Node) and operator_name(value) in ("clone", "lift_fresh_copy", "detach"):
        value = value.all_input_nodes[0]
    if isinstance(value, fx.Node) and value.op == "get_attr":
        value = operator.attrgetter(str(value.target))(graph_module)
        value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else None
    return float(value) if isinstance(value, int | float) else None


def _called(node: fx.Node) -> str:
    """The name of the operator that a node calls; empty of a tensor that is kept or given, whatever its name."""
    return operator_name(node) if node.op == "call_function" else ""


def _softmax_written_out(node: fx.Node) -> fx.Node | None:
    """The logits z of exp(z) / Σ exp(z), as older exporters write softmax, also of exp(z − max z); else None."""
    if _called(node) != "div" or [_called(value) for value in node.all_input_nodes] != ["exp", "sum"]:
        return None
    exponential, total = node.all_input_nodes
    (logits,), (summed,) = exponential.all_input_nodes, total.all_input_nodes
    if _called(summed) != "exp" or summed.all_input_nodes != [logits] or not _is_sum_over_classes(total):
        return None
    return _unshifted(logits, shape_of(total))


def _is_sum_over_classes(total: fx.Node) -> bool:
    """Whether a sum is over one dimension, which it keeps, and that is not the images'."""
    (values,), dimensions = total.all_input_nodes, (*total.args[1:], None)[0]
    shape, before = shape_of(total), shape_of(values)
    if shape is None or before is None or len(shape) != len(before) or not isinstance(dimensions, list | tuple):
        return False
    return len(dimensions) == 1 and isinstance(dimensions[0], int) and dimensions[0] % (len(before) + 1) != 0


def _unshifted(logits: fx.Node, kept: tuple[int, ...] | None) -> fx.Node:
    """The z of z − max z, which has the same softmax, where the maximum is of the shape ``kept`` or one number."""
    if _called(logits) != "sub" or len(logits.all_input_nodes) != len(("z", "max")) or logits.kwargs:
        return logits
    source, largest = logits.all_input_nodes
    maximum = largest.all_input_nodes[0] if _called(largest) == "getitem" and largest.args[1] == 0 else largest
    is_shift = _called(maximum) in ("amax", "max") and maximum.all_input_nodes == [source]
    return source if is_shift and shape_of(largest) in ((), kept) else logits


def _is_of_the_batch(node: fx.Node) -> bool:
    """Whether a softmax is over the images, not over the classes: somebody's mistake, but not this ending."""
    dimension, shape = (node.args[1] if len(node.args) > 1 else None), shape_of(node)
    return "softmax" in operator_name(node) and isinstance(dimension, int) and dimension % (len(shape or ()) + 1) == 0


def _as_rows(graph_module: fx.GraphModule) -> fx.GraphModule:
    """The graph whose scores (N,) or (N, C, 1, 1) are (N, C); others stay as they are."""
    scores = scores_node(graph_module.graph)
    shape = shape_of(scores)
    if shape is None or len(shape) == 1 or not is_a_row((0, *shape)):
        return graph_module
    return _followed_by(graph_module, aten.flatten.using_ints if shape else aten.unsqueeze.default, 1)


def _in_a_row(graph_module: fx.GraphModule) -> fx.GraphModule:
    """The graph whose scores (N, T, words) after each of an input's T tokens are (N, T · words)."""
    _, *others = graph_module.graph.find_nodes(op="placeholder")
    shape = shape_of(scores_node(graph_module.graph))
    if shape is None or len(shape) != len(("T", "words")) or shape[:1] not in [shape_of(other) for other in others]:
        return graph_module
    made = _followed_by(graph_module, aten.flatten.using_ints, 1)
    made.meta["positions"] = shape[0]
    return made


def _both_sides(graph_module: fx.GraphModule, activation: Activation) -> fx.GraphModule:
    if activation != "sigmoid" or shape_of(scores_node(graph_module.graph)) != (1,):
        return graph_module
    graph_module.register_buffer("sides", torch.tensor([[-1.0], [1.0]]))
    graph_module.meta["both_sides"] = True
    with graph_module.graph.inserting_before(scores_node(graph_module.graph)):
        sides = graph_module.graph.get_attr("sides")
    sides.meta["val"] = graph_module.sides.to("meta")
    return _followed_by(graph_module, aten.linear.default, sides)


def _followed_by(graph_module: fx.GraphModule, function: Callable[..., Tensor], argument: Any) -> fx.GraphModule:  # noqa: ANN401  a node or a number
    """The graph whose result is a function of the scores and one thing more."""
    graph = graph_module.graph
    scores, (output,) = scores_node(graph), graph.find_nodes(op="output")
    with graph.inserting_before(output):
        result = graph.call_function(function, (scores, argument))
    other = argument.meta["val"] if isinstance(argument, fx.Node) else argument
    result.meta["val"] = function(scores.meta["val"], other)
    output.replace_input_with(scores, result)
    return flat(graph_module)
