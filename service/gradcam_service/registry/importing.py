"""Makes the folder of a model version from a checkpoint or a model file, and tries it. Torch-free until then."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gradcam_service.errors import BadOption, ModelFailed, ServiceError, first_line, in_one_line
from gradcam_service.naming import did_you_mean
from gradcam_service.registry.card import Card
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.foreign import foreign, known_format
from gradcam_service.registry.labels import TextLoader, from_file, listed, to_file
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry, parse_spec
from gradcam_service.registry.sources import SOURCES
from gradcam_service.registry.spec import Preprocess

if TYPE_CHECKING:
    from gradcam_service.registry.built import Built
    from gradcam_service.registry.fit import Fit

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIDE = 224
_COMMENTS = {
    "source": "who builds the network",
    "sha256": "of the weights; they are used only as long as it is theirs",
    "labels": "a label a line, in the order of the classes",
    "activation": "what makes probabilities of scores: softmax, or sigmoid where classes don't exclude each other",
    "tokenizer": "of the text that it takes beside pictures",
    "preprocess": "as at the end of the training; {}",
}


@dataclass(frozen=True)
class Import:
    """What is to be imported, and as what.

    Attributes:
        file: a checkpoint, an ONNX file or a program of torch.export.
        to: the folder to make, ``REPOSITORY/NAME/VERSION``.
        architecture: ``timm/resnet50``, ``torchvision/resnet50`` or the operator's own ``module:function``; empty for a
            file that holds it.
        labels: a file of labels.
        tokenizer: a vocabulary or Hugging Face's tokenizer.json, of a model that takes text.
        members: of ``model.yaml``, ``preprocess.crop`` or ``activation``, which replace what would be written.
        take: the place and prefix of the weights in the file, where two would fit.
        replace: whether ``to`` may be there.
        python_path: where the operator's code may be imported from.
    """

    file: Path
    to: Path
    architecture: str = ""
    labels: Path | None = None
    tokenizer: Path | None = None
    members: tuple[tuple[str, Any], ...] = ()
    take: str | None = None
    replace: bool = False
    python_path: Path | None = None


@dataclass(frozen=True)
class _Found:
    """What a file turned out to hold.

    Attributes:
        spec: members of ``model.yaml``.
        labels: of the classes; empty where the source has them.
        note: what of the file is taken.
        sees: where the preprocessing is from.
        fit: the weights; None where the file itself is the model.
    """

    spec: dict[str, Any]
    labels: list[str]
    note: str
    sees: str
    fit: Fit | None = None


def member(text: str) -> tuple[str, Any]:
    """Read ``MEMBER=VALUE``, the value as in ``model.yaml``: labels are the text that is written.

    Raises:
        BadOption: it is no such thing.
    """
    name, equals, value = text.partition("=")
    try:
        if equals and re.fullmatch(r"\w+(\.\w+)?", name):
            return name, yaml.load(value, TextLoader if name == "labels" else yaml.SafeLoader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: of a date that is none
        raise BadOption(f"--set {name}: {value!r} is no YAML: {first_line(error)}") from error
    raise BadOption(f"--set takes members of model.yaml, activation=sigmoid or preprocess.crop=299, not {text!r}")


def import_model(order: Import) -> list[str]:
    """Write the folder of a version, load it from there as the service will, and only then put it into its place.

    Returns:
        What was done, in five lines.

    Raises:
        ModelFailed: what is wrong with the file, or with the model that it makes. Nothing is left of it.
        BadOption: what is asked for can't be.
        OSError: it can't be written.
    """
    to = order.to
    _refuse_existing(order)
    if len(to.parts) == 1 or not to.name or any(re.match(r"\.|.*@", part) for part in to.absolute().parts[-2:]):
        raise BadOption(
            "--to is REPOSITORY/NAME/VERSION, such as models/birds/1, and hides neither name nor version; "
            "in neither is an @"
        )
    if len(to.parts) == 2 and not re.fullmatch(r"v?\d[\d.]*", to.name):  # birds/1, in the repository's own folder
        raise BadOption(f"--to {to} has no version: it is REPOSITORY/NAME/VERSION, and {to}/1 would be one")
    labels = _labels(order)
    source, architecture = _source(order)
    with tempfile.TemporaryDirectory(prefix=".importing-", dir=_existing(to.absolute())) as place:
        folder = Path(place) / "version"
        folder.mkdir()
        if order.tokenizer is not None:
            shutil.copyfile(order.tokenizer, folder / _tokenizer(order)["tokenizer"])
        if architecture:
            found = _checkpoint(order, source, architecture, labels, folder)
        else:
            found = _model_file(order, source, labels)
        text = _written(order, found, folder)
        parse_spec(text, "model.yaml")
        card = _loaded(order, folder)
        _refuse_existing(order)  # it may have come meanwhile
        put(folder, to, Path(place) / "old")
    return list(_said(order, found, card))


def _refuse_existing(order: Import) -> None:
    if order.to.exists() and not order.replace:
        raise BadOption(f"{order.to} is there; --replace replaces it, another name for --to leaves it")


def put(folder: Path, to: Path, aside: Path) -> None:
    """Move a folder into its place, and what was there aside; back again where the folder can't be moved.

    Raises:
        OSError: it can't be moved; what was there is there.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    was_there = to.exists()
    if was_there:
        to.rename(aside)
    try:
        folder.rename(to)
    except OSError:
        if was_there:
            aside.rename(to)
        raise


