"""Finds the weights of a network among the tensors of a file: in which dictionary, under which prefix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from gradcam_service.errors import shortened
from gradcam_service.registry.checkpoint import Tensors, some
from gradcam_service.registry.efficientnet_pytorch import timm_names

_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts of names that wrappers add, wherever they wrap: DataParallel, torch.compile, FSDP."""

_AUXILIARY = r"aux(iliary)?_?\d*(logits|classifiers?|heads?|fc)?\d*"
_UNUSED = re.compile(rf"num_batches_tracked|{_AUXILIARY}", re.IGNORECASE)
"""Parts of names of what answers nobody: counters, and heads of training alone, as of GoogLeNet and Inception."""

_NO_PART = re.compile(
    rf"{_AUXILIARY}|\w*(loss|criterion)\w*|\w+_(metrics?|acc(uracy)?)|(bce|ce|nll)(_with_logits)?"
    r"|class_weights?|pos_weight|total_ops|total_params|attn_mask|relative_coords_table",
    re.IGNORECASE,
)
"""Parts of names of what is evidently no part of a network that answers: of its training, or counted and computed."""

_BESIDE = re.compile(r"metrics?|acc(uracy)?|(\w*_)?(ema|teacher)(_\w*)?", re.IGNORECASE)
"""The same, beside a network's own prefix alone: within it, ``ema`` and ``acc`` are parts of networks, too."""


class Misfit(Exception):
    """There are no weights of a network in a file.

    Args:
        reason: what is wrong, for a sentence.
        classes: of the head in the file, where all but the number of classes fits.
    """

    def __init__(self, reason: str, classes: int | None = None) -> None:
        super().__init__(reason)
        self.classes = classes


@dataclass(frozen=True)
class Fit:
    """Weights of a network, found in a file.

    Attributes:
        place: of the dictionary that holds them; empty for the file's own.
        prefix: that their names have there, with its dot.
        state: tensors by the network's names, of its shapes; without what answers nobody and isn't there, or is of
            another shape.
        left: what else that dictionary holds.
        classes: of a head of another number of classes than the network's; None where it has the same.
    """

    place: str
    prefix: str
    state: dict[str, Tensor]
    left: dict[str, Tensor]
    classes: int | None = None

    @property
    def name(self) -> str:
        """Where they are: ``state_dict.module``; empty where they are all that the file holds."""
        return ".".join(part for part in (self.place, self.prefix.rstrip(".")) if part)


def fit(network: Mapping[str, Tensor], tensors: Tensors, take: str | None = None, any_head: bool = False) -> Fit:
    """Find a network's weights among the tensors of a file: in one dictionary, under one prefix.

    All that a network answers with must be there. What else that dictionary holds must evidently be no part of it: an
    auxiliary head, something of the training. Other dictionaries may hold anything, and so may other prefixes where one
    is taken by its name. Names of efficientnet-pytorch are taken for timm's.

    Args:
        network: its state dict.
        tensors: of the file.
        take: the only place and prefix, `Fit.name`, to look at; None for all.
        any_head: whether the head may have another number of classes.

    Raises:
        Misfit: they are not there, or in two places with different values.
    """
    keys = {name: tensor for name, tensor in network.items() if isinstance(tensor, Tensor)}
    tensors = {place: timm_names(named, keys) for place, named in tensors.items()}
    found = [one for one in _candidates(keys, tensors) if take is None or one.name == take]
    fits = [one for one in found if not _missing(keys, one)]
    fits = [one for one in fits if not _unlike(keys, one)] or fits[:1]
    if not fits:
        return _within_wrapper(keys, tensors, take, any_head) or _no_fit(keys, found, tensors, take)
    chosen, *others = fits
    if other := next((one for one in others if not _alike(one, chosen)), None):
        both = " and ".join(repr(one.name or "the file itself") for one in (chosen, other))
        raise Misfit(f"{both} would both fit; save one alone, or choose one with gradcam import --take")
    if unlike := _unlike(keys, chosen):
        misfit = _misfit(keys, chosen, unlike)
        if misfit.classes is None or not any_head:
            raise misfit
        chosen = replace(chosen, classes=misfit.classes)
    if left := [name for name in _unknown(chosen, others) if take is None or name.startswith(chosen.prefix)]:
        raise Misfit(f"it has no {some(left)}; is it another architecture?")
    return _without_other_heads(keys, chosen)


def _candidates(keys: Mapping[str, Tensor], tensors: Tensors) -> Iterator[Fit]:
    """Every place and prefix with tensors of its names, then those of several prefixes or places together."""
    together = {
        f"{place}.{name}" if place else name: tensor for place in tensors for name, tensor in tensors[place].items()
    }
    for place, named in (*tensors.items(), ("", together)):
        unwrapped = _unwrapped(named, keys)
        for plain in (named,) if unwrapped.keys() == named.keys() else (named, unwrapped):
            counts: Counter[str] = Counter()
            for name in plain:
                parts = name.split(".")
                for start in range(len(parts)):
                    if ".".join(parts[start:]) in keys:
                        counts["".join(f"{part}." for part in parts[:start])] += 1
            for prefix, _ in counts.most_common(8):
                state = {key: plain[prefix + key] for key in keys if prefix + key in plain}
                taken = {prefix + key for key in state}
                yield Fit(place, prefix, state, {name: plain[name] for name in plain if name not in taken})
        if one := _by_ends(place, unwrapped, keys):
            yield one


