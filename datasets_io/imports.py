"""Import what users name: ``package.module:Class``, and the modules that register environments.

The current folder is searched last, and only for a module that is nowhere else: a file in it cannot take the
place of a package. Nothing is imported because a file at rest names it, except modules of `KNOWN_PACKAGES`.
"""

import importlib
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from datasets_io.errors import UnknownName, UserError

KNOWN_PACKAGES = ("datasets_io", "gym", "gymnasium", "gymnasium_robotics", "ogbench", "off2on")
"""Packages of which a file at rest may name a module."""


def is_known(module: str) -> bool:
    """Return True if a module that a file at rest names may be imported: it runs no code of others."""
    return not module or module in sys.modules or module.partition(".")[0] in KNOWN_PACKAGES


def import_module(name: str) -> ModuleType:
    """Import a module that the user names; it may be in the current folder.

    Raises:
        UnknownName: There is no such module.
        UserError: It, or a module that it imports, raises an error; `where` is the file and line.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise UnknownName(f"'{name}' is not the name of a module.", "Expected package.module.")
    try:
        return _import(name)
    except UserError as error:  # such as a misspelt objective of an algorithm
        error.where = error.where or raised_at(error)
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise UnknownName(
                f"'{name}' cannot be imported: {error}.",
                f"Looked in the packages of Python and in {Path.cwd()}.",
            ) from None
        raise UserError(
            f"'{name}' cannot be imported: {type(error).__name__}: {_first_line(error)}",
            where=raised_at(error),
        ) from error
    except SystemExit as error:
        raise UserError(
            f"'{name}' ends the process when it is imported: SystemExit({error})", where=raised_at(error)
        ) from None


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        here = str(Path.cwd())
        if error.name != name.partition(".")[0] or here in sys.path or "" in sys.path:
            raise
        sys.path.append(here)
        importlib.invalidate_caches()
        return importlib.import_module(name)


def import_object(target: str, *kinds: type, known: Iterable[str] = ()) -> Any:
    """Return the object of a name such as ``package.module:Class``.

    Args:
        target: The name: a module, a colon, and an attribute of the module.
        kinds: Classes, of one of which the object must be a subclass; without any, every object is accepted.
        known: Names of a catalogue, of which the part before the colon may be a misspelt one.

    Raises:
        UnknownName: The module is not found, has no such attribute, or it is no such subclass.
        UserError: The module raises an error.
    """
    module_name, _, name = target.partition(":")
    form = f"package.module:{'Class' if kinds else 'function'}"
    try:
        module = import_module(module_name)
    except UnknownName as error:
        raise UnknownName(
            f"'{target}' cannot be imported: {error.what}",
            f"Expected {form}. {error.expected}",
            given=module_name,
            known=known,
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


def names_code(text: str) -> bool:
    """Return True if a text has the form ``package.module:name``."""
    return _CODE.fullmatch(text) is not None


_CODE = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")


def raised_at(error: BaseException) -> str:
    """Return ``file:line`` where an error was raised, in code of the user if any of it is on the way."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [*traceback.walk_tb(error.__traceback__)]
    return line_of_user(error) or (f"{frames[-1][0].f_code.co_filename}:{frames[-1][1]}" if frames else "")


def line_of_user(error: BaseException) -> str:
    """Return the last ``file:line`` of the user's code on the way to an error; empty if there is none."""
    for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
        if _is_users(frame.f_code.co_filename, frame.f_globals):
            return f"{frame.f_code.co_filename}:{line}"
    return ""


def installed_version(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def own_folders() -> list[str]:
    """Return the folders of `sys.path` that hold modules of the user, not Python's or installed ones."""
    folders = [os.path.abspath(folder) for folder in sys.path]
    return [folder for folder in folders if not folder.startswith(_PYTHONS_OWN)]


def path_extender(folders: Iterable[str]) -> Callable[[], None]:
    """Return a function that appends folders to `sys.path`, for Ray's workers: it is sent by value."""
    added = list(folders)

    def extend() -> None:
        import sys

        sys.path.extend(folder for folder in added if folder not in sys.path)

    return extend


_PYTHONS_OWN = ("<", *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")))
"""Folders of Python and of installed packages, and the mark of code that is in no file."""


def _is_users(file: str, names: Mapping[str, Any]) -> bool:
    package = str(names.get("__name__")).partition(".")[0]
    # The modules of torch are also those that it compiles, in files of a temporary folder.
    return package not in (*KNOWN_PACKAGES, "torch") and not file.startswith(_PYTHONS_OWN)


def _first_line(error: BaseException) -> str:
    return f"{error}".strip().partition("\n")[0]
