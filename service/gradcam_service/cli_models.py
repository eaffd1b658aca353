"""The command ``gradcam models``: lists what is in the repositories, whether it works, and what a service has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

import click
import msgspec

from gradcam_service.cli_files import exit_code
from gradcam_service.errors import ModelFailed
from gradcam_service.kinds import load_plugins
from gradcam_service.registry.listing import Model, resolve
from gradcam_service.registry.repository import Entry, Listing, scan
from gradcam_service.settings import Settings
from gradcam_service.worker.poller import Snapshot

if TYPE_CHECKING:
    from gradcam_service.local import Tried

_ROW = "{:20} {:9} {:11} {:16} {:>7} {:>9} {:8} {:19} {:12} {}"
_NOT_COUNTED = "embedded, and loaded when it is asked for: that it fails isn't counted"


class _Layer(msgspec.Struct):
    name: str


class _Row(msgspec.Struct):
    """Model version as it is listed: some of the members of ``GET /models``."""

    name: str
    version: str
    state: str
    aliases: list[str]
    description: str | None = None
    reason: str | None = None
    source: str | None = None
    layer: _Layer | None = None
    methods: list[str] | None = None
    memory: int | None = None
    device: list[str] | None = None
    digest: str | None = None
    runtime: str | None = None
    precision: str | None = None
    notes: Sequence[str] = ()


def list_service(url: str) -> None:
    """List what the service at an address has.

    Raises:
        click.UsageError: there is none, or it needs another API key than that in ``GRADCAM_API_KEY``.
        OSError: it can't be reached.
    """
    from gradcam_service.client import Client, Refused, Unavailable

    try:
        service = Client(url, timeout=30, retries=0)
    except ValueError as error:  # of the address, or of the key
        raise click.UsageError(str(error)) from error
    try:
        with service:
            rows = [msgspec.convert(model.model_dump(exclude_none=True), _Row) for model in service.models()]
    except Refused as error:
        if error.status != HTTPStatus.UNAUTHORIZED:
            raise click.UsageError(f"there is no gradcam service at {url}") from error
        raise click.UsageError(f"{url} needs an API key, and GRADCAM_API_KEY has none that it knows") from error
    except Unavailable as error:
        raise OSError(str(error)) from error
    _echo_head()
    for row in rows:
        _echo(row)


def list_repositories(settings: Settings, references: Sequence[str], load: bool) -> int:
    """List what the repositories hold, all of it or what is referred to, and load it where that is to be tried.

    Returns:
        The exit code: of what was loaded, 2 where a model is at fault, or a file that no model's version has; 1 where
        the machine or the network alone is.

    Raises:
        UnknownModel: nothing is called like a reference.
    """
    listing = scan(settings.model_repository, settings.embedded)
    load_plugins(settings.plugins)  # among them may be the source of a model
    models = {model.key: (entry, model) for entry, model in zip(listing, listing.models(), strict=True)}
    chosen = {resolve(listing.models(), reference).key for reference in references} or models.keys()
    strays = [] if references else listing.astray
    wanted = [models[key] for key in models if key in chosen]
    _echo_head()
    if load:
        code = _load(wanted, listing, settings, named=bool(references))
    else:
        code = 0
        for entry, model in wanted:
            _echo(_described(entry, model))
    for stray in strays:
        click.echo(f"    {stray}")
    return 2 if load and strays else code


def _described(entry: Entry, model: Model) -> _Row:
    try:
        spec = entry.spec()
    except ModelFailed as error:
        return _Row(model.name, model.version, "failed", model.aliases, reason=error.detail)
    return _Row(model.name, model.version, model.state, model.aliases, spec.description, source=spec.source)


def _load(wanted: Iterable[tuple[Entry, Model]], listing: Listing, settings: Settings, *, named: bool) -> int:
    """List each of these models once it has been loaded or has failed; the exit code that they make together."""
    from gradcam_service.local import load_all

    code = 0
    for tried in load_all(wanted, settings):
        row = _outcome(tried)
        if tried.error is not None and not named and _may_fail(tried.entry, listing, settings):
            row.notes = [_NOT_COUNTED]
        elif tried.error is not None:
            code = max(code, exit_code(tried.error))
        _echo(row)
    return code


def _outcome(tried: Tried) -> _Row:
    model = tried.model
    row = _Row(model.name, model.version, model.state, model.aliases, model.description, model.reason)
    if (card := model.card) is not None:
        row.source, row.layer, row.methods = card.source, _Layer(card.layer), card.method_names()
        row.memory, row.device, row.digest = card.memory, [tried.device], card.digest
        row.runtime, row.precision = card.runtime, card.precision
        row.notes = [check.detail for check in card.checks if not check.passed]
    return row


def _may_fail(entry: Entry, listing: Listing, settings: Settings) -> bool:
    """Whether a model is none of the operator's, and one without which the service starts."""
    if not entry.is_embedded:
        return False
    on_demand = frozenset({entry.key} if entry.spec().load == "demand" else ())
    return Snapshot(listing, on_demand, settings.default_model).loads_on_demand(entry)


def _echo_head() -> None:
    named = ("MODEL", "STATE", "SOURCE", "LAYER", "METHODS", "MEMORY", "DEVICE", "DIGEST", "RUNTIME", "PRECISION")
    click.echo(_ROW.format(*named))


def _echo(row: _Row) -> None:
    columns = (
        f"{row.name}@{row.version}",
        row.state,
        row.source or "",
        row.layer.name if row.layer else "",
        str(len(row.methods)) if row.methods else "",
        f"{row.memory / 1e6:.1f} MB" if row.memory is not None else "",
        ",".join(row.device or []),
        (row.digest or "")[:19],
        row.runtime or "",
        row.precision or "",
    )
    click.echo(_ROW.format(*columns).rstrip())
    also = f"also {', '.join(row.aliases)}" if row.aliases else ""
    for note in (row.description, also, row.reason, *row.notes):
        if note:
            click.echo(f"    {' '.join(note.split())}")
