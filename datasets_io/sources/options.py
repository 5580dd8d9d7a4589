"""Construct a source with options, which a command line gives as text."""

import inspect
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from datasets_io.errors import UnknownName, UserError
from datasets_io.quantities import number, whole_number
from datasets_io.source import Source


def construct(kind: type[Source], options: Mapping[str, Any]) -> Source:
    """Return a source; text becomes the type that its constructor declares.

    Args:
        kind: Class of the source.
        options: For its constructor, as typed or as text.

    Raises:
        UnknownName: It has no such option.
        UserError: A text is not of the option's type, or an annotation cannot be evaluated.
    """
    try:
        known = inspect.signature(kind, eval_str=True).parameters
    except Exception as error:  # of an annotation in quotes, which may be any text
        known = inspect.signature(kind).parameters
        if any(isinstance(value, str) for value in options.values()):
            raise UserError(
                f"the types of the options of {kind.__name__} cannot be told: {error}.",
                "Expected: annotations whose names its module has when it runs.",
            ) from None
    for name in options:
        if name not in known:
            raise UnknownName(
                f"{kind.__name__} has no option {name!r}.",
                f"It has: {' '.join(known) or 'none'}",
                given=name,
                known=known,
            )
    return kind(**{name: _typed(name, value, known[name].annotation) for name, value in options.items()})


def _typed(name: str, value: Any, kind: Any) -> Any:
    """Convert text to a type, or to the type that it is in a union with None."""
    if get_origin(kind) in (Union, UnionType) and len(others := {*get_args(kind)} - {NoneType}) == 1:
        (kind,) = others
    if not isinstance(value, str) or kind not in (int, float, bool):
        return value
    try:
        if kind is bool:
            return {"true": True, "false": False}[value.lower()]
        return whole_number(value) if kind is int else number(value)
    except (KeyError, ValueError):
        raise UserError(f"{name} is {kind.__name__}: got {value!r}.") from None
