"""Import objects that users name as ``package.module:Class``."""

import importlib
from collections.abc import Iterable
from typing import Any

from datasets_io.errors import UnknownName


def import_object(target: str, *kinds: type, known: Iterable[str] = ()) -> Any:
    """Return the object of a name such as ``package.module:Class``.

    Args:
        target: The name: a module, a colon, and an attribute of the module.
        kinds: Classes, of one of which the object must be a subclass; without any, every object is accepted.
        known: Names of a catalogue, of which the part before the colon may be a misspelt one.

    Raises:
        UnknownName: The module cannot be imported, has no such attribute, or it is no such subclass.
    """
    module_name, _, name = target.partition(":")
    form = f"package.module:{'Class' if kinds else 'function'}"
    try:
        module = importlib.import_module(module_name)
    except (ImportError, AttributeError) as error:
        raise UnknownName(
            f"'{target}' cannot be imported: {error}.", f"Expected {form}.", given=module_name, known=known
        ) from None
    if not hasattr(module, name):
        raise UnknownName(
            f"'{target}' cannot be imported: {module_name} has no '{name}'.",
            f"Expected {form}.",
            given=name,
            known=vars(module),
        )
    found = getattr(module, name)
    if kinds and not (isinstance(found, type) and issubclass(found, kinds)):
        names = " or ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
        raise UnknownName(f"'{target}' has the wrong type.", f"Expected a subclass of {names}.")
    return found
