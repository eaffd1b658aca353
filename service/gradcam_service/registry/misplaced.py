"""Files that look like a model's and lie where no model is read, which would else be passed over in silence."""

from __future__ import annotations

from collections.abc import Iterable

_SPECS = ("model.yaml", "model.yml", "model.yaml.txt", "model.yml.txt")
_ALIASES = ("aliases.yaml", "aliases.yml")
_WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".pth.tar", ".bin", ".onnx", ".pt2", ".h5", ".keras")
_MOST = 10


def misplaced(paths: Iterable[str]) -> list[str]:
    """Say of each folder in a repository that was meant for a model why it is none, in a sentence.

    Args:
        paths: of all files in the repository, such as ``birds/1/model.yaml``.
    """
    found = [path.split("/") for path in paths]
    versions = {tuple(parts[:2]) for parts in found if parts[2:] == ["model.yaml"]}
    said: dict[tuple[str, ...], str] = {}
    for wanted in (_of_spec, _of_aliases, _of_weights):
        for parts in found:
            if tuple(parts[:2]) not in versions and (reason := wanted(parts, {name for name, _ in versions})):
                said.setdefault(tuple(parts[:2][: len(parts) - 1]), f"{'/'.join(parts)} isn't read: {reason}")
    more = len(said) - _MOST
    return list(said.values())[:_MOST] + ([f"and {more} more"] if more > 0 else [])


def _of_spec(parts: list[str], models: set[str]) -> str:
    if parts[-1].lower() not in _SPECS:
        return ""
    match parts:
        case [_]:
            return "a repository has a folder for each model, and there one for each version: birds/1/model.yaml"
        case [version, _] if version.isdecimal():
            return "this is a model's own folder; the repository is the folder above it"
        case [name, file]:
            return f"a version is a folder; move it to {name}/1/model.yaml"
        case [_, _, file] if file != "model.yaml":
            return "the name must be model.yaml"
    return "it lies too deep; a version is name/version/model.yaml"


def _of_aliases(parts: list[str], models: set[str]) -> str:
    if parts[-1].lower() not in _ALIASES or (len(parts) == 2 and parts[1] == "aliases.yaml"):
        return ""
    return f"aliases are beside the versions, {parts[0] if len(parts) > 1 else 'birds'}/aliases.yaml"


def _of_weights(parts: list[str], models: set[str]) -> str:
    if len(parts) > 3 or not parts[-1].lower().endswith(_WEIGHTS) or (len(parts) == 2 and parts[0] in models):
        return ""
    return "there is no model.yaml beside it; gradcam import makes the folder of a version"
