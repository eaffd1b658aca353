"""Files that are no weights, or no model, are told what they are and what to do with them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import cache, partial
from io import BytesIO
from pathlib import Path

import onnx
import pytest
import safetensors.torch
import torch
from torch import nn

from gradcam_service.errors import ModelFailed
from gradcam_service.registry.built import build
from gradcam_service.registry.checkpoint import read_tensors
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.repository import parse_spec


@cache
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


def zipped(*names: str) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return file.getvalue()


@cache
def scripted() -> bytes:
    file = BytesIO()
    torch.jit.save(torch.jit.trace(network(), torch.ones(1, 3, 8, 8)), file)
    return file.getvalue()


@cache
def exported() -> bytes:
    file = BytesIO()
    torch.export.save(torch.export.export(network(), (torch.ones(1, 3, 8, 8),)), file)
    return file.getvalue()


def as_onnx() -> bytes:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value])
    return onnx.helper.make_model(graph).SerializeToString()


def saved() -> bytes:
    file = BytesIO()
    torch.save(network().state_dict(), file)
    return file.getvalue()


Content = bytes | Callable[[], bytes]
FOREIGN: dict[str, tuple[Content, str]] = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "a Git LFS pointer.*git lfs pull"),
    "annex": (b"/annex/objects/MD5E-s1\n", "git annex get"),
    "dvc": (b"outs:\n- md5: 1\n  path: w.pth\n", "dvc pull"),
    "html": (b"\n<!DOCTYPE html><html>", "a web page"),
    "html without a doctype": (b"<HTML><head>", "a web page"),
    "a storage's error": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "XML, which begins.*AccessDenied"),
    "an API's error": (b'{"error": "Repository not found"}', "JSON, which begins .*not found"),
    "text": (b"Entry not found", "text, which begins 'Entry not found'"),
    "an index": (b'{"metadata": {}, "weight_map": {"a": "b"}}', "index of a checkpoint in several files"),
    "empty": (b"", "an empty file"),
    "zeros": (bytes(100), "nothing but zeros"),
    "Keras": (b"\x89HDF\r\n\x1a\n" + bytes(9), "HDF5.*ONNX"),
    "TF Lite": (b"\x1c\0\0\0TFL3" + bytes(9), "TensorFlow Lite"),
    "SavedModel": (b"\x08\x01\x12\xd1\x05" + bytes(9), "SavedModel.*ONNX"),
    "gzip": (b"\x1f\x8b\x08\0", "gzip archive: unpack"),
    "tar": (b"w.pth" + bytes(252) + b"ustar\x0000", "tar archive: unpack"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(9), "7z archive"),
    "numpy": (b"\x93NUMPY\x01\0", "array of NumPy"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "a picture"),
    "Flax": (b"\x81\xa6params\x81", "msgpack"),
    "safetensors": (
        lambda: safetensors.torch.save(network().state_dict()),
        "safetensors file: let its name end in .safetensors",
    ),
    "ONNX": (as_onnx, "an ONNX file: say source: onnx"),
    "TorchScript": (scripted, r"a TorchScript archive.*torch\.jit\.load"),
    "torch.export": (exported, "a program of torch.export: say source: pt2"),
    "Keras 3": (partial(zipped, "metadata.json", "config.json", "model.weights.h5"), "a Keras model"),
    "a SavedModel zipped": (partial(zipped, "m/saved_model.pb", "m/variables/x"), "a TensorFlow SavedModel"),
    "TorchServe": (partial(zipped, "w.pth", "MAR-INF/MANIFEST.json"), "archive of TorchServe"),
    "a zip of something": (partial(zipped, "a.pth", "b.txt"), r"a zip archive of a\.pth, b\.txt.*unpack"),
    "a zip cut short": (b"PK\x03\x04" + bytes(50), "cut short at 54 bytes"),
}  # fmt: skip


NO_MODEL = {kind: FOREIGN[kind] for kind in FOREIGN if kind not in ("safetensors", "empty")}
NO_MODEL["a checkpoint"] = (saved, "a PyTorch checkpoint, which holds no architecture")


def write(path: Path, content: Content) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content())


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_checkpoint_is_told_what_it_is(tmp_path: Path, kind: str, name: str):
    if (kind, name) == ("safetensors", "w.safetensors"):
        pytest.skip("that is one")
    content, says = FOREIGN[kind]
    write(tmp_path / name, content)
    with pytest.raises(ModelFailed, match=says) as caught:
        read_tensors(tmp_path / name)
    assert "\n" not in caught.value.detail
    assert len(caught.value.detail.replace(str(tmp_path), "")) <= 280


def test_a_checkpoint_named_safetensors_says_what_to_do(tmp_path: Path):
    (tmp_path / "w.safetensors").write_bytes(saved())
    with pytest.raises(ModelFailed, match=r"a PyTorch checkpoint: let its name end in \.pth"):
        read_tensors(tmp_path / "w.safetensors")


@pytest.mark.parametrize(("source", "own"), [("onnx", "ONNX"), ("pt2", "torch.export")])
@pytest.mark.parametrize("kind", NO_MODEL)
def test_what_is_no_model_is_told_what_it_is(tmp_path: Path, source: str, own: str, kind: str):
    if kind == own:
        pytest.skip("that is one")
    content, says = NO_MODEL[kind]
    write(tmp_path / "m.bin", content)
    spec = f"source: {source}\nweights: m.bin\npreprocess: {{pad: 64, mean: [0, 0, 0], std: [1, 1, 1]}}\n"
    with pytest.raises(ModelFailed, match=says) as caught:
        build(ModelFolder(parse_spec(spec, "model.yaml"), tmp_path))
    assert len(caught.value.detail.replace(str(tmp_path), "")) <= 280


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("saved_model.pb", "a TensorFlow SavedModel"),
        ("config.json", "with source: transformers"),
        ("x", "a folder"),
    ],
)
def test_a_folder_is_told_what_it_is(tmp_path: Path, name: str, says: str):
    (tmp_path / "w.pth").mkdir()
    (tmp_path / "w.pth" / name).touch()
    with pytest.raises(ModelFailed, match=rf"weights w\.pth is no file but .*{says}"):
        build(ModelFolder(parse_spec("source: torchvision\narchitecture: alexnet\nweights: w.pth\n", "x"), tmp_path))
