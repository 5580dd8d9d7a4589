"""Make the line to paste after an error: the given arguments, with the options that the error suggests."""

from collections.abc import Sequence
from itertools import islice

COLLECTED = ("--columns",)
"""Options whose values add up, each a NAME=VALUE; further ones may follow without the option."""


def with_options(arguments: Sequence[str], suggested: Sequence[str], wrong: str = "") -> list[str]:
    """Return arguments with the suggested options at the end, none of them twice.

    Args:
        arguments: The given arguments.
        suggested: Options, each followed by its values.
        wrong: The offending name; of the options in `COLLECTED`, a value of it is left out.
    """
    kept = list(arguments)
    for name, *values in _by_option(suggested):
        if name in COLLECTED:
            names = {wrong, *(value.partition("=")[0] for value in values)}
            kept, before = _without(kept, name, 1)
            kept, before = (
                [word for word in words if "=" not in word or word.partition("=")[0] not in names]
                for words in (kept, before)
            )
            kept += [name, *before, *values]
        else:
            kept, _ = _without(kept, name, len(values))
            kept += [name, *values]
    return kept


def _by_option(words: Sequence[str]) -> list[list[str]]:
    """Return each option together with its values."""
    found: list[list[str]] = []
    for word in words:
        if word.startswith("-"):
            found.append([word])
        else:
            found[-1].append(word)
    return found


def _without(arguments: Sequence[str], option: str, values: int) -> tuple[list[str], list[str]]:
    """Return the arguments without an option, and the values that it had there.

    Args:
        arguments: The arguments; the value may be in the word of the option, after ``=``.
        option: The option.
        values: Number of words that follow it.
    """
    left: list[str] = []
    removed: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word == option:
            removed += islice(rest, values)
        elif word.startswith(f"{option}="):
            removed.append(word.removeprefix(f"{option}="))
        else:
            left.append(word)
    return left, removed
