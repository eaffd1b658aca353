"""Tasks of models, one file each: what their outputs mean, and what of them is explained. Torch-free."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from gradcam_service.errors import BadOption
from gradcam_service.explain.method import Option
from gradcam_service.kinds import KindBase, Kinds
from gradcam_service.targets import Target
from gradcam_service.text import TOKENS, Text

if TYPE_CHECKING:
    from gradcam_service.registry.card import Card


class Labelled(Protocol):
    """Model, as far as a task needs to know it."""

    @property
    def labels(self) -> Sequence[str]:
        """One for each score."""

    @property
    def activation(self) -> str:
        """What makes probabilities of scores, as ``model.yaml`` says."""

    @property
    def text(self) -> Text | None:
        """What of text it takes; None where it takes none."""


@dataclass(frozen=True)
class TextOption:
    """Option of requests that gives a model of a task its text.

    Attributes:
        name: of the option.
        description: in OpenAPI.
        required: whether there is no answer without it.
        label: of its field on the page.
        action: of the button beside that.
        back: of the button that returns to what the model itself says; empty for none.
        spoken: whether it is what the model itself says otherwise: a caption.
    """

    name: str
    description: str
    required: bool
    label: str
    action: str = "Ask"
    back: str = ""
    spoken: bool = False


@dataclass(frozen=True)
class Entries:
    """What a task's predictions list, each of which is a target: classes, the most probable first.

    An entry has an ``index``, a ``label`` and a ``probability``, a caption's word a ``log_probability``; it is told of
    as an entry where it is explained, too.

    Attributes:
        one: what an entry is called.
        several: what several are.
        title: of the list on the page.
        member: of a result in JSON, that holds it; ``caption.words`` is the member ``words`` of ``caption``.
        target: what an entry is called in a target, ``{"word": 4}``, and may be in what answers tell of it, in place of
            ``index`` or ``label``; empty where its index is a target by itself.
        beside: what a result's own member ``value`` is called, which is listed after them and explained as the target
            ``{"output": "value"}``; empty for none.
        values: whether all are listed, in the model's order, each with a ``value`` and no probability.
    """

    one: str = "class"
    several: str = "classes"
    title: str = "What it sees"
    member: str = "predictions"
    target: str = ""
    beside: str = ""
    values: bool = False

    def of(self, prediction: object) -> Sequence[Any]:
        """Those of a prediction."""
        listed: Sequence[Any] = attrgetter(self.member)(prediction)
        return listed


class Task(KindBase, ABC):
    """Task that a model was trained for; what isn't said otherwise is a classifier's.

    Attributes:
        entries: what its predictions list.
        of_classes: whether there is one for each of a model's labels, which data sets and participants of studies may
            name in a picture, so that its models can be evaluated.
        activations: what ``activation`` in ``model.yaml`` may be; the first is the default.
        text: which option of requests is the text that its models take; None where they take pictures alone.
        options: of requests, that are numbers for its models, by name.
        has_value: whether its networks may answer with two outputs: scores, and one number more for each image.
    """

    entries: ClassVar[Entries] = Entries()
    of_classes: ClassVar[bool] = True
    activations: ClassVar[Sequence[str]] = ("softmax", "sigmoid", "none")
    text: ClassVar[TextOption | None] = None
    options: ClassVar[Mapping[str, Option]] = {}
    has_value: ClassVar[bool] = False

    @property
    @abstractmethod
    def prediction(self) -> type:
        """The dataclass that `predict` returns; its fields are members of a result in JSON, with their descriptions.

        As a string it is what the command line prints.
        """

    @abstractmethod
    def predict(self, model: Labelled, scores: np.ndarray, top_k: int) -> Any:  # noqa: ANN401  an instance of `prediction`
        """What the model says about one image: scores (classes,) in logit units, and its value behind them.

        A task that `speaks` gets the ``tokens`` (T,) as well, and as scores two of each word, its logit and its
        log-probability.
        """

    def default_target(self, scores: np.ndarray) -> Target:
        """What is explained where the caller names nothing, of scores (classes,): the most probable class."""
        return Target("class_", int(scores.argmax()))

    def settled(self, targets: Sequence[Target], tokens: Sequence[int], card: Card) -> tuple[Target, ...]:
        """The targets of a task that `speaks`, once the words are known, whose tokens (T,) these are."""
        return tuple(targets)

    @property
    def speaks(self) -> bool:
        """Whether its models answer in words, of which each is explained."""
        return self.text is not None and self.text.spoken


TASKS: Kinds[Task] = Kinds(__name__, "TASK")


def tokens_of(task: str, text: Text | None, given: Mapping[str, str]) -> np.ndarray | None:
    """The text of a request as tokens (T,) int64; None where it gives none, and needn't.

    Args:
        task: the model's.
        text: what of text it takes.
        given: texts, by the names of their options.

    Raises:
        BadOption: the model takes no such text, or needs one; or as `Text.question` and `Text.caption` do.
    """
    option = TASKS[task].text
    if strange := [name for name in given if option is None or name != option.name]:
        takes = "pictures alone" if option is None else f"{option.name!r} beside a picture"
        raise BadOption(f"option {strange[0]!r}: a model of task {task} takes {takes}")
    if option is None or text is None:
        return None
    if option.name not in given:
        if option.required:
            raise BadOption(f"option {option.name!r} is missing; a model of task {task} answers nothing without it")
        return None
    return (text.caption if option.spoken else text.question)(option.name, given[option.name])


def beside(task: str, text: Text | None, texts: Mapping[str, str], numbers: Mapping[str, int]) -> dict[str, np.ndarray]:
    """What of a request's options goes to a model of a task beside its picture, by the names of jobs' inputs.

    Args:
        task: the model's.
        text: what of text it takes.
        texts: texts that are given, by the names of their options.
        numbers: numbers that are given, likewise.

    Raises:
        BadOption: the model takes no such number, or has no use for one beside its text; or as `tokens_of` does.
    """
    known = TASKS[task].options
    if strange := [name for name in numbers if name not in known]:
        able = ", ".join(name for name in TASKS if strange[0] in TASKS[name].options)
        raise BadOption(f"option {strange[0]!r} is of models of task {able}, and this one's is {task}")
    tokens = tokens_of(task, text, texts)
    if tokens is not None and TASKS[task].speaks and numbers:
        given, *_ = texts
        raise BadOption(f"option {next(iter(numbers))!r} is for what a model says by itself, and {given!r} is yours")
    found = {name: np.array(number, np.int64) for name, number in numbers.items()}
    return found if tokens is None else {**found, TOKENS: tokens}
