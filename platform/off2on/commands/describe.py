"""``off2on data show``: a manifest for people."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets_io.scores import key_of, mean_normalised, reference, standing
from off2on.commands.output import format_size, plural, print_json, print_line, print_table

if TYPE_CHECKING:
    from datasets_io import Manifest, Shards

LABEL = 12


def describe(shards: "Shards", json_: bool) -> None:
    """Prints what is known of a data set.

    Args:
        shards: The data set.
        json_: As JSON: the manifest, and `path`, `return` and `normalised` (of the mean return; null where
            there is no reference).
    """
    manifest, returns = shards.manifest, shards.returns
    score = mean_normalised(key_of(manifest), returns)
    if json_:
        quartiles = np.quantile(returns, (0, 0.25, 0.5, 0.75, 1)).tolist()
        about = {"mean": float(returns.mean()), "std": float(returns.std()), "quartiles": quartiles}
        print_json(
            {**json.loads(manifest.to_json()), "path": str(shards.path), "return": about, "normalised": score}
        )
        return
    for label, text in _facts(shards, score):
        print_line(label.ljust(LABEL), text)
    print_line("statistics".ljust(LABEL), "")
    print_table(list(_statistics(manifest)), right=(2, 3, 4, 5))
    print_line("faults".ljust(LABEL), "" if manifest.faults else "none")
    for fault in manifest.faults:
        print_line("".ljust(LABEL), str(fault))


def stored(manifest: "Manifest") -> str:
    """How many shards they are, and how large: ``2 shards, 141 MB``."""
    return f"{plural(len(manifest.files), 'shard')}, {format_size(sum(file['bytes'] for file in manifest.files))}"


def scale(manifest: "Manifest") -> str:
    """What 0 and 100 of a normalised score stand for; where there is no reference, why."""
    key = key_of(manifest)
    pair, (kind, why) = reference(key), standing(key)
    if pair is None:
        return f"none: {why}"
    told = f"; {why}" if kind == "convention" else ""
    return f"(random {pair[0]:g} is 0, expert {pair[1]:g} is 100{told})"


def _facts(shards: "Shards", score: float | None) -> Iterator[tuple[str, str]]:
    manifest, returns = shards.manifest, shards.returns
    least, lower, middle, upper, most = np.quantile(returns, (0, 0.25, 0.5, 0.75, 1))
    lengths = manifest.lengths
    yield "name", f"{manifest.name}: {manifest.description}"
    yield "folder", f"{shards.path} ({stored(manifest)})"
    yield "environment", manifest.env_id or "unknown: it can be learned from, but not gone online with"
    yield "observations", str(shards.observation_space)
    yield "actions", str(shards.action_space)
    yield "rows", f"{manifest.rows:,}"
    yield "episodes", f"{manifest.episodes:,} of {min(lengths):,} to {max(lengths):,} steps"
    yield "ended", f"{manifest.terminated:,} by the task, {manifest.truncated:,} cut off"
    yield "return", f"{returns.mean():.1f} ± {returns.std():.1f}"
    yield "", f"{least:.1f} least · {lower:.1f} · {middle:.1f} median · {upper:.1f} · {most:.1f} largest"
    yield "normalised", f"{'' if score is None else f'{score:.1f}'} {scale(manifest)}".strip()
    yield "columns", "  ".join(f"{name} {_kind(dtype, shape)}" for name, dtype, shape in manifest.columns)
    origin = manifest.source
    yield "source", " ".join(filter(None, (origin["kind"], origin["path"], _short(origin["sha256"]))))
    yield "licence", manifest.licence
    yield "written", manifest.created
    yield "hash", f"sha256:{manifest.content_hash}"


def _kind(dtype: str, shape: list[int]) -> str:
    return f"{dtype}{shape}" if shape else dtype


def _short(sha256: str) -> str:
    return f"sha256:{sha256[:12]}…" if sha256 else ""


def _statistics(manifest: "Manifest") -> Iterator[tuple[str, ...]]:
    yield ("", "", "mean", "std", "min", "max")
    for column, known in manifest.statistics.items():
        values: dict[str, Any] = {key: np.atleast_1d(known[key]) for key in ("mean", "std", "min", "max")}
        for index in range(len(values["mean"])):
            name = column if len(values["mean"]) == 1 else f"{column}[{index}]"
            yield (" " * 10, name, *(f"{values[key][index]:.4g}" for key in ("mean", "std", "min", "max")))
