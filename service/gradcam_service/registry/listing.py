"""The versions of models that a repository has, and what a reference to one means. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from gradcam_service.errors import UnknownModel, shortened
from gradcam_service.naming import did_you_mean
from gradcam_service.registry.card import Card

State = Literal["unloaded", "loading", "ready", "failed"]


class Model(msgspec.Struct, frozen=True):
    """One version of a model in the repository, and the state it is in.

    Attributes:
        reason: why it failed, or what its load waits for; of one that is ready, that of its newer content, or what the
            full model waits for, of which its compiled form answers; else empty.
        card: once it has been loaded; an unloaded model that has one is loaded when it is asked for.
        on_demand: whether it is loaded when it is asked for, and not at the start.
        description: what its ``model.yaml`` says that it is for; empty where it says nothing or can't be read.
        notes: sentences about aliases that can't be what ``aliases.yaml`` says, and stay here.
    """

    name: str
    version: str
    aliases: list[str]
    state: State
    reason: str = ""
    card: Card | None = None
    on_demand: bool = False
    description: str = ""
    notes: list[str] = []

    @property
    def key(self) -> str:
        """``name@version``, unique in a repository."""
        return f"{self.name}@{self.version}"

    @property
    def available(self) -> bool:
        """Whether a request for it is answered, be it after loading it."""
        waits_for_one = self.on_demand or self.card is not None
        return self.state == "ready" or (self.state == "unloaded" and waits_for_one)

    @property
    def card_digest(self) -> str:
        """The digest of what was loaded last; empty where nothing was."""
        return self.card.digest if self.card else ""


def version_order(version: str) -> tuple[int, str]:
    """Sorts 2 before 10, and numbers after words."""
    return (int(version), "") if version.isdecimal() else (-1, version)


def resolve(models: Iterable[Model], reference: str) -> Model:
    """Resolve a reference: ``name``, ``name@version`` or ``name@alias``.

    A bare name means its highest version that is ready, or was and made room for another model; while there is none,
    the highest that has not failed.

    Raises:
        UnknownModel: naming what is there.
    """
    known = list(models)
    name, _, wanted = reference.partition("@")
    versions = sorted((model for model in known if model.name == name), key=lambda model: version_order(model.version))
    if not versions:
        names = sorted({model.name for model in known})
        meant, there_are = did_you_mean(name, names), ", ".join(names) or "none"
        raise UnknownModel(f"there is no model {shortened(name)!r}{meant}; there are: {there_are}")
    if not wanted:
        answering = [model for model in versions if model.state == "ready" or model.card]
        return (answering or [model for model in versions if model.state != "failed"] or versions)[-1]
    for model in sorted(versions, key=lambda model: wanted != model.version):
        if wanted == model.version or wanted in model.aliases:
            return model
    own = [text for model in versions for text in (model.version, *model.aliases)]
    meant, it_has = did_you_mean(wanted, own), ", ".join(own)
    raise UnknownModel(f"model {name!r} has no version or alias {shortened(wanted)!r}{meant}; it has: {it_has}")
