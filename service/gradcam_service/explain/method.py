"""Description of an explanation method by itself, so that nobody else need know it. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from gradcam_service.explain.arrays import Array as Array
from gradcam_service.explain.arrays import arrays as arrays
from gradcam_service.maps import MapKind

if TYPE_CHECKING:
    from gradcam_service.explain.objectives import Objective
    from gradcam_service.explain.subject import Steps

GRADIENT = 3
"""A forward and a backward pass, in forward passes."""


class Need(Enum):
    """Requirement of a method on a network at the layer that it explains."""

    LINEAR_HEAD = auto()
    """That the feature maps are averaged and fed to one linear layer."""
    RELUS = auto()
    """No other rectifiers than ReLU."""
    INPUT_GRADIENT = auto()
    """The gradient of a score with respect to the image."""
    LAYER_GRADIENT = auto()
    """The gradient of a score with respect to the feature maps."""
    FEATURES = auto()
    """Feature maps with a spatial extent; who needs anything else of a layer needs them, too."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """A number that requests may set, under its name in `Method.options`.

    Attributes:
        default: whose type, int or float, is the option's.
        description: in a few words.
        ge: least value.
        gt: what it must be above.
        le: greatest value.
    """

    default: int | float
    description: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None

    def wrong_with(self, value: float) -> str:
        """What range the value is out of; empty where it is in."""
        if self.ge is not None and not value >= self.ge:
            return f"must be at least {self.ge}"
        if self.gt is not None and not value > self.gt:
            return f"must be above {self.gt}"
        return f"must be at most {self.le}" if self.le is not None and not value <= self.le else ""


@dataclass(frozen=True)
class Case:
    """Case that an explanation is to be costed for: all that its cost depends on besides its options.

    Attributes:
        input_size: (H, W) of the model's input.
        channels: K of the feature maps.
        linear_head: whether they are averaged and fed to one linear layer.
        targets: how many are explained.
    """

    input_size: tuple[int, int]
    channels: int
    linear_head: bool
    targets: int = 1


def _fine(**_: float) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Method:
    """An explanation method: either `Batched` or `Iterative`.

    Attributes:
        title: its name in the literature.
        summary: what its map shows of ``{target}``, in plain words.
        paper: its address.
        kind: what the map's values mean.
        kind_of_difference: where it is another kind if what is explained is a difference of classes.
        classes_only: why it explains nothing but classes; empty where it explains whatever has a gradient or a value.
        needs: what it can't do without.
        options: its own, by name.
        wrong_together: given all options by name, what is wrong with them together; empty where nothing is.
    """

    title: str
    summary: str
    paper: str
    kind: MapKind = "unsigned"
    kind_of_difference: MapKind | None = None
    classes_only: str = ""
    needs: AbstractSet[Need] = frozenset({Need.LAYER_GRADIENT})
    options: Mapping[str, Option] = field(default_factory=dict)
    wrong_together: Callable[..., str] = _fine

    @property
    def of_input(self) -> bool:
        """Whether it explains the input, whatever the layer."""
        return self.needs <= {Need.RELUS, Need.INPUT_GRADIENT}

    def kind_of(self, is_difference: bool) -> MapKind:
        """What the values of a map mean, of a target that is a difference of classes or not."""
        return self.kind_of_difference or self.kind if is_difference else self.kind

    @property
    def defaults(self) -> dict[str, int | float]:
        """The options' default values."""
        return {name: option.default for name, option in self.options.items()}

    def complete(self, given: Mapping[str, float]) -> dict[str, float]:
        """All options: those given, and the others' defaults."""
        return self.defaults | dict(given)

    def own(self, given: Mapping[str, float]) -> dict[str, float]:
        """Those of the options given that the method has."""
        return {name: value for name, value in given.items() if name in self.options}

    def wrong_with(self, given: Mapping[str, float]) -> str:
        """What is wrong with the values of those options given that the method has; empty where nothing is."""
        own = self.own(given)
        for name, value in own.items():
            if wrong := self.options[name].wrong_with(value):
                return f"{name} {wrong}"
        return self.wrong_together(**self.complete(own))


@dataclass(frozen=True, kw_only=True)
class Batched(Method):
    """A method that costs next to nothing at the default layer: done for a whole batch.

    Attributes:
        maps: feature maps A (M, K, h, w) of M rows and dy/dA, likewise, or None where the method doesn't need it → maps
            (M, h, w). Takes the options, unless ``objective`` does.
        objective: what is differentiated instead of the scores y_c of M rows: takes these as a `Logit` and
            the options.
    """

    maps: Callable[..., Array]
    objective: Callable[..., Objective] | None = None


@dataclass(frozen=True, kw_only=True)
class Iterative(Method):
    """A method that takes many passes: for one image, step by step, others being served in between.

    Attributes:
        steps: a `Subject` and the options → steps, whose last returns maps (T, h, w) or, where each colour has its own,
            (T, C, H, W).
        passes: a `Case` and the options → forward passes that it takes.
    """

    steps: Callable[..., Steps]
    passes: Callable[..., float]
