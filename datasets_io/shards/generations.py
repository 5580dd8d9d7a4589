"""Generations of a data set: each addition is a generation of shards, and written generations never change.

`NAME@1` selects generations 0 to 1, `NAME@1+` generation 1 and all later ones, `NAME@1-3` generations 1 to 3.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

from datasets_io.errors import UnknownName
from datasets_io.faults import merge
from datasets_io.shards.manifest import Generation, Manifest, content_hash
from datasets_io.shards.moments import Moments


class GenerationRange(NamedTuple):
    """Generations `first` to `last` (included) of the data set `name`; `last` None: the newest."""

    name: str
    first: int
    last: int | None


def parse_generations(text: str) -> GenerationRange | None:
    """Parse `NAME@1`, `NAME@1+` or `NAME@1-3`; return None for a plain name."""
    match = re.fullmatch(r"(.+)@(\d+)(\+|-\d+)?", text)
    if match is None:
        return None
    name, number, rest = match[1], int(match[2]), match[3]
    if rest is None:
        return GenerationRange(name, 0, number)
    return GenerationRange(name, number, None if rest == "+" else int(rest[1:]))


def restrict(manifest: Manifest, wanted: GenerationRange) -> Manifest:
    """Return the manifest restricted to some generations.

    Raises:
        UnknownName: The data set has fewer generations.
    """
    existing = manifest.generations
    last = len(existing) - 1 if wanted.last is None else wanted.last
    if not wanted.first <= last < len(existing):
        number = max(wanted.first, last)
        raise UnknownName(
            f"{manifest.name} has no generation {number}.",
            f"It has {', '.join(f'{one} ({part.created[:10]})' for one, part in enumerate(existing))}.",
        )
    before, chosen = existing[: wanted.first], existing[wanted.first : last + 1]

    def cut(values: Sequence[Any], attribute: str) -> list[Any]:
        start = sum(getattr(part, attribute) for part in before)
        return list(values[start : start + sum(getattr(part, attribute) for part in chosen)])

    files = cut(manifest.files, "files")
    return replace(
        manifest,
        **totals(chosen),
        returns=cut(manifest.returns, "episodes"),
        lengths=cut(manifest.lengths, "episodes"),
        files=files,
        scene_files=cut(manifest.scene_files, "scene_files"),
        content_hash=content_hash(files),
    )


def totals(chosen: Sequence[Generation]) -> dict[str, Any]:
    """Return the manifest fields that are sums over generations: counts, statistics and faults."""
    counts = ("rows", "episodes", "terminated", "truncated")
    return {name: sum(getattr(part, name) for part in chosen) for name in counts} | {
        "statistics": {
            name: reduce(Moments.merge, (Moments.from_json(part.moments[name]) for part in chosen)).summary()
            for name in chosen[0].moments
        },
        "faults": merge(fault for part in chosen for fault in part.faults),
        "generations": list(chosen),
    }