def _existing(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.is_dir())


def _labels(order: Import) -> list[str] | None:
    if order.labels is None:
        try:
            return next((listed(value) for name, value in order.members if name == "labels"), None)
        except ValueError as error:
            raise BadOption(f"--set labels: {error}; of a file, --labels FILE") from error
    try:
        return from_file(order.labels.read_text(encoding="utf-8-sig"), order.labels.name)
    except ValueError as error:
        raise ModelFailed(f"labels {order.labels}: {error}") from error


def _source(order: Import) -> tuple[str, str]:
    """The source that builds it, and the architecture that it builds; empty for a file that holds it."""
    known = known_format(order.file)
    if not order.architecture:
        if known in ("onnx", "pt2"):
            return known, ""
        if known is None:
            raise ModelFailed(f"{order.file} is {foreign(order.file, 'torch') or 'no file of weights or of a model'}")
        raise BadOption(
            f"{order.file} holds weights without an architecture; name it: --architecture torchvision/resnet50, "
            "timm/resnet50 or, of your own code, module:function"
        )
    source, slash, architecture = order.architecture.partition("/")
    if not slash and re.fullmatch(r"[\w.]+:\w+", order.architecture):
        source, architecture = "python", order.architecture
    builders = [name for name in SOURCES if SOURCES[name].architecture is not False]
    if source not in builders or not architecture:
        meant = did_you_mean(source, builders)
        raise BadOption(
            f"--architecture is SOURCE/NAME, of {', '.join(builders)}, or module:function of your own code{meant}"
        )
    return source, architecture


def _checkpoint(order: Import, source: str, architecture: str, labels: list[str] | None, folder: Path) -> _Found:
    """Build the network once, with random weights, to see what the file holds of it."""
    from gradcam_service.registry.checkpoint import read_tensors
    from gradcam_service.registry.fit import Misfit, fit

    spec: dict[str, Any] = {"source": source, "architecture": architecture}
    tensors = read_tensors(order.file)
    built, sees = _built(order, spec, labels, folder)
    try:
        found = fit(built.module.state_dict(), tensors, order.take, any_head=True)
    except Misfit as error:
        raise ModelFailed(f"{order.file} doesn't fit {order.architecture}: {error}") from error
    if found.classes is not None and labels is not None and found.classes != len(labels):
        named = order.labels.name if order.labels else "the labels"
        raise ModelFailed(f"{order.file.name} has {found.classes} classes, {named} {len(labels)}")
    if found.classes is not None and labels is None:
        labels = [str(index) for index in range(found.classes)]
    spec |= {"weights": "model.safetensors"} | _preprocess(built.preprocess)
    note = f"{len(found.state)} tensors of {order.file.name}" + (f", {found.name}" if found.name else "")
    return _Found(spec, labels or [], note, sees, found)


def _built(order: Import, spec: dict[str, Any], labels: list[str] | None, folder: Path) -> tuple[Built, str]:
    """The network with random weights, and where its preprocessing is from."""
    from gradcam_service.registry.built import build

    sees = "of the architecture's published weights"
    if spec["source"] == "python":
        sees, spec = "assumed, ImageNet's", spec | {"preprocess": _assumed(_SIDE, _SIDE)}
    # Random weights mean as many classes as the builder likes, whatever the labels.
    given = spec | _tokenizer(order) | {"weights": "random:0", "labels": labels or ["none"]}
    tried = _with_members(given, order.members)
    parsed = parse_spec(yaml.safe_dump(tried), "model.yaml")
    try:
        return build(ModelFolder(parsed, folder, order.python_path)), sees
    except ServiceError:
        raise
    except (Exception, SystemExit) as error:  # whatever a builder does
        raise ModelFailed(f"{order.architecture} can't be built: {in_one_line(error)}") from error


def _tokenizer(order: Import) -> dict[str, str]:
    """What ``model.yaml`` says of it: a name of its own, whatever it was called, as ``labels.txt`` is of labels."""
    return {} if order.tokenizer is None else {"tokenizer": f"tokenizer{order.tokenizer.suffix}"}


def _model_file(order: Import, source: str, labels: list[str] | None) -> _Found:
    sides = _onnx_sides(order.file) if source == "onnx" else None
    spec = {"source": source, "weights": f"model.{source}", "preprocess": _assumed(*(sides or (_SIDE, _SIDE)))}
    return _Found(spec, labels or [], order.file.name, "assumed, ImageNet's")


