"""Construct a source with options, which a command line gives as text."""

import inspect
from collections.abc import Mapping
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

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
        UserError: A text is not of the option's type, or that type cannot be told.
    """
    known = inspect.signature(kind).parameters
    for name in options:
        if name not in known:
            raise UnknownName(
                f"{kind.__name__} has no option {name!r}.",
                f"It has: {' '.join(known) or 'none'}",
                given=name,
                known=known,
            )
    return kind(
        **{
            name: _typed(name, value, _declared(kind, known[name])) if isinstance(value, str) else value
            for name, value in options.items()
        }
    )


def _declared(kind: type[Source], option: inspect.Parameter) -> Any:
    """Return the type of an option; one in quotes is evaluated alone: only type checkers know some."""
    if not isinstance(option.annotation, str):
        return option.annotation
    alone = SimpleNamespace(__annotations__={option.name: option.annotation})
    module = getattr(inspect.unwrap(kind.__init__), "__globals__", {})
    try:
        return get_type_hints(alone, module)[option.name]
    except Exception as error:  # of an annotation, which may be any text
        raise UserError(
            f"the type of {kind.__name__}'s option {option.name!r} cannot be told: {error}.",
            "Expected: an annotation whose names its module has when it runs.",
        ) from None


def _typed(name: str, text: str, kind: Any) -> Any:
    """Convert text to a type, or to the type that it is in a union with None."""
    if get_origin(kind) in (Union, UnionType) and len(others := {*get_args(kind)} - {NoneType}) == 1:
        (kind,) = others
    if kind not in (int, float, bool):
        return text
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return whole_number(text) if kind is int else number(text)
    except (KeyError, ValueError):
        raise UserError(f"{name} is {kind.__name__}: got {text!r}.") from None
