"""Tells what a file is that was given as a model's and is something else, by its first bytes. Torch-free."""

from __future__ import annotations

import contextlib
import re
import zipfile
from pathlib import Path
from typing import Literal

Format = Literal["torch", "safetensors", "onnx", "pt2"]
"""What models are read from; ``torch`` is what ``torch.save`` writes."""

_TO_ONNX = "write it as ONNX (docs/serve-your-model.md says how)"
_UNPACK = "unpack it, and name the file of weights in it"
_AGAIN = "fetch it again"

_BEGINNINGS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself: run git lfs pull"),
    (0, b"version https://hawser", "a Git LFS pointer, not the file itself: run git lfs pull"),
    (0, b"/annex/objects/", "a git-annex pointer, not the file itself: run git annex get"),
    (0, b"outs:\n", "a DVC pointer, not the file itself: run dvc pull"),
    (0, b"\x89HDF\r\n\x1a\n", f"HDF5, as Keras writes it: {_TO_ONNX}"),
    (4, b"TFL3", f"a TensorFlow Lite model: {_TO_ONNX}"),
    (0, b"\x08\x01\x12", f"a TensorFlow SavedModel: {_TO_ONNX}"),
    (0, b"\x93NUMPY", "an array of NumPy: save tensors by name, with safetensors.torch.save_file"),
    (0, b"GGUF", "a GGUF file, of language models: name the weights that it was made from"),
    (0, b"ftrt", "a TensorRT engine, of one kind of GPU: name the ONNX file that it was built from"),
    (0, b"\x1f\x8b", f"a gzip archive: {_UNPACK}"),
    (0, b"BZh", f"a bzip2 archive: {_UNPACK}"),
    (0, b"\xfd7zXZ\0", f"an xz archive: {_UNPACK}"),
    (0, b"\x28\xb5\x2f\xfd", f"a zstd archive: {_UNPACK}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z archive: {_UNPACK}"),
    (0, b"Rar!", f"a RAR archive: {_UNPACK}"),
    (257, b"ustar", f"a tar archive: {_UNPACK}"),
    (0, b"\x89PNG", "a picture"),
    (0, b"\xff\xd8\xff", "a picture"),
    (0, b"%PDF", "a PDF"),
)
_SCRIPT = r"(.*/)?constants\.pkl"
_MEMBERS = (
    (
        _SCRIPT,
        "a TorchScript archive, which holds code. Save its tensors, torch.save(torch.jit.load(file).state_dict(), "
        "'weights.pth'), or write it as ONNX (docs/serve-your-model.md)",
    ),
    (r"MAR-INF/.*", "an archive of TorchServe: unpack it, and name the serialized file in it"),
    (r"model\.weights\.h5|(.*/)?keras_metadata\.pb", f"a Keras model: {_TO_ONNX}"),
    (r"(.*/)?saved_model\.pb", f"a TensorFlow SavedModel: {_TO_ONNX}"),
    (r".*\.mlmodel", f"a Core ML model: {_TO_ONNX}"),
    (r"\.data/.*", "a package of torch.package, which holds code: save the model's state_dict() alone"),
    (r".*\.npy", "arrays of NumPy: save tensors by name, with safetensors.torch.save_file"),
)
_ELSEWHERE: dict[Format, str] = {
    "onnx": "an ONNX file: say source: onnx, and no architecture",
    "pt2": "a program of torch.export: say source: pt2, and no architecture",
}


def foreign(path: Path, wanted: Format) -> str:
    """Tell what a file is, and what to do about it, where it is evidently not of the format that is wanted.

    Args:
        path: a file that can be read.
        wanted: how it is to be read.

    Returns:
        ``a web page: …``; empty where it seems to be of that format, or nothing is known of it.

    Raises:
        OSError: it can't be read.
    """
    found = known_format(path) or _foreign(path, _head(path), path.stat().st_size)
    if found == wanted:
        return ""
    if found in _ELSEWHERE:
        return _ELSEWHERE[found]
    if found in ("torch", "safetensors"):
        what, suffix = ("a PyTorch checkpoint", ".pth") if found == "torch" else ("a safetensors file", ".safetensors")
        if wanted in _ELSEWHERE:
            return f"{what}, which holds no architecture: name a source that builds it (torchvision, timm, python)"
        return f"{what}: let its name end in {suffix}"
    return found


def foreign_folder(path: Path) -> str:
    """Tell what a folder is that was given as a file: ``a TensorFlow SavedModel: …``; empty where it is none."""
    if not path.is_dir():
        return ""
    if (path / "saved_model.pb").exists():
        return f"a TensorFlow SavedModel: {_TO_ONNX}"
    if (path / "config.json").exists():
        return "a folder of Hugging Face's: its files belong beside model.yaml, with source: transformers or timm"
    return "a folder"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)


def known_format(path: Path) -> Format | None:
    """Which of the formats that are read it seems to be; of none, None."""
    head = _head(path)
    if head.startswith(b"PK"):
        names = _names(path)
        if any(re.fullmatch(r"(.*/)?(archive_format|serialized_exported_program\.json)", name) for name in names):
            return "pt2"
        if any(re.fullmatch(_SCRIPT, name) for name in names):
            return None
        return "torch" if any(re.fullmatch(r"(.*/)?data\.pkl", name) for name in names) else None
    if head.startswith(b"\x80") and not head.startswith(b"\x80\x02."):
        return "torch"
    if re.match(rb"[^\0]{1,5}\0{3,7}\{", head[:9], re.DOTALL):
        return "safetensors"
    # The first two members of an ONNX model: the version of its format, and the name of what wrote it.
    return "onnx" if re.match(rb"\x08[\x03-\x20][\x12\x1a\x22\x28\x32\x3a\x42]", head) else None


def _foreign(path: Path, head: bytes, size: int) -> str:
    """What it is, as far as that is known."""
    if not head:
        return f"an empty file: {_AGAIN}"
    if not head.strip(b"\0"):
        return f"nothing but zeros, as a download leaves that broke off: {_AGAIN}"
    for start, mark, what in _BEGINNINGS:
        if head.startswith(mark, start):
            return what
    if head.startswith(b"PK"):
        return _archive(path, size)
    if re.match(rb"[\x81-\x8f\xde][\xa0-\xbf\xd9]", head):
        return f"msgpack, as Flax writes it: {_TO_ONNX}"
    return _text(head)


def _archive(path: Path, size: int) -> str:
    names = _names(path)
    if not names:
        return f"a zip archive that is damaged or was cut short at {size} bytes: {_AGAIN}"
    for pattern, what in _MEMBERS:
        if any(re.fullmatch(pattern, name) for name in names):
            return what
    return f"a zip archive of {', '.join(name[-40:] for name in names[:2])}…: {_UNPACK}"


def _names(path: Path) -> list[str]:
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as archive:  # whatever a damaged file leads zipfile to
        return archive.namelist()
    return []


def _text(head: bytes) -> str:
    text = head.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    if re.match(r"<(!doctype html|html|head|body)", text, re.IGNORECASE):
        return "a web page, as a sign-in or an error is: fetch the file itself"
    if '"weight_map"' in text:
        return "the index of a checkpoint in several files: save it as one (save_pretrained(…, max_shard_size='100GB'))"
    if text.startswith("<net "):
        return "a network of OpenVINO: name the ONNX file that it was made from"
    if "�" in text[:-1] or re.search(r"[\0-\x08\x0e-\x1f]", text):
        return ""
    kind = "XML" if text.startswith("<") else "JSON" if text.startswith("{") else "text"
    return f"{kind}, which begins {' '.join(text.split())[:60]!r}: fetch the file itself"
