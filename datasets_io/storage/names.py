"""Check and derive names of data sets: each is the name of a folder, on a disk or in a bucket."""

import re
import unicodedata

from datasets_io.errors import UserError
from datasets_io.storage.replacing import PARTIAL

LONGEST = 100
"""Largest number of characters."""
RULE = (
    f"Expected at most {LONGEST} letters (a–z, A–Z), digits, '.', '_' and '-', "
    f"the first no '.' or '-', and not '{PARTIAL}' at the end."
)
_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{LONGEST - 1}}}")


def is_valid_name(name: str) -> bool:
    """Return True if a data set may have this name."""
    return _NAME.fullmatch(name) is not None and not name.endswith(PARTIAL)


def check_name(name: str, attempt: str = "--name {}") -> str:
    """Return the name of a data set that is to be made.

    Args:
        name: The name.
        attempt: Line for the message that shows where to give another name, in the place of {}.

    Raises:
        UserError: The name is not valid.
    """
    if is_valid_name(name):
        return name
    shown = name if len(name) <= LONGEST else f"{name[:LONGEST]}…"
    raise UserError(f"{shown!r} is not a valid name of a data set.", RULE, attempt.format(derive_name(name)))


def derive_name(text: str) -> str:
    """Return a valid name that is close to a text: `a@1` becomes a-1, `-dash` becomes dash."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).lstrip(".-")[:LONGEST]
    while name.endswith(("-", ".", PARTIAL)):
        name = name.removesuffix(PARTIAL).rstrip("-.")
    return name or "data"
