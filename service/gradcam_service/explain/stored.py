"""A traced network as bytes: its graph as JSON, its tensors as safetensors. Reading either runs no code of theirs."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, fx
from torch._ops import OpOverload

from gradcam_service.explain.graph import flat, is_flat

_NAMESPACES = ("aten", "torchvision")
"""Whose operators there are once their packages are imported; others may be an operator's own."""
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod)
}
_CONSTANTS = (torch.dtype, torch.memory_format, torch.layout)


class NotStorable(Exception):
    """The network holds what can't be written down: modules of its own, or operators that other code defines."""


@dataclass(frozen=True)
class Stored:
    """A network as bytes.

    Attributes:
        graph: JSON.
        tensors: safetensors.
    """

    graph: bytes
    tensors: bytes


def stored(network: fx.GraphModule) -> Stored:
    """Write a network down.

    Args:
        network: as `gradcam_service.explain.tracing.trace` returns it, on the CPU.

    Raises:
        NotStorable: saying what can't be written down.
    """
    assert is_flat(network)
    nodes = [_node(node) for node in network.graph.nodes]
    tensors: dict[str, Tensor] = {}
    places: dict[str, tuple[str, list[int]]] = {}
    known: dict[object, str] = {}
    for name in dict.fromkeys(str(node.target) for node in network.graph.find_nodes(op="get_attr")):
        tensor = _tensor(network, name)
        order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)  # channels-last ones have their own
        laid = tensor.detach().permute(order)
        if not laid.is_contiguous():
            raise NotStorable(f"{name} has gaps in memory")
        source = known.setdefault((tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()), name)
        places[name] = (source, order)
        if source == name:
            shares = laid.untyped_storage().nbytes() != laid.nbytes
            tensors[name] = laid.clone() if shares else laid
    return Stored(json.dumps({"nodes": nodes, "tensors": places}).encode(), save(tensors))


def restored(written: Stored) -> fx.GraphModule:
    """Read a network that `stored` has written down: the same nodes by the same names, and the same numbers.

    Raises:
        Exception: of several classes, where it is not as it was written.
    """
    content = json.loads(written.graph)
    tensors = load(written.tensors)
    laid = {source: _unpermuted(tensors[source], order) for source, order in content["tensors"].values()}
    root = {name: laid[source] for name, (source, _) in content["tensors"].items()}
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for one in content["nodes"]:
        arguments, options = (_read(one[kind], nodes) for kind in ("args", "kwargs"))
        function = _function(one["target"]) if one["op"] == "call_function" else one["target"]
        node = nodes[one["name"]] = graph.create_node(one["op"], function, arguments, options, name=one["name"])
        if node.name != one["name"]:
            raise ValueError(f"the name {one['name']} is taken")
        modules = {key: tuple(module) for key, module in one["modules"]}
        node.meta = {"nn_module_stack": modules, "val": _read(one["val"], nodes)}
    return flat(fx.GraphModule(root, graph))


def _tensor(network: fx.GraphModule, name: str) -> Tensor:
    value = operator.attrgetter(name)(network)
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized or value.is_complex():
        raise NotStorable(f"{name} is no tensor of numbers, each in its place")
    return value


def _unpermuted(laid: Tensor, order: list[int]) -> Tensor:
    return laid.permute([order.index(axis) for axis in range(len(order))])


def _node(node: fx.Node) -> dict[str, Any]:
    modules = node.meta.get("nn_module_stack") or {}
    return {
        "op": node.op,
        "name": node.name,
        "target": _called(node),
        "args": _written(node.args),
        "kwargs": _written(node.kwargs),
        "modules": [[key, [path, str(kind)]] for key, (path, kind) in modules.items()],
        "val": _written(node.meta.get("val")),
    }


def _called(node: fx.Node) -> str:
    target = node.target
    if node.op in ("placeholder", "get_attr", "output"):
        return str(target)
    if isinstance(target, OpOverload) and target.namespace in _NAMESPACES:
        return str(target)
    name = getattr(target, "__name__", "")
    if node.op == "call_function" and _FUNCTIONS.get(name) is target:
        return name
    raise NotStorable(f"{node.name} calls {target}")


def _function(name: str) -> Callable[..., Any]:
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    namespace, operator_name, overload = name.split(".")
    if namespace not in _NAMESPACES:
        raise ValueError(f"there is no operator {name}")
    if namespace != "aten":
        import torchvision  # noqa: F401  registers its operators
    found = getattr(getattr(getattr(torch.ops, namespace), operator_name), overload)
    assert isinstance(found, OpOverload)
    return found


def _written(value: Any) -> Any:  # noqa: ANN401  an argument of an operator, or an example of its value
    """As JSON has it: what that doesn't know is an object of one member, which names its kind."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case fx.Node():
            return {"node": value.name}
        case Tensor():
            return {"tensor": [list(value.shape), str(value.dtype)]}
        case tuple():
            return {"tuple": [_written(one) for one in value]}
        case list():
            return [_written(one) for one in value]
        case Mapping():
            return {"mapping": {str(key): _written(one) for key, one in value.items()}}
        case torch.device():
            return {"device": str(value)}
        case _ if isinstance(value, _CONSTANTS):
            return {"constant": str(value)}
    raise NotStorable(f"an operator takes {type(value).__name__}")


def _read(value: Any, nodes: Mapping[str, fx.Node]) -> Any:  # noqa: ANN401  the inverse of `_written`
    if isinstance(value, list):
        return [_read(one, nodes) for one in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "node":
            return nodes[content]
        case "tensor":
            shape, dtype = content
            return torch.empty(shape, dtype=_constant(dtype), device="meta")
        case "tuple":
            return tuple(_read(one, nodes) for one in content)
        case "mapping":
            return {key: _read(one, nodes) for key, one in content.items()}
        case "device":
            return torch.device(content)
        case "constant":
            return _constant(content)
    raise ValueError(f"there is no kind {kind}")


def _constant(name: str) -> Any:  # noqa: ANN401  one of several classes without a common base
    found = getattr(torch, name.removeprefix("torch."))
    assert isinstance(found, _CONSTANTS)
    return found
