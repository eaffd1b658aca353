"""``gradcam kserve``: serves what KServe has put into a folder, under the name of the InferenceService.

KServe unpacks what ``storageUri`` names into one folder, so that a model's own name and version are usually gone.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import yaml

from gradcam_service.errors import BadSettings, ModelFailed, first_line
from gradcam_service.explain.methods import METHODS, in_order
from gradcam_service.naming import did_you_mean
from gradcam_service.registry.places import inside
from gradcam_service.registry.spec import Preprocess

if TYPE_CHECKING:
    from onnx import ModelProto

_PORT = 8080
"""Where KServe looks for a model, unless it says otherwise."""
_BATCH = 32
"""Images that a predictor is asked about at a time."""


@dataclass(frozen=True)
class Arguments:
    """What ``gradcam kserve`` is told, by whoever writes the manifest and by KServe, which appends.

    Attributes:
        model_name: of the InferenceService.
        model_dir: holds what ``storageUri`` names.
        predictor_host: host, or host:port, of the predictor that this explains.
        predictor_protocol: of the predictor, where KServe says so.
        http_port: to listen at.
        grpc_port: likewise.
        preprocess: of a model that doesn't say how pictures are prepared for it.
    """

    model_name: str | None = None
    model_dir: Path = Path("/mnt/models")
    predictor_host: str | None = None
    predictor_protocol: str | None = None
    http_port: int | None = None
    grpc_port: int | None = None
    preprocess: Literal["imagenet"] | None = None

    @property
    def name(self) -> str:
        """What the model is called by those who ask for it."""
        return self.model_name or os.environ.get("INFERENCE_SERVICE_NAME") or "model"


@contextmanager
def arranged(given: Arguments) -> Iterator[dict[str, Any]]:
    """The settings that differ from those of the environment, with a repository that lasts as long as the block.

    Raises:
        BadSettings: there is no model, or no telling what it takes.
    """
    with tempfile.TemporaryDirectory(prefix="gradcam-kserve-") as folder:
        arrange(given, Path(folder))
        yield {"model_repository": folder, "embedded": False, "default_model": given.name} | _listening(given)


def _listening(given: Arguments) -> dict[str, Any]:
    """Where to listen: as told, else as the environment says, else where KServe looks."""
    chosen: dict[str, Any] = {"grpc_port": given.grpc_port, "port": given.http_port}
    if given.http_port is None and not os.environ.get("GRADCAM_PORT"):
        chosen["port"] = os.environ.get("PORT") or _PORT
    return chosen if os.environ.get("GRADCAM_HOST") else chosen | {"host": "0.0.0.0"}


def arrange(given: Arguments, repository: Path) -> None:
    """Make a repository of what is in the folder of models, in which the InferenceService's name is a model's.

    In this order: ``model.yaml``; ``<version>/model.yaml``; ``<name>/<version>/model.yaml``; an ONNX file; and without
    any of these, the predictor.

    Raises:
        BadSettings: there is nothing of that, or no telling which of several models is meant, or what one takes.
    """
    if not re.fullmatch(r"[^@/]+", given.name):
        raise BadSettings(f"--model_name {given.name}: a model's name has no @ and no /")
    # Not resolved: a modelcar's folder is a link through /proc/<pid>/root, which can be followed but has no other name.
    source, own = given.model_dir.absolute(), repository / given.name
    if (source / "model.yaml").is_file():
        own.mkdir()
        (own / "1").symlink_to(source)
    elif any(source.glob("*/model.yaml")):
        own.symlink_to(source)
    elif found := sorted({path.parents[1] for path in source.glob("*/*/model.yaml")}):
        meant = _meant(found, given.name)
        for folder in found:
            (own if folder == meant else repository / folder.name).symlink_to(folder)
    elif onnx := _onnx(source):
        _write(own / "1", *_of_onnx(given, onnx))
    elif given.predictor_host:
        _write(own / "1", _predictor_spec(given))
    else:
        raise BadSettings(
            f"there is no model in {source}: model.yaml, <version>/model.yaml, <name>/<version>/model.yaml or an ONNX "
            "file would be one; or --predictor_host names the predictor that is to be explained"
        )


def _meant(folders: list[Path], name: str) -> Path:
    """The folder of the model that is asked for by the InferenceService's name."""
    if len(folders) == 1:
        return folders[0]
    wanted = next((folder for folder in folders if folder.name == name), None)
    if wanted is None:
        names = ", ".join(folder.name for folder in folders)
        raise BadSettings(f"there are several models, {names}, and none is called {name}; --model_name says which")
    return wanted


def _onnx(source: Path) -> Path | None:
    """The one ONNX file there is: by itself, or in a model of Triton's, or in a repository of Triton's of one model."""
    for pattern in ("*.onnx", "*/model.onnx", "*/*/model.onnx"):
        found = [path for path in sorted(source.glob(pattern)) if path.is_file()]
        if len(found) > 1:
            raise BadSettings(f"there are several ONNX files in {source}; a model.yaml says which is the model")
        if found:
            return found[0]
    return None


