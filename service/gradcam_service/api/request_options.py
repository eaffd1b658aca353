"""Options as callers give them: gathered from pairs of text, and validated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from gradcam_service.core.options import ExplainOptions, Options, check_target_count
from gradcam_service.errors import BadOption, shortened
from gradcam_service.naming import complaint, misspelt

_TARGET = "target"
_REPEATABLE = (_TARGET, "output")
_EXPLAINING = ExplainOptions.model_fields.keys() - {"model"}
"""Names that others may be misspelt of; what is like ``model`` are other clients' ``mode``, ``model_name``, …"""
_NEARLY = 0.8
"""Likeness of a name to an option's, of which one letter is wrong, too many or left out; ``label`` is no ``layer``."""
_LONGEST = 1000
"""Characters of an option."""


def gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Text options by name, those that may be repeated as lists.

    Raises:
        BadOption: another is repeated.
    """
    options: dict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        options[name].append(value)
    once = ExplainOptions.model_fields.keys() - _REPEATABLE
    if twice := [name for name, values in options.items() if len(values) > 1 and name in once]:
        raise BadOption(f"option {twice[0]!r} is given more than once; only {' and '.join(_REPEATABLE)} may be")
    return {name: values if name in _REPEATABLE else values[0] for name, values in options.items()}


def only_model(*named: object) -> str | None:
    """The model that is named, be it in several places; None where it is in none.

    Raises:
        BadOption: different ones are.
    """
    names = list(dict.fromkeys(str(name) for name in named if name is not None))
    if len(names) > 1:
        raise BadOption(f"different models are named, {' and '.join(map(repr, map(shortened, names)))}; one would work")
    return names[0] if names else None


def validated(options: type[Options], given: Mapping[str, object], most_targets: int) -> Options:
    """Options that are all known and within their ranges.

    Raises:
        BadOption: one isn't.
        TooManyTargets: there are more than ``most_targets``, which is found before any of them is looked at.
    """
    targets = given.get("target")
    if isinstance(targets, list):
        check_target_count(len(targets), most_targets)
    try:
        return options.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        reason = complaint(first, options)
        if not first["loc"]:  # of several options together
            raise BadOption(reason) from None
        raise BadOption(f"option {shortened(str(first['loc'][0]))!r}: {reason}") from None


def tolerated(options: type[Options], *given: Mapping[str, object], most_targets: int) -> Options:
    """Options as clients of other servers give them, beside members of their own, and in types that their protocol has.

    Members that are no options are passed over, unless they are nearly one's name, since who misspells an option would
    be answered another question than was asked; and so is null. Of a flag, 1 is true; of what is whole, 3.0 is 3.

    Args:
        options: those that there are.
        given: in one place each; of an option that is given in several, the last counts.
        most_targets: that are accepted.

    Raises:
        BadOption: one is out of range, or misspelt.
        TooManyTargets: as `validated`.
    """
    fields = options.model_fields
    for place in given:
        _refuse_misspelt(place)
    known = {name: value for place in given for name, value in place.items() if name in fields and value is not None}
    plain = {name: _plain(value, is_flag=fields[name].annotation is bool) for name, value in known.items()}
    targets = known.get(_TARGET)
    if isinstance(targets, list) and len(targets) <= most_targets:
        plain[_TARGET] = [_plain(target, is_flag=False) for target in targets]
    return validated(options, plain, most_targets)


def replaced(options: Options, own: Mapping[str, object], most_targets: int) -> Options:
    """Options of a whole request with those that one of its pictures has for itself, if it has any; see `tolerated`."""
    _refuse_misspelt(own)
    if all(own.get(name) is None for name in type(options).model_fields):
        return options
    of_all = {name: getattr(options, name) for name in options.model_fields_set}
    return tolerated(type(options), of_all, own, most_targets=most_targets)


def _refuse_misspelt(given: Mapping[str, object]) -> None:
    """Refuse a member that nearly is an option.

    Raises:
        BadOption: saying which was meant.
    """
    strange = (name for name, value in given.items() if name not in ExplainOptions.model_fields and _is_short(value))
    if near := misspelt(strange, _EXPLAINING, _NEARLY):
        name, meant = near
        raise BadOption(f"there is no option {shortened(name)!r}; did you mean {meant!r}?")


def _is_short(value: object) -> bool:
    """Whether a member may be an option, which pictures and masks are not."""
    first = value[0] if isinstance(value, list) and value else value
    return len(first) <= _LONGEST if isinstance(first, str) else not isinstance(first, dict | list)


def _plain(value: object, *, is_flag: bool) -> object:
    if is_flag and not isinstance(value, list):
        return {"1": True, "1.0": True, "0": False, "0.0": False}.get(str(value), value)
    whole = isinstance(value, bool) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole else value  # type: ignore[call-overload]  # a number
