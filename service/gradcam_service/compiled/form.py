"""The compiled form of a model: graphs that answer for it, so that it is loaded only for what they can't. Torch-free.

It is what `gradcam compile` writes: in the folder ``compiled`` beside the model's own ``model.yaml``, or kept in the
cache. It says of itself what the model says, digest included, since both answer alike to the rounding of what computes
them, as a model does on whichever runtime is the fastest. One that isn't whole, or was made of other files than the
version has, is set aside.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from gradcam_service.compiled import manifest as folder_of
from gradcam_service.compiled.model import CompiledModel, load_folder
from gradcam_service.errors import ModelFailed
from gradcam_service.question import Question
from gradcam_service.registry import apart, cache, kept
from gradcam_service.registry.apart import Surroundings
from gradcam_service.registry.card import Card
from gradcam_service.registry.folder import ModelFolder
from gradcam_service.registry.kept import COMPILED
from gradcam_service.registry.places import LocalPlace
from gradcam_service.registry.repository import Entry
from gradcam_service.registry.sources import SOURCES
from gradcam_service.runtime import RUNTIMES, has_torch
from gradcam_service.targets import TARGETS

log = logging.getLogger(__name__)

FORMS = "forms"
"""The kind of what is kept of them in the cache."""
FAILURES = "failures"
"""The kind of what is kept there of each attempt that failed."""
_ATTEMPTS = 3
"""How often a model is compiled in vain: the machine may have lacked memory but once."""
_OF_MODEL_YAML = ("task", "activation", "labels", "input", "preprocess", "batch", "layer", "method", "text")
"""What the ``model.yaml`` of a form says as that of its model does, since it answers under its digest."""


@dataclass(frozen=True, eq=False)
class CompiledForm(CompiledModel):
    """Compiled model that answers for the one it was made from, and leaves to that what it can't."""

    def answers(self, question: Question | None) -> bool:
        """Whether it can, its layers, methods and targets considered, or nothing else could: then it refuses."""
        return question is None or self._can(question) or not has_torch()

    def _can(self, question: Question) -> bool:
        methods = {question.method, question.measure.against if question.measure else ""}
        if question.layer not in ("auto", *self.network.cuts) or methods & self._left.keys():
            return False
        return all(TARGETS[target.kind].differentiable for target in question.targets)

    @property
    def _left(self) -> dict[str, str]:
        """Methods that the model has, and this one hasn't, and why."""
        able = self.card.method_names()
        return {name: reason for name, reason in self.manifest.refused.items() if name in able}


def form_of(entry: Entry, max_pixels: int, kept_too: bool = False) -> CompiledForm | None:
    """The compiled form of a version; None where there is none that can be used.

    Args:
        entry: the version.
        max_pixels: that its sample may have.
        kept_too: whether what `make_form` has kept counts.

    Raises:
        ModelFailed: the version's own files can't be read.
    """
    with cache.holding() as leases:
        folder = _of_one(entry)
        if folder is None:
            return None
        for path in _places(folder, kept_too):
            try:
                return replace(_opened(folder, path, max_pixels), leases=tuple(leases))
            except (ModelFailed, OSError) as error:  # what was kept stays: it is as it was written, and would be again
                fields = {"model": entry.key, "reason": str(error)}
                log.warning("compiled form is set aside", extra={"fields": fields})
    return None


def unlike(form: Card, model: Card) -> str:
    """Why a compiled form doesn't answer for a model, as that was loaded; empty where it does."""
    digest = model.on_runtime("", form.precision, 0).digest
    if digest == form.digest:
        return ""
    return f"its compiled form answers for {form.digest}, and the model is {digest}; compile it again"


def make_form(entry: Entry, surroundings: Surroundings) -> None:
    """Have a process compile a version for the next start, if it may have a form; wait until it has one.

    One at a time on this machine, as each takes a gigabyte, and none begins while models are traced, exported or raced,
    which don't wait for one that has begun. What goes wrong is told the log, and after a few starts not tried again.
    """
    try:
        with cache.holding(), cache.alone("compile"):
            for sooner in ("trace", "export", "race"):
                with cache.alone(sooner):
                    pass
            folder = _of_one(entry)
            if folder is not None and not kept.holds(FORMS, key := key_of(folder)):
                _compile(folder, key, surroundings)
    except (ModelFailed, OSError) as error:
        fields = {"model": entry.key, "reason": str(error)}
        log.warning("model is not compiled for the next start", extra={"fields": fields})


def _compile(folder: ModelFolder, key: str, surroundings: Surroundings) -> None:
    """Have a model compiled, unless that has failed too often; that it fails is kept.

    Raises:
        ModelFailed: it can't be loaded, or the process died of it.
        OSError: the process can't be started.
    """
    for attempt in (f"{key}-{number}" for number in range(_ATTEMPTS)):
        if not kept.holds(FAILURES, attempt):
            try:
                apart.run("compile", folder, key, surroundings)
            except ModelFailed as error:
                kept.keep(FAILURES, attempt, {"reason.txt": error.detail.encode()})
                raise
            return


def key_of(folder: ModelFolder) -> str:
    """Hex SHA-256 of all that decides the form of a model whose source is reproducible.

    Raises:
        OSError, ModelFailed: a file can't be read.
    """
    return hashlib.sha256(f"{kept.key_of(folder)}\n{folder.spec.decisive()}".encode()).hexdigest()


def _of_one(entry: Entry) -> ModelFolder | None:
    """The folder of a version that may have a form.

    Not one whose source's code may decide anything, that is compiled itself, or for which a runtime is wanted that
    opens no graphs.
    """
    spec = entry.spec()
    source, runtime = SOURCES[spec.source], RUNTIMES.get(spec.runtime)
    opens = spec.runtime == "auto" or (runtime is not None and runtime.open is not None)
    if not opens or not source.reproducible or source.opens is not None:
        return None
    return ModelFolder(spec, entry.folder())


def _places(folder: ModelFolder, kept_too: bool) -> Iterator[Path]:
    if (beside := folder.path / COMPILED).is_dir():
        yield beside
    if kept_too:
        found = kept.folder_of(FORMS, key_of(folder))
        if found is not None and (found / folder_of.NAME).exists():  # else it can't be compiled
            yield found


def _opened(folder: ModelFolder, path: Path, max_pixels: int) -> CompiledForm:
    """Open the form of a model that is in a folder.

    Raises:
        ModelFailed: it isn't whole, or is of another model.
        OSError: a file of the model can't be read.
    """
    chosen = {name: getattr(folder.spec, name) for name in ("runtime", "precision", "description")}
    spec = Entry(path.parent.name, path.name, LocalPlace(path)).spec().model_copy(update=chosen)
    model = load_folder(ModelFolder(spec, path), max_pixels)
    if model.manifest.made_of != folder_of.decisive(folder):
        raise ModelFailed("it was made of other files than the version has; compile it again")
    told = model.manifest.card
    if changed := [name for name in _OF_MODEL_YAML if getattr(model.card, name) != getattr(told, name)]:
        raise ModelFailed(f"its own model.yaml says another {changed[0]} than the model has; compile it again")
    parts = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    return CompiledForm(**parts | {"card": _card(model)})


def _card(model: CompiledModel) -> Card:
    """What the full model says of itself; where it can't be loaded, as torch isn't installed, what the form can do."""
    told, own = model.manifest.card, model.card
    card = msgspec.structs.replace(told, runtime=own.runtime, memory=own.memory, torch="")
    if has_torch():
        return card
    return msgspec.structs.replace(card, layers=own.layers, inner_layers=[], methods=own.methods)
