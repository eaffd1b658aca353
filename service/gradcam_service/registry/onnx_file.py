"""An ONNX file: what it says of itself, and how it is put before it is run: in float32, one output, logits."""

from __future__ import annotations

import ast
import logging
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import TensorProto, numpy_helper
from onnx.external_data_helper import uses_external_data

from gradcam_service.errors import ModelFailed, first_line
from gradcam_service.registry.foreign import foreign

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_ENDINGS = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
_RESHAPES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
_ROUNDS_OFF = ("Cast", "Clip")
_LONGEST_NAMES = 1_000_000  # characters of metadata

log = logging.getLogger(__name__)


def read(path: Path, digest: str | None) -> onnx.ModelProto:
    """The model with the tensors that it keeps in files beside it; onnx refuses files anywhere else.

    Raises:
        ModelFailed: it is no ONNX model, or ``digest`` covers only a part of it.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        if exported := exported_from(model):
            raise ModelFailed(not_for_serving(path, exported))
        if digest and other_files(model):
            raise ModelFailed(f"{path.name} keeps tensors in other files, which its sha256 does not cover; save as one")
        onnx.load_external_data_for_model(model, str(path.parent))
        _check(model)
        model.SerializeToString()
    except (DecodeError, EncodeError) as error:
        what = foreign(path, "onnx") or f"no ONNX model, or has more than 2 GiB: {error}"
        raise ModelFailed(f"{path.name} is {what}") from error
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        what = foreign(path, "onnx") or f"no valid ONNX model: {first_line(error)}"
        raise ModelFailed(f"{path.name} is {what}") from error
    return model


def exported_from(model: onnx.ModelProto) -> str | None:
    """The model that ``gradcam export`` wrote this file of, ``name@version``; None where something else wrote it."""
    told = {entry.key: entry.value for entry in model.metadata_props}
    ours = {"image", "target"} == {value.name for value in model.graph.input} and "layer" in told
    return told.get("model") if ours else None


def not_for_serving(path: Path, exported: str) -> str:
    """What to say of a file that ``gradcam export`` wrote, where a model is asked for."""
    return (
        f"{path} is what gradcam export wrote of {exported}: scores and maps in one graph, for programs that run it "
        f"themselves. Serve what {exported} was exported from; every method explains that"
    )


def other_files(model: onnx.ModelProto) -> set[str]:
    """The files beside it in which a model, loaded without them, keeps tensors."""
    external = filter(uses_external_data, _tensors(model))
    return {entry.value for tensor in external for entry in tensor.external_data if entry.key == "location"}


def _check(model: onnx.ModelProto) -> None:
    """Check the model; shapes of outputs that it doesn't say are inferred, or left open to ONNX Runtime.

    Raises:
        onnx.checker.ValidationError: it is not valid.
    """

    def shapeless() -> list[onnx.TypeProto.Tensor]:
        kinds = [value.type.tensor_type for value in model.graph.output if value.type.HasField("tensor_type")]
        return [kind for kind in kinds if not kind.HasField("shape")]

    if shapeless():
        inferred = onnx.shape_inference.infer_shapes(model).graph.output
        del model.graph.output[:]
        model.graph.output.extend(inferred)
    open_ = shapeless()
    for kind in open_:
        kind.shape.SetInParent()  # the checker insists on one
    onnx.checker.check_model(model)
    for kind in open_:
        kind.ClearField("shape")


def in_float32(model: onnx.ModelProto) -> None:
    """Turn half precision, and all of a model of doubles, into float32: small gradients would vanish in half."""
    double = [value for value in model.graph.input if value.type.tensor_type.elem_type == TensorProto.DOUBLE]
    others = {TensorProto.FLOAT16, TensorProto.BFLOAT16, *([TensorProto.DOUBLE] if double else [])}
    for graph in _graphs(model):
        del graph.value_info[:]  # said again by whoever infers it
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type in others:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
    _convert(_tensors(model), others)
    for attribute in _attributes(model):
        if attribute.name in ("to", "dtype") and attribute.i in others:
            attribute.i = TensorProto.FLOAT


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The model's graph and those inside of its operators, such as the branches of an If."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        attributes = [attribute for node in graph.node for attribute in node.attribute]
        waiting += [inner for attribute in attributes for inner in (attribute.g, *attribute.graphs) if inner.node]


def _attributes(model: onnx.ModelProto) -> Iterator[onnx.AttributeProto]:
    """Those of all operators, in whatever graph or function."""
    for part in (*_graphs(model), *model.functions):
        yield from (attribute for node in part.node for attribute in node.attribute)


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """All that hold numbers: graphs' initializers and operators' attributes."""
    for graph in _graphs(model):
        yield from graph.initializer
    for attribute in _attributes(model):
        yield from (attribute.t, *attribute.tensors)


def _convert(tensors: Iterable[TensorProto], types: Collection[int]) -> None:
    for tensor in tensors:
        if tensor.data_type in types:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def keep_scores(
    model: onnx.ModelProto, wanted: str | int | None, *, has_value: bool = False, speaks: bool = False
) -> int:
    """Make the model's scores its one output, with the value behind them if there is one; how many of that there are.

    Args:
        model: in which the other outputs are dropped.
        wanted: the name of the output, or its index; None where only one can be a row of scores for each image.
        has_value: whether another output may be a value of each image, which is kept, where no output is wanted.
        speaks: whether scores may be those of the words that follow each of T tokens, (N, T, words).

    Raises:
        ModelFailed: naming the outputs that there are, or those that could be scores.
    """
    outputs = list(model.graph.output)
    if isinstance(wanted, int) and wanted in range(len(outputs)):
        wanted = outputs[wanted].name
    if wanted is not None and wanted not in [value.name for value in outputs]:
        raise ModelFailed(f"output: the model has no {wanted!r}; it has {_shown(outputs)}")
    named = [value for value in outputs if wanted in (None, value.name)]
    found = [value for value in named if _may_be_scores(value, speaks)]
    if has_value and len(found) == len(("scores", "value")):
        numbers = [value for value in found if _is_number(value)]
        if len(numbers) == 1:
            _put_behind(model, next(value for value in found if value is not numbers[0]), numbers[0])
            return 1
    if not found:
        raise ModelFailed(f"no output is a row of scores for each image, (N, classes); there are {_shown(named)}")
    if len(found) > 1:
        raise ModelFailed(
            f"{len(found)} outputs could be scores: {_shown(found)}; say which in model.yaml: output: {found[-1].name}"
        )
    del model.graph.output[:]
    model.graph.output.append(found[0])
    return 0


def _is_number(value: onnx.ValueInfoProto) -> bool:
    """Whether it is one number for each image."""
    lengths = _lengths(value)
    return lengths is not None and len(lengths) > 0 and all(length == 1 for length in lengths[1:])


def _put_behind(model: onnx.ModelProto, scores: onnx.ValueInfoProto, value: onnx.ValueInfoProto) -> None:
    """Make a model's one output its scores and, behind them, its value."""
    graph = model.graph
    joint = onnx.helper.make_tensor_value_info("scores_and_value", scores.type.tensor_type.elem_type, None)
    rows = [f"{one.name}_row" for one in (scores, value)]
    graph.node.extend(
        onnx.helper.make_node("Flatten", [one], [row]) for one, row in zip((scores.name, value.name), rows, strict=True)
    )
    graph.node.append(onnx.helper.make_node("Concat", rows, [joint.name], axis=1))
    del graph.output[:]
    graph.output.append(joint)


