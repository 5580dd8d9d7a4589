"""Output of ``off2on data show`` and of ``off2on data add``: facts of a data set."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets_io.scores import key_of, mean_normalised, reference, reference_status
from off2on.commands.output import format_size, plural, print_json, print_line, print_table

if TYPE_CHECKING:
    from datasets_io import Manifest, Shards
    from datasets_io.storage import Place

LABEL = 12


def describe(shards: "Shards", json_: bool) -> None:
    """Print the manifest and the scores of a data set.

    Args:
        shards: The data set.
        json_: Print JSON: the manifest, `path`, `return` and `normalised` (score of the mean return; null
            without a reference).
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
    """Format the number and the size of the shards: ``2 shards, 141 MB``."""
    size = format_size(sum(file["bytes"] for file in manifest.files))
    return f"{plural(len(manifest.files), 'shard')}, {size}"


def scale(manifest: "Manifest") -> str:
    """Describe the reference returns of scores 0 and 100, or the reason why there are none."""
    key = key_of(manifest)
    pair, (kind, why) = reference(key), reference_status(key)
    if pair is None:
        return f"none: {why}"
    note = f"; {why}" if kind == "convention" else ""
    return f"(random {pair[0]:g} is 0, expert {pair[1]:g} is 100{note})"


def _facts(shards: "Shards", score: float | None) -> Iterator[tuple[str, str]]:
    manifest, returns = shards.manifest, shards.returns
    least, lower, middle, upper, most = np.quantile(returns, (0, 0.25, 0.5, 0.75, 1))
    lengths = manifest.lengths
    yield "name", f"{manifest.name}: {manifest.description}"
    yield "folder", f"{shards.path} ({stored(manifest)})"
    yield "environment", manifest.env_id or "unknown: only offline training is possible"
    yield "observations", str(shards.observation_space)
    yield "actions", str(shards.action_space)
    yield "rows", f"{manifest.rows:,}"
    yield "episodes", f"{manifest.episodes:,} of {min(lengths):,} to {max(lengths):,} steps"
    yield "ended", f"{manifest.terminated:,} by the task, {manifest.truncated:,} cut off"
    yield "return", f"{returns.mean():.1f} ± {returns.std():.1f}"
    yield "", f"min {least:.1f} · 25 % {lower:.1f} · median {middle:.1f} · 75 % {upper:.1f} · max {most:.1f}"
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


def print_summary(shards: "Shards", path: "Place | None", seconds: float) -> None:
    """Print a summary of a new data set.

    Args:
        shards: The data set.
        path: Path that was read, or None.
        seconds: Duration of the ingest.
    """
    from datasets_io import storage

    manifest = shards.manifest
    rows = f"{manifest.rows:,} rows"
    if any(fault.kind == "left_out" for fault in manifest.faults):
        rows += " kept"
    if path is not None and storage.is_file(path):
        read = f"{path}   {format_size(storage.size(path))}, {rows}"
    else:
        read = f"{path or manifest.description}   {rows}"
    print_line("reading", read)
    _print_checks(manifest)
    content = f"sha256:{manifest.content_hash[:4]}…{manifest.content_hash[-3:]}"
    print_line("writing", f"{shards.path}   {stored(manifest)}, {seconds:.0f} s · {content}")
    print_line("score", _score(manifest))
    _print_known_defects(manifest.name)


def _print_known_defects(name: str) -> None:
    """Print the reported defects of data of this name."""
    from datasets_io.diagnosis.known_defects import known_defects

    for number, known in enumerate(known_defects(name)):
        print_line("" if number else "known", f"{known.what} ({known.issue}): {known.do}")


def _print_checks(manifest: "Manifest") -> None:
    kinds = {fault.kind for fault in manifest.faults}
    results = ["episodes with NaN left out" if "nan" in kinds else "no NaN"]
    space = manifest.action_space
    box = f"0 … {space['n'] - 1}" if space["type"] == "Discrete" else _box(space["low"], space["high"])
    what = "actions are choices" if space["type"] == "Discrete" else "actions"
    results.append(f"{what}{', not all' if 'outside' in kinds else ''} in {box}")
    ends = f"{manifest.terminated:,} ended by the task, {manifest.truncated:,} cut off"
    results.append(f"{plural(manifest.episodes, 'episode')}, {ends}")
    print_line("checking", " · ".join(results))
    for fault in manifest.faults:
        print_line("warning" if fault.kind == "left_out" else "", str(fault))


def _box(low: Any, high: Any) -> str:
    return (
        "the box" if isinstance(low, list) or isinstance(high, list) else f"[{float(low):g}, {float(high):g}]"
    )


def _score(manifest: "Manifest") -> str:
    score = mean_normalised(key_of(manifest), manifest.returns)
    mean = sum(manifest.returns) / manifest.episodes
    own = f"mean return of the data {mean:.1f} ({min(manifest.returns):.1f} … {max(manifest.returns):.1f})"
    return own if score is None else f"{own}: {score:.1f} normalised {scale(manifest)}"
