"""Converts an ONNX model to a flat graph of torch operators, differentiable, ready to be cut, for any number of images.

onnx2fx knows the operators; it calls a Python function for each, which computes
shapes from tensors at run time. Here these functions run once, on tensors without data: what they do to the image's
values is recorded, and what they compute from shapes alone becomes a number, as ``torch.export`` would have it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import onnx
import onnx2fx
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_aggregate
from torch.fx.traceback import preserve_node_meta
from torch.utils._python_dispatch import _disable_current_modes

from gradcam_service.errors import unwrapped
from gradcam_service.explain.graph import TRACING, call_inputs, flat, image_node
from gradcam_service.registry import onnx_operators  # noqa: F401  # registers them
from gradcam_service.registry.onnx_input import Takes

BATCH = 1009
"""How many images the graph is recorded for: a prime that no model has for anything else, so that every multiple of it
in the graph is known to count images."""


class CannotConvert(Exception):
    """The model has no equivalent graph of torch operators; the message says why."""


def converted(model: onnx.ModelProto, inputs: Mapping[str, Tensor], takes: Takes) -> fx.GraphModule:
    """Convert the model to a flat graph from images (N, C, H, W) float32 to scores (N, classes), for every N.

    Of a model that takes tokens (N, T) beside them, also to scores (N, T, words).

    Args:
        model: checked, with one output.
        inputs: what it is recorded for, by the names that the graph's inputs get, images first; a row each.
        takes: its inputs. Where images are of integers, the graph computes with the same numbers, unrounded.

    Raises:
        CannotConvert: naming the operator that can't be converted, where it is one.
    """
    try:
        scopes = _scopes(model)
        recorder = _Recorder(onnx2fx.convert(model), scopes, takes.images.batch)

        def network(images: Tensor, *others: Tensor) -> Tensor:
            scores: Tensor = recorder.run(*takes.given(images, *others))
            of_words = scores.dim() == 3 and [scores.shape[1:2]] == [other.shape[1:] for other in others]
            return scores if scores.dim() == 2 or of_words else scores.reshape(len(images), -1)

        with TRACING, preserve_node_meta():
            record = make_fx(network, tracing_mode="fake", _allow_non_fake_inputs=True, pre_dispatch=True)
            graph_module = record(*(row.expand(BATCH, *row.shape[1:]) for row in inputs.values()))
        call_inputs(graph_module.graph, inputs)
        _drop_void_casts(graph_module.graph)
        _for_any_batch(graph_module)
    except onnx2fx.UnsupportedOpError as error:
        domain = f" of {error.domain}" if error.domain else ""
        raise CannotConvert(f"the operator {error.op_type}{domain} is unknown to onnx2fx") from error
    except Exception as error:  # onnx2fx's functions raise whatever torch does
        raise CannotConvert(unwrapped(error)[:300]) from error
    return flat(graph_module)


class _Recorder(fx.Interpreter):
    """Runs onnx2fx's functions; those that don't depend on the image's values, out of the recorder's sight."""

    def __init__(self, calls: fx.GraphModule, scopes: dict[str, list[str]], batch: int | None) -> None:
        super().__init__(calls)
        self._batch = batch
        self._recorded: set[fx.Node] = set()
        for node in calls.graph.nodes:
            shape_only = node.meta.get("onnx_op_type") in ("Shape", "Size")
            if node.op in ("placeholder", "output") or (
                not shape_only and self._recorded.intersection(node.all_input_nodes)
            ):
                self._recorded.add(node)
            paths = scopes.get(str(node.meta.get("onnx_name")), [])
            node.meta["nn_module_stack"] = {path: (path, "onnx") for path in paths}

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401
        if n in self._recorded:
            return super().run_node(n)
        with _disable_current_modes():
            return super().run_node(n)

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[Any, Any]:
        """The operator's inputs; where the model fixes its batch, with room for any."""
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        kind = n.meta.get("onnx_op_type")
        if self._batch is None or n not in self._recorded:
            return args, kwargs
        with _disable_current_modes():
            if kind == "Reshape":
                values, shape, *rest = args
                axis = [*values.shape].index(BATCH) if BATCH in values.shape else 0  # a later one in an RNN
                if values.shape[axis] == BATCH and shape.tolist()[axis : axis + 1] == [self._batch]:
                    lengths = shape.tolist()
                    args = (values, torch.tensor([*lengths[:axis], BATCH, *lengths[axis + 1 :]]), *rest)
            elif kind == "Concat" and kwargs["dim"] != 0:
                rows = max(len(values) for values in args[0])
                args = ([v.expand(rows, *v.shape[1:]) if len(v) == 1 else v for v in args[0]],)
        return args, kwargs


