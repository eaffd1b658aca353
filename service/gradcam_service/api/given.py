"""Options as callers give them: gathered from pairs of text, and validated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from gradcam_service.core.options import Options
from gradcam_service.errors import BadOption, shortened
from gradcam_service.naming import complaint

_REPEATABLE = ("target", "output")


def gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Text options by name, those that may be repeated as lists.

    Raises:
        BadOption: another is repeated.
    """
    options: dict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        options[name].append(value)
    twice = [name for name, values in options.items() if len(values) > 1 and name not in _REPEATABLE]
    if twice:
        raise BadOption(f"option {twice[0]!r} is given more than once; only {' and '.join(_REPEATABLE)} may be")
    return {name: values if name in _REPEATABLE else values[0] for name, values in options.items()}


def validated(options: type[Options], given: Mapping[str, object]) -> Options:
    """Options that are all known and within their ranges.

    Raises:
        BadOption: one isn't.
    """
    try:
        return options.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        reason = complaint(first, options)
        if not first["loc"]:  # of several options together
            raise BadOption(reason) from None
        raise BadOption(f"option {shortened(str(first['loc'][0]))!r}: {reason}") from None


def tolerated(options: type[Options], *given: Mapping[str, object]) -> Options:
    """Options as clients of other servers give them, beside members of their own, and in types that their protocol has.

    Members that are no options are passed over, and so is null; of a flag, 1 is true; of what is whole, 3.0 is 3.

    Args:
        options: those that there are.
        given: in one place each; of an option that is given in several, the last counts.

    Raises:
        BadOption: one is out of range.
    """
    fields = options.model_fields
    known = {
        name: _plain(value, is_flag=fields[name].annotation is bool)
        for place in given
        for name, value in place.items()
        if name in fields and value is not None
    }
    return validated(options, known)


def _plain(value: object, *, is_flag: bool) -> object:
    if isinstance(value, list):
        return [_plain(each, is_flag=is_flag) for each in value]
    if is_flag:
        return {"1": True, "1.0": True, "0": False, "0.0": False}.get(str(value), value)
    whole = isinstance(value, bool) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole else value  # type: ignore[call-overload]  # a number