def _of_onnx(given: Arguments, file: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    """A ``model.yaml`` for an ONNX file that comes without one, and the files that belong to it, by name.

    Raises:
        BadSettings: it is none, nothing says how pictures are prepared for it, or a file of its own is missing.
    """
    from gradcam_service.registry.onnx_file import exported_from, not_for_serving, other_files

    model = _read(file)
    if exported := exported_from(model):
        raise BadSettings(not_for_serving(file, exported))
    if given.preprocess is None:
        raise BadSettings(
            f"nothing says what {file} takes: how a picture is resized, and the mean and standard deviation of its "
            "colours. A model.yaml beside it does, or --preprocess imagenet, if it was trained so"
        )
    files = {file.name: file} | {name: _there(file, name) for name in other_files(model)}
    spec = {"source": "onnx", "weights": file.name, "preprocess": _imagenet(_input_size(file, model))}
    if labels := _labels(given.model_dir, file):
        spec["labels"] = labels.name
        files[labels.name] = labels
    return spec, files


def _read(file: Path) -> ModelProto:
    """An ONNX model, without the tensors that it keeps in other files."""
    import onnx
    from google.protobuf.message import DecodeError

    from gradcam_service.registry.foreign import foreign

    try:
        return onnx.load(file, load_external_data=False)
    except DecodeError as error:
        raise BadSettings(f"{file} is {foreign(file, 'onnx') or f'no ONNX model: {first_line(error)}'}") from error


def _there(namer: Path, name: str) -> Path:
    """The file that another names, beside which it lies.

    Raises:
        BadSettings: it isn't there, or lies elsewhere.
    """
    try:
        file = inside(namer.parent, name)
    except (ModelFailed, OSError, RuntimeError, ValueError) as error:
        raise BadSettings(f"{namer} names {name!r}, which is no file beside it") from error
    if not file.is_file():
        hint = did_you_mean(name, (path.name for path in namer.parent.iterdir()))
        raise BadSettings(f"{namer} names {name}, which is not there{hint}; put it beside {namer.name}")
    return file


def _labels(source: Path, file: Path) -> Path | None:
    """The file of labels that Triton's configuration names, which lies in a folder above the model's file.

    Raises:
        BadSettings: it names one that isn't there.
    """
    above = (folder / "config.pbtxt" for folder in file.parents if folder.is_relative_to(source))
    config = next(filter(Path.is_file, above), None)
    text = config.read_text(errors="replace") if config else ""
    named = re.search(r"""^[^#\n]*\blabel_filename\s*:\s*["']([^"'\n]+)["']""", text, re.MULTILINE)
    return _there(config, named[1]) if config and named else None


def _input_size(file: Path, model: ModelProto) -> tuple[int, int]:
    """(H, W) of an ONNX model's input.

    Raises:
        BadSettings: it takes any size, or no images.
    """
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.type.tensor_type.shape.dim for value in model.graph.input if value.name not in initial]
    shapes = [[side.dim_value for side in sides] for sides in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        shown = ", ".join(str([side or "?" for side in sides]) for sides in shapes)
        raise BadSettings(f"{file} takes {shown}, no images (N, C, H, W); a model.yaml beside it could say more")
    _, first, second, last = shapes[0]
    size = (second, last) if first in (1, 3) else (first, second)
    if not all(size):
        raise BadSettings(f"{file} takes images of any size; a model.yaml beside it says which is meant")
    return size


def _predictor_spec(given: Arguments) -> dict[str, Any]:
    """A ``model.yaml`` for a model that another server has, explained by the first method that needs scores alone."""
    known = {"protocol": given.predictor_protocol, "preprocess": given.preprocess}
    options = {"url": f"http://{given.predictor_host}", "model": given.name} | {k: v for k, v in known.items() if v}
    method = next(name for name in in_order() if not METHODS[name].needs)
    spec = {"source": "predictor", "options": options, "activation": "none", "method": method}
    return spec | {"runtime": "eager", "batch": _BATCH}


def _imagenet(size: tuple[int, int]) -> dict[str, Any]:
    made = Preprocess.imagenet(size)
    return {"mean": list(made.mean), "std": list(made.std), "resize": made.resize, "crop": list(size)}


def _write(folder: Path, spec: Mapping[str, Any], files: Mapping[str, Path] = MappingProxyType({})) -> None:
    """Write a version: only what lies in its own folder is read, so that files are copied.

    Raises:
        BadSettings: there is no room for them.
    """
    folder.mkdir(parents=True)
    for name, file in files.items():
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(file, copy)
        except OSError as error:
            raise BadSettings(
                f"{file} can't be copied to {copy}: {error.strerror}. It takes {file.stat().st_size:,} bytes there; "
                "TMPDIR names another folder, and a model.yaml beside the file spares the copy"
            ) from error
    (folder / "model.yaml").write_text(yaml.safe_dump(dict(spec)))