def _by_ends(place: str, named: dict[str, Tensor], keys: Collection[str]) -> Fit | None:
    """Parts of a network under different prefixes, ``backbone.conv1`` and ``head.fc``, where none is there twice."""
    state, left = dict[str, Tensor](), dict[str, Tensor]()
    for name, tensor in named.items():
        ends = (name[start.end() :] for start in re.finditer(r"^|\.", name))
        key = next((end for end in ends if end in keys), None)  # the longest
        if key in state:
            return None
        if key is None:
            left[name] = tensor
        else:
            state[key] = tensor
    return Fit(place, "", state, left) if state else None


def _unwrapped(named: dict[str, Tensor], keys: Collection[str]) -> dict[str, Tensor]:
    """Tensors by their names without what wrappers have added to them, but for wrappers that the network has too."""
    added = _WRAPPERS - {part for key in keys for part in key.split(".")}
    return {".".join(part for part in name.split(".") if part not in added): named[name] for name in named}


def _within_wrapper(keys: Mapping[str, Tensor], tensors: Tensors, take: str | None, any_head: bool) -> Fit | None:
    """The weights of a network that was wrapped after they were saved: all its own names begin alike."""
    firsts = {key.partition(".")[0] for key in keys}
    if len(firsts) != 1 or not all("." in key for key in keys):
        return None
    own = f"{firsts.pop()}."
    try:
        inner = fit({key.removeprefix(own): tensor for key, tensor in keys.items()}, tensors, take, any_head)
    except Misfit as error:
        if error.classes is not None:
            raise
        return None
    return replace(inner, state={own + name: tensor for name, tensor in inner.state.items()})


def _alike(one: Fit, other: Fit) -> bool:
    """Whether two are the same weights, as of a module that two attributes name."""
    return one.state.keys() == other.state.keys() and all(
        tensor is one.state[name] or torch.equal(tensor, one.state[name]) for name, tensor in other.state.items()
    )


def _missing(keys: Mapping[str, Tensor], one: Fit) -> list[str]:
    return [key for key in keys if key not in one.state and not _is_unused(key)]


def _is_unused(key: str) -> bool:
    return any(map(_UNUSED.fullmatch, key.split(".")))


def _reshaped(keys: Mapping[str, Tensor], one: Fit) -> list[str]:
    """Names of tensors that are of another shape than the network's."""
    return [key for key, tensor in one.state.items() if not is_lazy(keys[key]) and tensor.shape != keys[key].shape]


def _unlike(keys: Mapping[str, Tensor], one: Fit) -> list[str]:
    """The same, of those that a network answers with."""
    return [key for key in _reshaped(keys, one) if not _is_unused(key)]


def _without_other_heads(keys: Mapping[str, Tensor], one: Fit) -> Fit:
    """Leave out auxiliary heads of other shapes, as where ``fc`` alone was replaced for other classes."""
    heads = {key: one.state[key] for key in _reshaped(keys, one) if _is_unused(key)}
    state = {key: tensor for key, tensor in one.state.items() if key not in heads}
    return replace(one, state=state, left=one.left | {one.prefix + key: tensor for key, tensor in heads.items()})


def _unknown(one: Fit, others: Collection[Fit] = ()) -> list[str]:
    """Names of what is left and may be part of a network: numbers that were learned, and are none of the training's."""
    elsewhere = {id(tensor) for other in others for tensor in other.state.values()}
    return [
        name
        for name, tensor in one.left.items()
        if id(tensor) not in elsewhere
        and (tensor.is_floating_point() or tensor.is_complex())
        and not _is_no_part(name.split("."), one.prefix.split(".")[:-1])
    ]


def _is_no_part(parts: list[str], prefix: list[str]) -> bool:
    """Whether a name says that a tensor is none of the network whose names begin with a prefix."""
    beside = next((part for part, own in zip(parts, prefix, strict=False) if part != own), "")
    return any(map(_NO_PART.fullmatch, parts)) or bool(_BESIDE.fullmatch(beside))


def _misfit(keys: Mapping[str, Tensor], one: Fit, unlike: list[str]) -> Misfit:
    """What is wrong where tensors are of other shapes: often, that the head has another number of classes."""
    shapes = [(tuple(one.state[key].shape), tuple(keys[key].shape)) for key in unlike]
    there, here = shapes[0]
    if there and here and all(a[1:] == b[1:] and (a[:1], b[:1]) == (there[:1], here[:1]) for a, b in shapes):
        reason = f"the head has {there[0]} classes, but is built with {here[0]}"
        return Misfit(f"size mismatch for {some(unlike, 2)}: {reason}", there[0])
    return Misfit(f"size mismatch for {some(unlike, 2)}: {there} in the file, but built with {here}")


def _no_fit(keys: Mapping[str, Tensor], found: list[Fit], tensors: Tensors, take: str | None) -> Fit:
    if not found:
        place, named = max(tensors.items(), key=lambda item: len(item[1]))
        where = shortened(take or place)
        raise Misfit(
            f"it has {some(keys, 2)}, but the file {some(named, 2)}" + (f" (looked at: {where})" if where else "")
        )
    nearest = max(found, key=lambda one: len(one.state))
    missing, unknown = _missing(keys, nearest), _unknown(nearest)
    reason = f"{len(missing)} of its {len(keys)} tensors are missing ({some(missing, 2)})"
    raise Misfit(reason + (f", and it has no {some(unknown, 2)}" if unknown else ""))
