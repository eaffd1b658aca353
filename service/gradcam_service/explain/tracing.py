"""A module as people have it, traced to a flat graph of side-effect-free operators, ready to be cut anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.fx.graph import CodeGen
from torch.nn.modules import transformer
from torch.utils._pytree import tree_unflatten

from gradcam_service.errors import UnsupportedMethod
from gradcam_service.explain.functional import is_made_of_usual_operators, make_functional
from gradcam_service.explain.graph import TRACING, VALUES, call_inputs, flat, is_flat, release, with_plain_sizes
from gradcam_service.explain.outputs import scores_in, with_value

if TYPE_CHECKING:
    from torch.export import Dim, ExportedProgram

Inputs = tuple[int, int, int] | Mapping[str, Tensor]
"""(C, H, W) of the images, where a network takes nothing else; or examples by name, of two rows each, images first."""

_INNER = "inner"
_WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "module",
    "AveragedModel": "module",
    "OptimizedModule": "_orig_mod",
}
"""Modules that only run another: their class, and the attribute that it is."""


def trace(
    module: nn.Module,
    inputs: Inputs,
    sizes: Mapping[str, Mapping[int, Dim]] | None = None,
    output: str | int | None = None,
    *,
    has_value: bool = False,
) -> fx.GraphModule:
    """Export ``module`` to a graph whose nodes know their shapes and never write into each other's tensors.

    In-place operators are made functional: a head that began with ``relu_`` would otherwise overwrite the very feature
    maps that are being explained (https://docs.pytorch.org/docs/stable/export.html). What the module says about
    gradients and mixed precision is left out: the graph is differentiable, and computes in float32.

    Args:
        module: maps images (N, C, H, W) float32, and what other inputs it takes, to scores, for every N; `scores_in`
            says in which forms. It is put in evaluation mode. One that `is_flat` is returned as it is.
        inputs: what it takes, in the order in which it takes them; a row for each image in all of them.
        sizes: dimensions of inputs that may differ from the examples', beside the number of rows.
        output: which of the module's outputs the scores are, where there are several.
        has_value: whether another of them is a value of each image, which is kept behind its scores.

    Returns:
        The graph, with a dynamic batch dimension and inputs by their names, sharing the module's parameters, none of
        which requires a gradient.

    Raises:
        UnsupportedMethod: its output has none of the forms.
    """
    if is_flat(module):
        with_plain_sizes(module.graph)
        return module
    from torch.export import Dim, export  # which takes a second, and what has been traced before doesn't need

    adapted = _Adapted(module, output, has_value).eval().requires_grad_(False)
    for part in adapted.modules():
        if getattr(part, "inplace", False):  # the graph is the same, found sooner: hardtanh_ takes 40 ms of Python each
            part.inplace = False  # type: ignore[assignment]
    # A batch of one would be taken for a constant.
    examples = inputs if isinstance(inputs, Mapping) else {"image": torch.zeros(2, *inputs)}
    batch = Dim("batch")
    dynamic = tuple({0: batch, **(sizes or {}).get(name, {})} for name in examples)
    rows = tuple(example.contiguous() for example in examples.values())  # a view's strides would become conditions
    with TRACING, _plainly():
        program = export(adapted, rows, dynamic_shapes=(dynamic,))
    graph_module = of_program(program, has_value=has_value)
    call_inputs(graph_module.graph, examples)
    _forget_adapter(graph_module.graph)
    with_plain_sizes(graph_module.graph)
    return flat(graph_module)


def of_program(program: ExportedProgram, output: str | int | None = None, *, has_value: bool = False) -> fx.GraphModule:
    """An exported program as such a graph.

    Args:
        program: of a module that `trace` would take.
        output: which of its outputs the scores are, where there are several.
        has_value: as for `trace`.

    Raises:
        UnsupportedMethod: no output is the scores, or several could be.
    """
    # Guards would check the input's shape, which the worker has done, and run code out of the file.
    usual = is_made_of_usual_operators(program.graph)
    with TRACING, _plainly():
        graph_module = (program if usual else program.run_decompositions({})).module(check_guards=False)
    assert isinstance(graph_module, fx.GraphModule)
    graph_module._forward_pre_hooks.clear()  # the same checks in another place
    graph_module.meta.clear()  # constraints of symbols
    graph = graph_module.graph
    if usual:
        make_functional(graph)
    release(graph)
    graph_module.meta[VALUES] = _keep_scores(graph, program, output, has_value)
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.copy_.default):
        graph.erase_node(node)  # a module that normalises its input in place would change the caller's
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.copy.default):
        written_over, value, *_ = node.args  # which has no derivative, though the same by another name has
        node.target, node.args = torch.ops.aten.expand_as.default, (value, written_over)
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten._assert_tensor_metadata.default):
        graph.erase_node(node)  # of the device and type of the example
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.detach.default):
        node.replace_all_uses_with(node.args[0])
    return flat(graph_module)


def _keep_scores(graph: fx.Graph, program: ExportedProgram, wanted: str | int | None, has_value: bool) -> int:
    """Make the scores a graph's one output, with the value behind them if there is one; how many of that there are."""
    (result,) = graph.find_nodes(op="output")
    (leaves,) = result.args  # of the structure that the program answers with, some the same tensor, some none at all
    values = [leaf.meta["val"] if isinstance(leaf, fx.Node) else leaf for leaf in leaves]
    answer = tree_unflatten(values, program.call_spec.out_spec)
    kept = with_value(answer, wanted) if has_value else [scores_in(answer, wanted)]
    chosen = [next(node for node in result.all_input_nodes if node.meta["val"] is one) for one in kept]
    result.args = (chosen[0] if len(chosen) == 1 else _side_by_side(graph, chosen),)
    graph.set_codegen(CodeGen())  # whose output is one tensor, not a structure
    return len(chosen) - 1


def _side_by_side(graph: fx.Graph, rows: list[fx.Node]) -> fx.Node:
    """Rows (N, …) of a graph as one row (N, all of them)."""
    aten = torch.ops.aten

    def emit(function: Callable[..., Tensor], argument: Any, dimension: int) -> fx.Node:  # noqa: ANN401  nodes
        node = graph.call_function(function, (argument, dimension))
        node.meta["val"] = function(fx.node.map_arg(argument, lambda one: one.meta["val"]), dimension)
        return node

    (output,) = graph.find_nodes(op="output")
    with graph.inserting_before(output):
        flat_rows = [
            emit(aten.unsqueeze.default if row.meta["val"].dim() == 1 else aten.flatten.using_ints, row, 1)
            for row in rows
        ]
        return emit(aten.cat.default, flat_rows, 1)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside of those that run it on several devices, compile it or average its weights.

    Raises:
        UnsupportedMethod: it is, or holds, a program of TorchScript, which can't be traced any more.
    """
    while (wrapper := _WRAPPERS.get(type(module).__name__)) is not None:
        module = getattr(module, wrapper)
    scripts = [name for name, part in module.named_modules() if isinstance(part, torch.jit.ScriptModule)]
    if scripts:
        where = f"holds TorchScript in {scripts[0]}" if scripts[0] else "is TorchScript"
        raise UnsupportedMethod(
            f"the model {where}, which has no graph to be cut; have the factory return the module that was scripted, "
            "or save that with torch.export.save and say source: pt2, or export it to ONNX and say source: onnx"
        )
    return module


class _Adapted(nn.Module):
    """A module of tensors in and scores out, and a value if there is one, whatever the inner one wraps them into."""

    def __init__(self, module: nn.Module, output: str | int | None, has_value: bool) -> None:
        super().__init__()
        self.output = output
        self.has_value = has_value
        self.inner = unwrapped(module)

    def forward(self, *inputs: Tensor) -> Tensor | list[Tensor]:
        answer = self.inner(*inputs)
        return with_value(answer, self.output) if self.has_value else scores_in(answer, self.output)


@contextmanager
def _plainly() -> Iterator[None]:
    """No gradient and no mixed precision while in it, whatever a module asks for.

    Switching either inside of a forward pass becomes a graph of its own, whose nodes forget which modules they are of.
    Nor does `torch.nn.TransformerDecoder` look whether its mask is a causal one, which a graph can't branch by: as any
    other, that mask is added.
    """
    enter, leave = torch.autocast.__enter__, torch.autocast.__exit__
    look = transformer._detect_is_causal_mask
    torch.autocast.__enter__ = lambda self: self  # type: ignore[method-assign]
    torch.autocast.__exit__ = lambda self, *_: None  # type: ignore[method-assign]
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.autocast.__enter__, torch.autocast.__exit__ = enter, leave  # type: ignore[method-assign]
        transformer._detect_is_causal_mask = look


def _forget_adapter(graph: fx.Graph) -> None:
    """Call modules as their owner does."""
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack") or {}
        named = {key: (path.removeprefix(f"{_INNER}."), kind) for key, (path, kind) in stack.items() if path != _INNER}
        node.meta["nn_module_stack"] = named
