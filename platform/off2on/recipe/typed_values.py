"""Convert values of settings, which may be text, to the annotated types."""

import typing
from types import NoneType, UnionType
from typing import Any

from datasets_io.quantities import number


def convert_text(value: object, kind: Any) -> Any:
    """Convert a value, which may be text, to the annotated type; raise ValueError if that fails."""
    if isinstance(kind, UnionType):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        (kind,) = (option for option in typing.get_args(kind) if option is not NoneType)
    if kind is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, bool):
            return value
        word = str(value).lower()
        return words[word] if word in words else _refuse(value)
    if typing.get_origin(kind) is tuple:
        text = isinstance(value, str)
        parts = [part.strip(" '") for part in str(value).strip("()[] ").split(",")] if text else value
        if not isinstance(parts, list | tuple):
            return _refuse(value)
        return tuple(convert_text(part, typing.get_args(kind)[0]) for part in parts if part != "")
    if kind is str:
        return value if isinstance(value, str) else _refuse(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return _refuse(value)
    parsed = number(value) if isinstance(value, str) else float(value)
    if kind is int:
        return int(parsed) if parsed == int(parsed) else _refuse(value)
    return parsed


def _refuse(value: object) -> typing.NoReturn:
    raise ValueError(value)
