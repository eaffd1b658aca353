"""Loads programs of ``torch.export.save`` (``.pt2``), once nothing in them could run code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import SymInt, Tensor, fx
from torch.export import ExportedProgram
from torch.export.pt2_archive._package import load_pt2

from gradcam_service.errors import ModelFailed, UnsupportedMethod, first_line
from gradcam_service.explain.graph import call_inputs, with_plain_sizes
from gradcam_service.explain.tracing import of_program
from gradcam_service.registry.archive import refuse_code
from gradcam_service.registry.built import Built, takes_channels
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.weights import weights_file
from gradcam_service.tasks import TASKS
from gradcam_service.text import TOKENS, Text

_DYNAMIC = 'torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))'
_BOTH_DYNAMIC = "torch.export.export(model, (images, tokens), dynamic_shapes=({0: batch}, {0: batch}))"


def loaded(folder: ModelFolder) -> Built:
    """Load an exported program: images (N, C, H, W) float32, and tokens (N, T) where it takes text, to scores.

    Raises:
        ModelFailed: the file is damaged, holds more than a graph and tensors, or is no such program.
    """
    preprocess, text = folder.preprocess(), folder.text()
    path = weights_file(folder)
    refuse_code(path)
    try:
        # torch.export.load would fall back to an older format, and to unpickling it.
        programs = load_pt2(str(path)).exported_programs
        if len(programs) != 1:
            raise ModelFailed(f"{path.name} holds {len(programs)} programs; a model is one")
        (program,) = programs.values()
        program._guards_code = []  # source out of the file, which decompositions would compile and run
        inputs = _inputs(program, folder.spec.input.count, text)
        _check_images(inputs[0].meta["val"], folder.spec.input.count, preprocess.input_size)
        lengths = {} if text is None else _lengths(program, inputs[1].meta["val"], text.length)
        module = of_program(program, folder.spec.output, has_value=TASKS[folder.spec.task].has_value)
        if text is not None:
            _images_first(module.graph, [node.name for node in inputs])
        with_plain_sizes(module.graph, lengths)
    except ModelFailed:
        raise
    except UnsupportedMethod as error:
        raise ModelFailed(error.detail) from error
    except Exception as error:  # whatever a damaged file leads torch to
        raise ModelFailed(f"{path.name} can't be loaded: {first_line(error)}") from error
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return Built(module, folder.labels() or [], preprocess, content)


def _inputs(program: ExportedProgram, channels: int, text: Text | None) -> list[fx.Node]:
    """A program's images and, of one that takes text, its tokens, whatever they are called and in which order."""
    names = program.graph_signature.user_inputs
    given = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    images = [node for node in given if _is(node, 4, torch.float32)]
    tokens = [node for node in given if _is(node, 2, torch.int64, torch.int32)] if text is not None else []
    found = [*images[:1], *tokens[:1]]
    if len(found) == len(names) == (1 if text is None else 2):
        return found
    takes = f"images (N, {channels}, H, W) of float32"
    takes = f"one input, {takes}" if text is None else f"{takes}, and tokens (N, {text.length}) of int64"
    raise ModelFailed(f"an exported program takes {takes}; this one does not")


def _is(node: fx.Node, rank: int, *types: torch.dtype) -> bool:
    value = node.meta["val"]
    return isinstance(value, Tensor) and value.dim() == rank and value.dtype in types


def _check_images(value: Tensor, channels: int, size: tuple[int, int]) -> None:
    batch, *shape = value.shape
    if not isinstance(batch, SymInt):
        raise ModelFailed(f"the program takes exactly {batch} images; export it with {_DYNAMIC}")
    if shape[0] != channels and shape[1:] == [*size]:
        raise ModelFailed(takes_channels(int(shape[0]), channels))
    if shape != [channels, *size]:
        shown = "×".join(map(str, shape))
        raise ModelFailed(f"the program takes images of {shown}, but preprocess makes {channels}×{size[0]}×{size[1]}")


def _lengths(program: ExportedProgram, tokens: Tensor, length: int) -> dict[object, int]:
    """The size that a program's number of tokens is from now on, if it takes any number.

    Raises:
        ModelFailed: it takes no such number of tokens, or a fixed number of rows of them.
    """
    batch, own = tokens.shape
    if not isinstance(batch, SymInt):
        raise ModelFailed(f"the program takes exactly {batch} rows of tokens; export it with {_BOTH_DYNAMIC}")
    if not isinstance(own, SymInt):
        if own != length:
            raise ModelFailed(f"the program takes {own} tokens; say length: {own} in model.yaml, not {length}")
        return {}
    symbol = own.node.expr
    known = program.range_constraints.get(symbol)
    if known is not None and not known.lower <= length <= known.upper:
        raise ModelFailed(
            f"the program takes {known.lower} to {known.upper} tokens, and length in model.yaml is {length}"
        )
    return {symbol: length}


def _images_first(graph: fx.Graph, names: Sequence[str]) -> None:
    """Put a graph's images before its tokens, and call them so."""
    by_name = {node.name: node for node in graph.find_nodes(op="placeholder")}
    images, tokens = (by_name[name] for name in names)
    images.append(tokens)
    call_inputs(graph, ["image", TOKENS])
