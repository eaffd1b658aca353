"""Labels as people write them: a line each, a list, or a mapping from or to the classes' indices. Torch-free."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from gradcam_service.errors import first_line, shortened

if TYPE_CHECKING:
    from gradcam_service.registry.spec import Spec


class TextLoader(yaml.SafeLoader):
    """Loader of YAML in which every scalar is the text that is written: no, 007, null."""

    def construct_document(self, node: yaml.Node) -> object:
        """Construct it once all of it is text."""
        as_text(node)
        return super().construct_document(node)


def as_text(node: yaml.Node) -> None:
    """Have all scalars of a YAML node read as the text that is written."""
    nodes, known = [node], set[int]()
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.ScalarNode):
            node.tag = "tag:yaml.org,2002:str"
        elif id(node) not in known:  # an alias may lead back
            known.add(id(node))
            nodes += (part for one in node.value for part in (one if isinstance(node, yaml.MappingNode) else [one]))


def from_file(text: str, name: str) -> list[str]:
    """Read the labels of a file: a list or mapping where its name or beginning says so, else a label a line.

    What editors leave is no part of a label: blanks around it and empty lines at the end. Lines end at line feeds
    alone, for a label may hold one of the other characters at which Python's ``splitlines`` would end it.

    Raises:
        ValueError: it is a list or a mapping, but not of labels; or there are none in it.
    """
    text = text.rstrip()
    if not text:
        raise ValueError("labels are a line for each class; there is none")
    named_so = name.lower().endswith((".json", ".yaml", ".yml"))
    if named_so or text.lstrip().startswith(("[", "{")):
        try:
            value = _parsed(text)
        except yaml.YAMLError as error:
            if named_so:
                raise ValueError(f"neither JSON nor YAML: {first_line(error)}") from error
        else:
            return listed(value)
    return [line.strip() for line in text.split("\n")]


def other_number(spec: Spec, classes: int, labels: int) -> str:
    """``m.pth has 5 classes, labels.txt 4``: what to say where there are more labels than classes, or fewer."""
    model = spec.weights if spec.weights and Path(spec.weights).suffix else "the model"
    if spec.labels is None:
        named = "its own labels"
    else:
        named = spec.labels if isinstance(spec.labels, str) else "the labels in model.yaml"
    return f"{model} has {classes} class{'es' if classes > 1 else ''}, {named} {labels}"


def to_file(labels: list[str]) -> str:
    """Text of a file from which `from_file` reads these labels: a line each, or JSON where those would be misread."""
    if all(labels) and not any("\n" in label for label in labels) and not labels[0].startswith(("[", "{")):
        return "".join(f"{label}\n" for label in labels)
    return json.dumps(labels, ensure_ascii=False, indent=1) + "\n"


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:  # as Python writes a dict, which is YAML
        return yaml.load(text, TextLoader)


_EXPECTED = 'labels are a list, or a mapping such as {"0": "cat"}'


def listed(value: object) -> list[str]:
    """Put labels into the order of their classes.

    Args:
        value: a list of labels; ``{"0": "cat"}``, its keys numbers or numerals, as Hugging Face's ``id2label``;
            ``{"0": ["n02123045", "tabby"]}``, as TorchServe's ``index_to_name.json``, of which the last is taken; or
            ``{"cat": 0}``, as torchvision's ``class_to_idx``.

    Raises:
        ValueError: it is none of these, or doesn't name every class once.
    """
    if isinstance(value, list) and value:
        return [_label(one) for one in value]
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{_EXPECTED}, and not empty")
    if not any(map(_is_index, value)) and all(map(_is_index, value.values())):
        value = _inverted(value)
    if strange := [key for key in value if not _is_index(key)]:
        raise ValueError(f"{_EXPECTED}; {shortened(str(strange[0]))!r} is no index")
    by_index = {int(key): one for key, one in value.items()}
    if missing := set(range(len(value))) - by_index.keys():
        raise ValueError(f"{_EXPECTED}, one for each class from 0; class {min(missing)} has none")
    return [_label(by_index[index]) for index in range(len(value))]


def _inverted(indices: dict[str, int | str]) -> dict[int | str, str]:
    inverted = {index: label for label, index in indices.items()}
    if len(inverted) < len(indices):
        raise ValueError("labels are of different classes; two have the same index")
    return inverted


def _label(value: object) -> str:
    if isinstance(value, list) and value:
        value = value[-1]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"labels are text, and {shortened(json.dumps(value, default=str))} is none")
    return str(value).strip()


def _is_index(value: object) -> bool:
    return (type(value) is int and value >= 0) or (isinstance(value, str) and value.isascii() and value.isdecimal())
