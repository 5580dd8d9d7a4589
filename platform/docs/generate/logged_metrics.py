"""Find the names of the metrics that the losses of an algorithm return, by reading their code.

Some metrics are logged only with certain hyperparameters, so that running the losses would not find all.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any


def logged_metrics(kind: Any) -> list[str]:
    """Return the names of the metrics of an algorithm's losses, in the order of its objectives."""
    found: dict[str, None] = {}
    for objective in kind.objectives_in_order():
        reader = _Reader(kind)
        reader.read_method(f"compute_{objective.name}_loss", kind.__mro__)
        found |= reader.found
    return list(found)


class _Reader:
    """Reads functions of the package, and those that they call.

    Args:
        kind: The class that ``cls`` stands for in its methods.
    """

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.found: dict[str, None] = {}
        self.seen: set[Any] = set()

    def read_method(self, name: str, bases: tuple[type, ...]) -> None:
        """Read the first method of this name among the classes `bases`."""
        place = next((index for index, base in enumerate(bases) if name in vars(base)), None)
        if place is not None:
            self._read(getattr(bases[place], name), bases[place + 1 :])

    def _read(self, function: Any, rest: tuple[type, ...]) -> None:
        function = getattr(function, "__func__", function)
        module = getattr(function, "__module__", None) or ""
        if not inspect.isfunction(function) or not module.startswith("off2on.") or function in self.seen:
            return
        self.seen.add(function)
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                self._follow(node.func, function, rest)
        self.found |= dict.fromkeys(key for node in ast.walk(tree) for key in _keys(node))

    def _follow(self, called: ast.expr, function: Any, rest: tuple[type, ...]) -> None:
        """Read what a call in a function calls: a method of its class or of the next one, or a function."""
        if isinstance(called, ast.Name):
            self._read(function.__globals__.get(called.id), ())
        elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
            if called.value.id == "cls":
                self.read_method(called.attr, self.kind.__mro__)
            else:
                owner = function.__globals__.get(called.value.id)
                self._read(getattr(owner, called.attr, None), ())
        elif isinstance(called, ast.Attribute) and _is_super(called.value):
            self.read_method(called.attr, rest)


def _is_super(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "super"


def _keys(node: ast.AST) -> Iterator[str]:
    """Yield the text keys of dictionaries in ``return loss, {…}`` and ``metrics = {…}``."""
    value: ast.expr | None = None
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
        value = node.value.elts[1]
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        value = node.value if node.targets[0].id == "metrics" else None
    for each in ast.walk(value) if value is not None else ():
        if isinstance(each, ast.Dict):
            for key in each.keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value
