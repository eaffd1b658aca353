"""The card of a loaded model: what it is and can do. Torch-free."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from gradcam_service.errors import BadOption, UnknownLayer, UnsupportedMethod, shortened
from gradcam_service.explain.activation import Activation
from gradcam_service.explain.methods import DEFAULT, METHODS
from gradcam_service.inputs import Takes
from gradcam_service.naming import did_you_mean
from gradcam_service.registry.class_names import class_index
from gradcam_service.registry.spec import Preprocess
from gradcam_service.tasks import TASKS
from gradcam_service.text import Text


class LayerCard(msgspec.Struct, frozen=True):
    """A layer a model can be explained at: its name and its feature maps' (K, h, w)."""

    name: str
    shape: tuple[int, int, int]


class MethodCard(msgspec.Struct, frozen=True):
    """An explanation method, as it applies to one model.

    Attributes:
        forward_passes: what it costs for one target at the default layer, with its default options; a backward pass
            counts as two.
        refused: why it can't explain this model; empty where it can.
    """

    name: str
    forward_passes: int
    refused: str = ""


class CheckCard(msgspec.Struct, frozen=True):
    """A check of a model at its load.

    Attributes:
        name: ``finite``, ``repeatable``, ``independent``, ``logits`` or ``gradient``.
        passed: whether nothing was found.
        detail: what was found; empty where nothing was.
    """

    name: str
    passed: bool
    detail: str = ""


class Computed(msgspec.Struct, frozen=True):
    """Model and runtime that computed an answer.

    Attributes:
        runtime: the feature maps.
        precision: in which.
        digest: of the model in that precision.
    """

    runtime: str
    precision: str
    digest: str


class Card(msgspec.Struct, frozen=True):
    """The card of a loaded model: what it is and can do, as ``GET /models`` tells.

    Attributes:
        digest: ``sha256:…`` over its model.yaml, labels, every weight, and the operator's code that built it: equal
            digests answer alike, to the rounding of what computes them; in another precision than float32 it has
            another digest.
        memory: bytes of its parameters and buffers, and of those that its runtime holds once more.
        runtime: what computes its feature maps.
        precision: that it computes them in.
        torch: the version of torch that computes the rest.
        layer: the name of the default layer.
        layers: those that every path crosses, and the default one.
        methods: every explanation method.
        method: the one by which is explained where a request names none.
        inner_layers: names of all others, inside of blocks and branches.
        input: what it takes.
        text: what of text it takes; None where it takes none.
        has_value: whether a value of each image is behind its scores.
        checks: what was looked at when it was loaded; see `gradcam_service.registry.checks`.
    """

    digest: str
    source: str
    weights: str
    memory: int
    task: str
    activation: Activation
    labels: list[str]
    preprocess: Preprocess
    batch: int
    runtime: str
    layer: str
    layers: list[LayerCard]
    methods: list[MethodCard]
    inner_layers: list[str] = []
    input: Takes = Takes()
    precision: Literal["float32", "bfloat16"] = "float32"
    torch: str = ""
    checks: list[CheckCard] = []
    method: str = DEFAULT
    text: Text | None = None
    has_value: bool = False

    def on_runtime(self, runtime: str, precision: str, more: int) -> Card:
        """The card of the same model on a runtime, which holds so many bytes once more.

        What is computed in another precision than float32 is answered otherwise, so it has another digest.
        """
        digest = self.digest
        if precision != "float32":
            digest = f"sha256:{hashlib.sha256(f'{digest} in {precision}'.encode()).hexdigest()}"
        changed: dict[str, Any] = {
            "digest": digest,
            "memory": self.memory + more,
            "runtime": runtime,
            "precision": precision,
        }
        return msgspec.structs.replace(self, **changed)

    @property
    def computed(self) -> Computed:
        """What computes its answers."""
        return Computed(self.runtime, self.precision, self.digest)

    def of_classes(self, scores: np.ndarray) -> np.ndarray:
        """Scores (classes,), without the value behind them."""
        return scores[: len(scores) - self.has_value]

    @property
    def speaks(self) -> bool:
        """Whether it answers in words, of which each is explained, and not with scores of classes."""
        return self.text is not None and TASKS[self.task].speaks

    @property
    def default_targets(self) -> int:
        """How many targets are explained at most where a request names none."""
        return self.text.words if self.text is not None and self.speaks else 1

    def method_names(self) -> list[str]:
        """The methods that can explain this model."""
        return [method.name for method in self.methods if not method.refused]

    def class_index(self, target: int | str) -> int:
        """The class that a request's target means; see `gradcam_service.registry.class_names`.

        Raises:
            UnknownTarget: no class has that index or name, or several have that name.
        """
        return class_index(target, self.labels)

    def check_question(self, method: str, layer: str, options: Mapping[str, float]) -> None:
        """Refuse a method or a layer that this model doesn't have, and options that are none of the method's.

        Raises:
            UnsupportedMethod: saying why, and naming the methods that work.
            BadOption: naming the options that the method has, or the values that it takes.
            UnknownLayer: naming the layers that work.
        """
        found = next((card for card in self.methods if card.name == method), None)
        if found is None or found.refused:
            reason = f": {found.refused}" if found else ""
            meant = "" if found else did_you_mean(method, (card.name for card in self.methods))
            works = ", ".join(self.method_names())
            raise UnsupportedMethod(
                f"this model can't be explained by {shortened(method)!r}{reason}{meant}; it can by {works}"
            )
        known = METHODS[method].options
        if strange := sorted(options.keys() - known.keys()):
            own = ", ".join(known) or "none of its own"
            others = ", ".join(name for name, other in METHODS.items() if strange[0] in other.options)
            meant = f", but of {others}" if others else did_you_mean(strange[0], known)
            raise BadOption(f"{strange[0]!r} is no option of {method}{meant}; it has {own}")
        if wrong := METHODS[method].wrong_with(options):
            raise BadOption(wrong)
        listed = [card.name for card in self.layers]
        if layer not in ("auto", *listed, *self.inner_layers):
            raise UnknownLayer.named(layer, listed, (*listed, *self.inner_layers))
