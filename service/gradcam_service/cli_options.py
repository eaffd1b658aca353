"""Options of the command line that a request has too, with the words and the defaults that they have there."""

from __future__ import annotations

from collections.abc import Iterator

import click

_ELSEWHERE = (
    *("model", "method", "target", "output", "format", "top_k", "timeout_ms", "boxes", "threshold"),
    *("quality", "quality_steps", "quality_against"),
)
"""Options of a request that a command about files has in a form of its own, or has no use for."""
_FEW = 4  # choices that are named in an option's place


def separated(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """A callback of an option: what is separated by commas."""
    return tuple(name.strip() for name in (value or "").split(",") if name.strip())


class PredictCommand(click.Command):
    """Command that takes the options of ``/predict``, made once they are needed, as that imports every method.

    Their values are text, which `PredictOptions` validates as it does that of queries.
    """

    request = "PredictOptions"

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The command's own options, those of a request, and help."""
        *own, help_option = super().get_params(ctx)
        return [*own, *_options_of(self.request), help_option]


class ExplainCommand(PredictCommand):
    """Command that takes the options of ``/explain``; see `PredictCommand`."""

    request = "ExplainOptions"


def _options_of(request: str) -> Iterator[click.Option]:
    """Those of all methods, then those of single ones, which begin with the method's name."""
    from gradcam_service.core import options
    from gradcam_service.core.options import METHOD_OPTIONS, alternatives

    schemas = getattr(options, request).model_json_schema()["properties"]
    here = (name for name in schemas if name not in _ELSEWHERE)
    for name in sorted(here, key=METHOD_OPTIONS.__contains__):  # each half in the schemas' order
        text = schemas[name]["description"].replace("`", "")
        choices = [word for kind in alternatives(schemas[name]) for word in kind.get("enum") or [kind["type"].upper()]]
        if len(choices) > _FEW:
            text += f" ({', '.join(choices)})"
        default = schemas[name].get("default")
        yield click.Option(
            [f"--{name.replace('_', '-')}"],
            is_flag=schemas[name].get("type") == "boolean",
            default=None,
            metavar="|".join(choices) if len(choices) <= _FEW else "NAME",
            help=f"{text}.  [default: {default}]" if default else f"{text}.",
        )
