"""Find the names of the metrics that the losses of an algorithm return, by reading their code."""

import ast
import inspect
import textwrap
from typing import Any


def logged_metrics(kind: Any) -> list[str]:
    """Return the names of the metrics of an algorithm's losses, in the order of its objectives."""
    found: dict[str, None] = {}
    for objective in kind.objectives_in_order():
        found |= dict.fromkeys(_of_method(kind, f"compute_{objective.name}_loss", kind.__mro__))
    return list(found)


def _of_method(kind: Any, name: str, bases: tuple[type, ...]) -> list[str]:
    """Return the keys of the dictionaries that a method, and the methods that it calls, return."""
    place = next((index for index, base in enumerate(bases) if name in vars(base)), None)
    if (
        place is None
        or not bases[place].__module__.startswith("off2on.")
        or not _is_method(bases[place], name)
    ):
        return []
    tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(bases[place], name))))
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called, owner = node.func.attr, node.func.value
            if isinstance(owner, ast.Name) and owner.id == "cls" and called != name:
                found += _of_method(kind, called, kind.__mro__)
            elif (
                isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super"
            ):
                found += _of_method(kind, called, bases[place + 1 :])
    return found + [key for node in ast.walk(tree) if isinstance(node, ast.Return) for key in _keys(node)]


def _is_method(base: type, name: str) -> bool:
    return name.startswith("compute_") or isinstance(vars(base)[name], classmethod)


def _keys(node: ast.Return) -> list[str]:
    """Return the text keys of the dictionaries in a return statement ``loss, metrics``."""
    if not isinstance(node.value, ast.Tuple) or len(node.value.elts) != 2:
        return []
    return [
        key.value
        for each in ast.walk(node.value.elts[1])
        if isinstance(each, ast.Dict)
        for key in each.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    ]