def _lengths(value: onnx.ValueInfoProto) -> list[int | None] | None:
    """How long its dimensions are, None where one may be of any length; None where not even their number is known."""
    kind = value.type.tensor_type
    return [d.dim_value or None for d in kind.shape.dim] if kind.HasField("shape") else None


def _may_be_scores(value: onnx.ValueInfoProto, speaks: bool) -> bool:
    """Whether it is (N, classes) once dimensions of one element are left out, or (N, T, words)."""
    lengths = _lengths(value)
    long = lengths is None or (len(lengths) > 0 and sum(length not in (None, 1) for length in lengths[1:]) <= 1)
    of_words = speaks and len(lengths or ()) == len("NTV")
    return value.type.tensor_type.elem_type in _FLOATS and (long or of_words)


def _shown(values: list[onnx.ValueInfoProto]) -> str:
    """``logits (N, 3), embedding (N, ?)``."""
    texts = []
    for value in values:
        lengths = _lengths(value)
        inside = [str(length or "?") for length in lengths[1:]] if lengths else ["?"]
        texts.append(f"{value.name} ({', '.join(['N', *inside])})")
    return ", ".join(texts)


def keep_logits(model: onnx.ModelProto, activation: str) -> None:
    """Take off the softmax, log-softmax or sigmoid that the model's one output ends in, with what rounds it off.

    Reshapes, casts and clips may follow it.

    Raises:
        ModelFailed: it is another than ``activation``.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    node, after = producers.get(model.graph.output[0].name), []
    while node is not None and node.domain == "" and node.op_type in (*_RESHAPES, *_ROUNDS_OFF):
        after.append(node)
        node = producers.get(node.input[0])
    last = len(_lengths(model.graph.output[0]) or ()) - 1
    if node is None or node.domain != "" or node.op_type not in _ENDINGS or not _is_over_classes(node, last):
        return
    ending = _ENDINGS[node.op_type]
    if ending != activation:
        raise ModelFailed(f"the model ends in {node.op_type}; activation must be {ending}, not {activation}")
    for dropped in (node, *after):
        if dropped.op_type not in _RESHAPES:
            dropped.op_type = "Identity"
            del dropped.input[1:], dropped.attribute[:]


def _is_over_classes(node: onnx.NodeProto, last: int) -> bool:
    """Whether a softmax is over the second dimension or the last, one of which is the default, not over the images."""
    return all(attribute.i in (1, -1, max(1, last)) for attribute in node.attribute if attribute.name == "axis")


def named_classes(model: onnx.ModelProto, classes: int) -> list[str]:
    """The labels that the file's metadata name, as YOLO's exporter writes them; none where they name no classes.

    The format is that of a Python dictionary, ``{0: 'cat', 1: 'dog'}``, read as data
    (https://docs.ultralytics.com/modes/export).

    Args:
        model: as it was read.
        classes: how many scores it has; one may be of two classes, no and yes.
    """
    text = next((entry.value for entry in model.metadata_props if entry.key == "names"), "")
    try:
        names = ast.literal_eval(text[:_LONGEST_NAMES]) if text else []
        if isinstance(names, dict):
            by_index = {int(index): name for index, name in names.items()}
            names = [by_index[index] for index in range(len(names))]
        if names and len(names) not in (classes, 2 if classes == 1 else 0):
            raise ValueError(f"{len(names)} names for {classes} classes")
        return [str(name) for name in names]
    except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError) as error:
        log.warning("the names in the ONNX file's metadata are no classes: %s", first_line(error))
        return []
