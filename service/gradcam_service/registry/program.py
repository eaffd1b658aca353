"""Loads programs of ``torch.export.save`` (``.pt2``), once nothing in them could run code."""

from __future__ import annotations

import hashlib

import torch
from torch import SymInt, Tensor
from torch.export import ExportedProgram
from torch.export.pt2_archive._package import load_pt2

from gradcam_service.errors import ModelFailed, UnsupportedMethod, first_line
from gradcam_service.explain.tracing import of_program
from gradcam_service.registry.archive import refuse_code
from gradcam_service.registry.built import Built, takes_channels
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.weights import weights_file
from gradcam_service.tasks import TASKS, has_value

_DYNAMIC = 'torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))'


def loaded(folder: ModelFolder) -> Built:
    """Load an exported program: images (N, C, H, W) float32 to scores, for every N.

    Raises:
        ModelFailed: the file is damaged, holds more than a graph and tensors, or is no such program.
    """
    preprocess = folder.preprocess()
    path = weights_file(folder)
    refuse_code(path)
    try:
        # torch.export.load would fall back to an older format, and to unpickling it.
        programs = load_pt2(str(path)).exported_programs
        if len(programs) != 1:
            raise ModelFailed(f"{path.name} holds {len(programs)} programs; a model is one")
        (program,) = programs.values()
        program._guards_code = []  # source out of the file, which decompositions would compile and run
        _check_input(program, folder.spec.input.count, preprocess.input_size)
        module = of_program(program, folder.spec.output, has_value=has_value(TASKS[folder.spec.task]))
    except ModelFailed:
        raise
    except UnsupportedMethod as error:
        raise ModelFailed(error.detail) from error
    except Exception as error:  # whatever a damaged file leads torch to
        raise ModelFailed(f"{path.name} can't be loaded: {first_line(error)}") from error
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return Built(module, folder.labels() or [], preprocess, content)


def _check_input(program: ExportedProgram, channels: int, size: tuple[int, int]) -> None:
    names = program.graph_signature.user_inputs
    values = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    value = values[0] if len(values) == 1 else None
    if not isinstance(value, Tensor) or value.dtype != torch.float32 or value.dim() != 4:
        raise ModelFailed(
            f"an exported program takes one input, images (N, {channels}, H, W) of float32; this one does not"
        )
    batch, *shape = value.shape
    if not isinstance(batch, SymInt):
        raise ModelFailed(f"the program takes exactly {batch} images; export it with {_DYNAMIC}")
    if shape[0] != channels and shape[1:] == [*size]:
        raise ModelFailed(takes_channels(int(shape[0]), channels))
    if shape != [channels, *size]:
        shown = "×".join(map(str, shape))
        raise ModelFailed(f"the program takes images of {shown}, but preprocess makes {channels}×{size[0]}×{size[1]}")