def _scopes(model: onnx.ModelProto) -> dict[str, list[str]]:
    """For every operator of the model, the paths of the modules around it, outermost first; names the nameless."""
    scopes: dict[str, list[str]] = {}
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{i}"
        by_torch = [entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"]
        # Such as ['', 'layer4', 'layer4.1', 'layer4.1.relu', 'relu_16']: the root first, the operator last.
        scopes[node.name] = list(ast.literal_eval(by_torch[0]))[1:-1] if by_torch else _paths(node.name)
    return scopes


def _paths(name: str) -> list[str]:
    """``/layer4/layer4.1/conv1/Conv`` → ``layer4``, ``layer4.1``, ``layer4.1.conv1``; a plain name is its own path."""
    parts = name.strip("/").split("/")
    paths: list[str] = []
    local = ""
    for part in parts[:-1] or parts:
        outer = paths[-1] if paths else ""
        if local and part.startswith(f"{local}."):  # an element of a sequence is called by its whole name
            outer = outer.removesuffix(local).removesuffix(".")
        paths.append(f"{outer}.{part}" if outer else part)
        local = part
    return paths


def _drop_void_casts(graph: fx.Graph) -> None:
    """Drop casts to the type that there is already, which would hide a linear head."""
    for cast in graph.find_nodes(op="call_function", target=torch.ops.aten.to.dtype):
        (source,) = cast.all_input_nodes
        if source.meta["val"].dtype == cast.meta["val"].dtype:
            cast.replace_all_uses_with(source)


def _for_any_batch(graph_module: fx.GraphModule) -> None:
    """Put the number of images that arrive in the place of the number that the graph was recorded for."""
    graph = graph_module.graph
    image = image_node(graph)
    nodes = list(graph.nodes)
    counts: dict[int, fx.Node] = {}
    with graph.inserting_after(image):
        counts[1] = graph.call_function(torch.ops.aten.sym_size.int, (image, 0))
        counts[1].meta["val"] = BATCH

    def counted(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not int or value == 0 or value % BATCH:
            return value
        times = value // BATCH
        if times not in counts:
            with graph.inserting_after(counts[1]):
                counts[times] = graph.call_function(torch.ops.aten.mul.int, (counts[1], times))
                counts[times].meta["val"] = value
        return counts[times]

    for node in nodes:
        if node.op == "get_attr":
            _repeat_row(graph_module, node, counts[1])
        elif node is not image:
            node.args, node.kwargs = map_aggregate(node.args, counted), map_aggregate(node.kwargs, counted)


def _repeat_row(graph_module: fx.GraphModule, node: fx.Node, count: fx.Node) -> None:
    """Make a constant that has a row for every image anew for the images that arrive.

    Either all its rows are the same (a class token), or it numbers its elements: so torch's exporter writes that a
    tensor lies in memory otherwise.
    """
    rows: Tensor = getattr(graph_module, str(node.target))
    if BATCH not in rows.shape:
        return
    graph, aten, row = graph_module.graph, torch.ops.aten, tuple(rows.shape[1:])
    axis = rows.shape.index(BATCH)  # not the first of a recurrent network's state
    one = rows.narrow(axis, 0, 1)
    with graph.inserting_before(node.next):
        if rows.shape.count(BATCH) == 1 and torch.equal(rows, one.expand_as(rows)):
            setattr(graph_module, str(node.target), one.clone())
            shape = [count if i == axis else length for i, length in enumerate(rows.shape)]
            repeated = graph.call_function(aten.expand.default, (node, shape))
            own = {repeated}
        elif rows.shape[0] == BATCH and torch.equal(rows, torch.arange(rows.numel()).view_as(rows)):
            setattr(graph_module, str(node.target), torch.arange(rows[0].numel()).view(1, *row))
            first = graph.call_function(aten.expand.default, (node, [count, *row]))
            repeated = _numbered(graph, first, rows[0].numel())
            own = {first}
        else:
            raise CannotConvert("it treats the images of a batch differently")
    repeated.meta["val"] = node.meta.get("val")
    node.replace_all_uses_with(repeated, delete_user_cb=lambda user: user not in own)


def _numbered(graph: fx.Graph, first: fx.Node, elements: int) -> fx.Node:
    """``first``, whose rows are all the first row, with i times its number of elements added to row i."""
    aten = torch.ops.aten
    ordinal = graph.call_function(aten.cumsum.default, (graph.call_function(aten.ones_like.default, (first,)), 0))
    before = graph.call_function(aten.mul.Tensor, (graph.call_function(aten.sub.Tensor, (ordinal, 1)), elements))
    return graph.call_function(aten.add.Tensor, (first, before))
