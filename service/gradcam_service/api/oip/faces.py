"""Faces of a model: the models that this protocol sees in it, each with inputs and outputs that never change.

A tensor protocol promises fixed inputs and outputs, and its clients know predictions alone. So of a model ``m`` there
are three: ``m`` takes pictures and gives scores; ``m-tensor`` takes what the network receives and gives scores, and
nothing else, as Triton's own examples demand; ``m-explain`` takes pictures and gives explanations, too. That is what
metadata promise: any face takes what any other does, and answers what it is asked for by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from gradcam_service.errors import BadRequest, UnknownModel, shortened
from gradcam_service.naming import did_you_mean
from gradcam_service.registry.card import Card
from gradcam_service.registry.listing import Model, resolve

IMAGE = "image"
TARGET = "target"
SCORES = "scores"
PREDICTION = "prediction"
EXPLANATIONS = ("overlay", "heatmap", "map", TARGET)
OUTPUTS = (*EXPLANATIONS, SCORES, PREDICTION)
MOST_INPUTS = 2
"""Of any face: pictures, and what is explained in them."""
ANY = -1
"""A size that may be anything, or isn't known before the model has been loaded."""


@dataclass(frozen=True)
class Slot:
    """An input or output that metadata promise: its shape without the batch's dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Face:
    """A face that some model has.

    Attributes:
        suffix: of its name, after the model's.
        explains: whether explanations are given, too, where nothing is asked for by name.
    """

    suffix: str
    explains: bool = False

    def outputs(self, card: Card | None) -> tuple[str, ...]:
        """Those that are given where none is asked for by name: what a model says in words has no scores of classes."""
        said = PREDICTION if card and card.speaks else SCORES
        return (*EXPLANATIONS, said) if self.explains else (said,)

    def input(self, card: Card | None) -> Slot:
        """What it takes."""
        if self is not PREPARED:
            return Slot(IMAGE, "BYTES", (1,))
        size = (card.input.count, *card.preprocess.input_size) if card else (ANY, ANY, ANY)
        return Slot("input", "FP32", size)

    def slots(self, card: Card | None) -> Iterator[Slot]:
        """What it gives."""
        grid = next((layer.shape[1:] for layer in card.layers if layer.name == card.layer), None) if card else None
        words = (ANY,) if card and card.speaks else ()  # each is explained
        known = {
            "overlay": Slot("overlay", "BYTES", words or (1,)),
            "heatmap": Slot("heatmap", "BYTES", words or (1,)),
            "map": Slot("map", "FP32", (*words, *(grid or (ANY, ANY)))),
            TARGET: Slot(TARGET, "INT64", words),
            SCORES: Slot(SCORES, "FP32", (len(card.labels) if card else ANY,)),
            PREDICTION: Slot(PREDICTION, "BYTES", (1,)),
        }
        return (known[name] for name in self.outputs(card))


PREDICTING = Face("")
PREPARED = Face("-tensor")
EXPLAINING = Face("-explain", explains=True)
FACES: Mapping[str, Face] = MappingProxyType({face.suffix: face for face in (PREDICTING, PREPARED, EXPLAINING)})


@dataclass(frozen=True)
class Faced:
    """A face of a model that there is.

    Attributes:
        name: of both, without a version.
        reference: the model's, with the version or alias that was asked for.
        versions: of the model, all that there are.
    """

    name: str
    reference: str
    face: Face
    model: Model
    versions: Sequence[str]


def find(models: Sequence[Model], name: str, version: str = "") -> Faced:
    """The face that a name means; a model that is really called so comes first.

    Args:
        models: all that there are.
        name: of a face, perhaps with ``@version`` or ``@alias``.
        version: version or alias, where it is told apart from the name.

    Raises:
        UnknownModel: there is no such model, or it has no such version.
        BadRequest: a version is told twice.
    """
    base, at, wanted = name.partition("@")
    if at and version:
        raise BadRequest(f"{shortened(name)!r} names a version already, and so does the path: {shortened(version)!r}")
    wanted = wanted or version
    for model, face in _readings(models, base):
        reference = f"{model}@{wanted}" if wanted else model
        found = resolve(models, reference)
        return Faced(base, reference, face, found, [known.version for known in models if known.name == model])
    names = [known for known, *_ in every(models)]
    raise UnknownModel(
        f"there is no model {shortened(base)!r}{did_you_mean(base, names)}; there are: {', '.join(names) or 'none'}"
    )


def every(models: Sequence[Model]) -> Iterator[tuple[str, Face, str]]:
    """Name, face and model of every face that there is."""
    known = sorted({model.name for model in models})
    for model in known:
        for suffix, face in FACES.items():
            if not suffix or model + suffix not in known:
                yield model + suffix, face, model


def check_counts(inputs: int, outputs: int) -> None:
    """Refuse a request of more tensors than any face takes or gives, before anything is made of them.

    Raises:
        BadRequest: saying how many would work.
    """
    for what, found, most in (("inputs", inputs, MOST_INPUTS), ("outputs", outputs, len(OUTPUTS))):
        if found > most:
            raise BadRequest(f"{found} {what} are given; at most {most} would work")


def check_outputs(names: Sequence[str]) -> None:
    """Refuse what no face gives, or gives once.

    Raises:
        BadRequest: saying what there is.
    """
    for name in names:
        if name not in OUTPUTS:
            raise BadRequest(
                f"there is no output {shortened(name)!r}{did_you_mean(name, OUTPUTS)}; there are {', '.join(OUTPUTS)}"
            )
    if len(set(names)) < len(names):
        raise BadRequest("an output is asked for twice; once would work")


def _readings(models: Iterable[Model], name: str) -> Iterator[tuple[str, Face]]:
    """The models and faces that a name may mean, a model of that very name first."""
    known = {model.name for model in models}
    for suffix, face in FACES.items():
        if name.endswith(suffix) and (base := name.removesuffix(suffix)) in known:
            yield base, face
