"""Writes a model as compiled graphs into a version folder, proven against torch before it gets its name."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import onnx
import torch
import yaml
from torch import Tensor, fx, nn
from torch.export import Dim

import gradcam_service
from gradcam_service.compiled import manifest as folder_of
from gradcam_service.compiled.manifest import CompiledLayer, Manifest, StoredArray
from gradcam_service.compiled.network import NEEDS_FULL_MODEL
from gradcam_service.compiled.proof import prove
from gradcam_service.errors import BadOption, UnsupportedMethod
from gradcam_service.explain.cut import Cut
from gradcam_service.explain.lowering import lower_gradient
from gradcam_service.explain.method import Need
from gradcam_service.explain.methods import METHODS
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.loader import LoadedModel
from gradcam_service.registry.repository import parse_spec
from gradcam_service.runtime._fold import folded
from gradcam_service.runtime._onnx import onnx_program

_SMALL = 1024
"""Bytes up to which a tensor stays in its graph: shapes and axes, which runtimes want to see."""
_ALIGNED = 4096
"""Where tensors begin in their file, so that it can be mapped into memory (https://onnx.ai/onnx/repo-docs/ExternalData.html)."""


def compile_model(model: LoadedModel, source: ModelFolder, key: str, layers: Sequence[str], folder: Path) -> None:
    """Write a version folder of ``source: compiled``.

    Args:
        model: as it was loaded.
        source: what it was loaded from.
        key: ``name@version`` of that.
        layers: beside the default one.
        folder: to be made.

    Raises:
        UnknownLayer: the model has no such layer.
        UnsupportedMethod: an operator can't be exported (it is named), or the graphs would answer unlike the model,
            also by explaining by another method where none is named.
        BadOption: the folder is there.
        OSError: it can't be written.
    """
    if folder.exists():
        raise BadOption(f"{folder} is there already; name another folder, or remove it")
    logging.getLogger("torch").setLevel(logging.CRITICAL)  # what goes wrong is in the error
    network = model.network.to(torch.device("cpu"))
    if network.others and not network.shares_images:
        raise UnsupportedMethod(f"{key} looks at pictures by what its text says, which can't be compiled yet")
    method = model.card.method
    if Need.INPUT_GRADIENT in METHODS[method].needs and method in model.card.method_names():
        raise UnsupportedMethod(
            f"{key} is explained by {method} where a request names no method, and {NEEDS_FULL_MODEL}; another method "
            "in its model.yaml would work"
        )
    cuts = {cut.layer.name: cut for cut in (network.cut_at(layer) for layer in ("auto", *layers))}
    made_of = folder_of.decisive(source)
    present = next(parent for parent in folder.absolute().parents if parent.is_dir())
    with tempfile.TemporaryDirectory(prefix=".gradcam-", dir=present) as place:
        made = Path(place) / folder.name
        made.mkdir()
        (made / folder_of.WEIGHTS).touch()  # empty where every tensor stays in its graph
        graphs = _Graphs(made)
        written = [_cut(model, cut, graphs, index) for index, cut in enumerate(cuts.values())]
        _model_yaml(model, source, made)
        manifest = Manifest(
            model=key,
            made_by=f"gradcam-service {gradcam_service.__version__}, torch {torch.__version__}",
            made_of=made_of,
            card=model.card,
            layers=tuple(written),
            outputs=network.classes * network.positions + network.values,
            positions=network.positions,
            values=network.values,
            others=network.others,
            refused=_refused(model),
            files={path.name: folder_of.sha256(path) for path in sorted(made.iterdir()) if path.name != "model.yaml"},
        )
        (made / folder_of.NAME).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        prove(model, made)
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.rename(folder)


def _cut(model: LoadedModel, cut: Cut, graphs: _Graphs, index: int) -> CompiledLayer:
    """Write the graphs of a cut, and describe them."""
    network, layout, number = model.network, cut.layer.layout, index or ""
    images = torch.randn(
        2, model.card.input.count, *model.card.preprocess.input_size, generator=torch.Generator().manual_seed(0)
    )
    text = model.card.text
    others = () if text is None else (torch.from_numpy(text.example()).repeat(2, 1),)
    frontier = cut.frontier(images, *others)
    live = (frontier.features, *frontier.rest)
    crossing = [value.contiguous() for value in live if isinstance(value, Tensor)]
    if len(crossing) < len(live):
        raise UnsupportedMethod(
            f"numbers cross the cut at {cut.layer.name}, which can't be compiled; another layer may"
        )
    rows = [0, *(axis or 0 for axis in frontier.axes)]
    outputs = network.classes * network.positions + network.values
    backbone = graphs.write(f"backbone{number}.onnx", _of_images(cut.backbone), (images,), [0])
    behind = (*crossing, *others), [*rows, *(0 for _ in others)]
    head = graphs.write(f"head{number}.onnx", cut.head.module, *behind)
    gradient, weight = "", None
    if cut.head.weight is not None:
        weight = graphs.store(cut.head.weight)
    elif not _without_gradient(model):
        lowered = lower_gradient(cut, frontier, others, outputs)
        values, axes = behind
        gradient = graphs.write(f"gradient{number}.onnx", lowered, (*values, torch.zeros(2, outputs)), [*axes, 0])
    return CompiledLayer(
        name=cut.layer.name,
        channels=cut.layer.channels,
        axis=layout.channels,
        grid=layout.grid,
        prefix=layout.prefix,
        transposed=layout.frame.transposed,
        mirrored=tuple(sorted(layout.frame.mirrored)),
        axes=frontier.axes,
        backbone=backbone,
        head=head,
        gradient=gradient,
        weight=weight,
    )


def _without_gradient(model: LoadedModel) -> bool:
    """Whether no method explains the model by the gradient at a layer."""
    able = [METHODS[name] for name in model.card.method_names()]
    return not any(Need.LAYER_GRADIENT in method.needs for method in able)


def _refused(model: LoadedModel) -> dict[str, str]:
    """Methods that can't explain the model, or not without torch."""
    refused = {card.name: card.refused for card in model.card.methods if card.refused}
    in_torch = {name: NEEDS_FULL_MODEL for name, method in METHODS.items() if Need.INPUT_GRADIENT in method.needs}
    return in_torch | refused


def _of_images(backbone: fx.GraphModule) -> fx.GraphModule:
    """A backbone without the inputs that it doesn't use, its batch normalisation folded into its convolutions."""
    found = folded(backbone)
    for other in found.graph.find_nodes(op="placeholder")[1:]:
        found.graph.erase_node(other)
    found.recompile()
    return found


def _model_yaml(model: LoadedModel, source: ModelFolder, folder: Path) -> None:
    """Write a ``model.yaml`` that says of the graphs what that of the model says of it, and the files that it names."""
    spec, card = model.spec, model.card
    of_builder = {"source", "architecture", "weights", "sha256", "options", "output", "runtime"}
    content = json.loads(spec.model_dump_json(exclude=of_builder, exclude_defaults=True))
    content |= {"source": "compiled", "labels": "labels.json", "layer": "auto", "task": spec.task}
    content |= {"activation": spec.activation, "preprocess": _plain(card.preprocess)}
    (folder / "labels.json").write_text(json.dumps(card.labels, ensure_ascii=False, indent=0), "utf-8")
    for member, name in (("tokenizer", spec.tokenizer), ("image", spec.sample and spec.sample.image)):
        if name:
            kept = f"{member}-{Path(name).name}" if member == "image" else Path(name).name
            shutil.copyfile(source.file(member, name), folder / kept)
            place = content["sample"] if member == "image" else content
            place[member] = kept
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    parse_spec(text, "model.yaml")
    (folder / "model.yaml").write_text(text, "utf-8")


def _plain(preprocess: Any) -> dict[str, Any]:  # noqa: ANN401  a dataclass
    found = {name: getattr(preprocess, name) for name in preprocess.__dataclass_fields__}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
    return {name: value for name, value in plain.items() if value is not None}


@dataclass
class _Graphs:
    """Graphs that are written into a folder, all tensors into one file, each once."""

    folder: Path
    places: dict[str, int] = field(default_factory=dict)

    def write(self, name: str, module: nn.Module, examples: tuple[Any, ...], rows: Sequence[int]) -> str:
        """Export a module as an ONNX model for any number of rows; the name of its file.

        Raises:
            UnsupportedMethod: an operator can't be exported; it is named.
        """
        batch = Dim("batch")
        sizes = tuple(
            {axis: batch} if isinstance(one, Tensor) else None for one, axis in zip(examples, rows, strict=True)
        )
        model: onnx.ModelProto = onnx_program(module, examples, _shapes(module, sizes)).model_proto
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) > _SMALL:
                offset, length = self._append(tensor.raw_data), len(tensor.raw_data)
                tensor.ClearField("raw_data")
                tensor.data_location = onnx.TensorProto.EXTERNAL
                entries = {"location": folder_of.WEIGHTS, "offset": str(offset), "length": str(length)}
                tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in entries.items())
        (self.folder / name).write_bytes(model.SerializeToString())
        return name

    def store(self, values: Tensor) -> StoredArray:
        """Keep an array beside the tensors of the graphs, or where it is one of them."""
        content = values.detach().float().contiguous().numpy().tobytes()
        return StoredArray(self._append(content), tuple(values.shape))

    def _append(self, content: bytes) -> int:
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self.places:
            with (self.folder / folder_of.WEIGHTS).open("ab") as file:
                file.write(bytes(-file.tell() % _ALIGNED))
                self.places[digest] = file.tell()
                file.write(content)
        return self.places[digest]


def _shapes(module: nn.Module, sizes: tuple[Any, ...]) -> Any:  # noqa: ANN401  as torch takes them
    """Dynamic shapes as the module takes its inputs: one by one, or as a list of them."""
    takes_any = isinstance(module, fx.GraphModule) and len(module.graph.find_nodes(op="placeholder")) != len(sizes)
    return (sizes,) if takes_any else sizes