def _onnx_sides(file: Path) -> tuple[int, int] | None:
    """Height and width that an ONNX model says it takes."""
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}  # inputs as well, before IR version 4
    inputs = [value.type.tensor_type.shape.dim for value in graph.input if value.name not in weights]
    images = [dimensions for dimensions in inputs if len(dimensions) == 4]  # beside which there may be tokens
    if len(images) != 1:
        return None
    _, *lengths = (length.dim_value for length in images[0])
    height, width = lengths[:2] if lengths[0] > lengths[2] > 0 else lengths[1:]
    return (height, width) if height and width else None


def _assumed(height: int, width: int) -> dict[str, Any]:
    size = {"resize": round(height / 0.875), "crop": height} if height == width else {"resize": [height, width]}
    return size | {"mean": [*_MEAN], "std": [*_STD]}


def _preprocess(preprocess: Preprocess) -> dict[str, Any]:
    said = {name: getattr(preprocess, name) for name in ("resize", "crop", "pad", "mean", "std", "interpolation")}
    plain = {name: [*value] if isinstance(value, tuple) else value for name, value in said.items()}
    return {"preprocess": {name: value for name, value in plain.items() if value not in (None, "bilinear")}}


def _with_members(spec: dict[str, Any], members: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    spec = dict(spec)
    for name, value in members:
        outer, _, inner = name.partition(".")
        within = (spec.get(outer) or {}) if inner else {}
        if not isinstance(within, dict):
            raise BadOption(f"--set {name}: {outer} has no members; it is said as --set {outer}=VALUE")
        spec[outer] = {**within, inner: value} if inner else value
    return spec


def _written(order: Import, found: _Found, folder: Path) -> str:
    """Write weights, labels and ``model.yaml``; the text of the last."""
    spec = dict(found.spec)
    weights = folder / spec["weights"]
    if found.fit is not None:
        from safetensors.torch import save_file

        save_file({name: tensor.detach().clone().contiguous() for name, tensor in found.fit.state.items()}, weights)
    else:
        _copy_model(order.file, weights)
    with weights.open("rb") as file:
        spec["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    if found.labels:
        spec["labels"] = "labels.txt"
        (folder / "labels.txt").write_text(to_file(found.labels), encoding="utf-8")
    spec |= _tokenizer(order)
    spec = _with_members(spec, ((name, value) for name, value in order.members if name != "labels"))
    if "task" not in spec:  # others have activations of their own
        spec.setdefault("activation", "softmax")
    lines = [f"# Of {order.file.name}, by gradcam import; what else may be said here: docs/models.md"]
    for name in ("description", "source", "architecture", "weights", "sha256", "labels", "activation", *spec):
        if name in spec:
            shown = yaml.safe_dump(
                spec.pop(name), default_flow_style=True, sort_keys=False, width=1000, allow_unicode=True
            )
            comment = _COMMENTS.get(name, "").format(found.sees)
            lines.append(f"{name}: {shown.splitlines()[0]}" + (f"  # {comment}" if comment else ""))
    text = "\n".join(lines) + "\n"
    (folder / "model.yaml").write_text(text, encoding="utf-8")
    return text


def _copy_model(file: Path, to: Path) -> None:
    """Copy a model, as one file."""
    if to.suffix == ".onnx":
        import onnx

        from gradcam_service.registry.onnx_file import other_files

        if other_files(onnx.load(file, load_external_data=False)):
            onnx.save(onnx.load(file), to)
            return
    shutil.copyfile(file, to)


def _loaded(order: Import, folder: Path) -> Card:
    import torch

    from gradcam_service.registry.loader import load

    name, version = order.to.absolute().parts[-2:]
    return load(Entry(name, version, LocalPlace(folder)), torch.device("cpu"), order.python_path).card


def _said(order: Import, found: _Found, card: Card) -> Iterator[str]:
    repository, (name, version) = order.to.absolute().parent.parent, order.to.absolute().parts[-2:]
    files = sorted(order.to.iterdir())
    left = f"; left: {', '.join([*found.fit.left][:3])}" if found.fit and found.fit.left else ""
    shown = ", ".join(card.labels[:5]) + (", …" if len(card.labels) > 5 else "")
    pixels = "×".join(map(str, card.preprocess.input_size))
    yield f"took    {found.note}{left}"
    unit = "words" if card.speaks else "classes"
    yield f"built   {order.architecture or card.source}, {len(card.labels)} {unit}: {shown}"
    yield f"sees    {pixels} pixels; mean, std and sizes are {found.sees}: see model.yaml"
    yield f"wrote   {order.to}: {', '.join(f'{file.name} ({file.stat().st_size:,} bytes)' for file in files)}"
    yield f"serve   GRADCAM_MODEL_REPOSITORY={repository} gradcam serve, and ask for model={name}@{version}"
