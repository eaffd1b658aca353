"""Settings and models of the commands, as the environment and the command line give them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from gradcam_service.naming import complaint
from gradcam_service.settings import Settings, misspelt

if TYPE_CHECKING:
    from gradcam_service.local import Local

Options = TypeVar("Options", bound=BaseModel)


def opened(model: str | None) -> Local:
    """The model of a command, loaded; a terminal is told meanwhile. None for the default one."""
    settings = settings_here()
    if sys.stderr.isatty():
        click.echo(f"loading {model or settings.default_model} …", err=True)
    from gradcam_service.local import open_model

    return open_model(model, settings)


def settings_here() -> Settings:
    """Those of the environment; what looks like one there and is none is told of."""
    warn(misspelt(os.environ))
    return validated(Settings)


def validated(options: type[Options], given: dict[str, Any] | None = None) -> Options:
    """Settings or options from the command line, where given.

    Raises:
        click.UsageError: one is wrong, in the words of whoever wrote it.
    """
    try:
        return options(**{name: value for name, value in (given or {}).items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # of several options together
            raise click.UsageError(str(first["ctx"]["error"])) from None
        name = str(first["loc"][0])
        shown = f"GRADCAM_{name.upper()}" if options is Settings else f"--{name.replace('_', '-')}"
        raise click.UsageError(f"{shown}: {complaint(first, options)}") from None


def warn(warnings: Iterable[str]) -> None:
    """Tell of what is no error, a line each."""
    for warning in warnings:
        click.echo(f"gradcam: warning: {warning}", err=True)
