"""Source → shards: whole or not at all, in parallel through Ray Data, resumable after any death.

Everything is written into NAME.partial/. Each finished part has its Parquet file there and a small JSON
report, which is written last; a later run with the same data, code and options keeps those parts and does the
rest.
When all are there the manifest is written and the folder renamed to NAME, in one step.
"""

import csv
import fcntl
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from datasets_io.describing import describe_data
from datasets_io.environments import spaces_of
from datasets_io.errors import BadValues, Exists, UserError
from datasets_io.faults import Quarantined
from datasets_io.inspection import Rules
from datasets_io.manifest import FILE, SCHEMA_VERSION, space_to_json
from datasets_io.parallel import run_parts
from datasets_io.reports import PartReport, combine
from datasets_io.scenes import FOLDER as SCENES
from datasets_io.shards import Shards
from datasets_io.source import Source
from datasets_io.writing import PartWriter

QUARANTINE = "quarantine.csv"
"""Beside the manifest: the records that were left out."""

Progress = Callable[[int, int, int], None]
"""Called with (rows written so far, parts finished, parts in all)."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to write any one part."""

    source: Source
    folder: Path
    rules: Rules
    discount: float | None
    split: int | None
    id_prefix: str = ""

    def write(self, index: int, part: Any, progress: Callable[[int], None] | None = None) -> PartReport:
        """Writes part number `index` and, last, its report."""
        source = copy(self.source)
        source.__dict__["_faults"], source.__dict__["_quarantined"] = [], []  # those of this part alone
        writer = PartWriter(
            self.folder, index, self.rules, self.discount, self.split, self.id_prefix, progress
        )
        report = writer.write(source.episodes(part), source.faults)
        report.quarantined = source.quarantined
        write_text(self.folder / "parts" / f"{index:05d}.json", report.to_json())
        return report

    def finished(self, index: int) -> PartReport | None:
        """The report of a part that is already there and whole, else None."""
        path = self.folder / "parts" / f"{index:05d}.json"
        if not path.is_file():
            return None
        report = PartReport.from_json(path.read_text())
        listed = [("shards", file) for file in report.files]
        listed += [(SCENES, file) for file in report.scene_files]
        sizes = ((self.folder / kind / file["name"], file["bytes"]) for kind, file in listed)
        whole = all(file.is_file() and file.stat().st_size == size for file, size in sizes)
        return report if whole else None


def ingest(
    source: Source,
    path: Any,
    out: Path,
    *,
    name: str,
    rows_per_shard: int = 100_000,
    discount: float | None = None,
    nan: str = "refuse",
    clip_actions: bool = False,
    store_new_obs: bool = False,
    overwrite: bool = False,
    id_prefix: str = "",
    progress: Progress | None = None,
) -> Shards:
    """Writes a source's episodes as the data set OUT/NAME.

    Args:
        source: Where the episodes come from.
        path: Handed to `source.parts`: a file, a folder, or None.
        out: Folder of data sets (see `data_root`).
        name: Of the data set and its folder.
        rows_per_shard: About how many rows a file has.
        discount: Store a column `ret` computed with it, for readers other than `Shards`, which derives it.
        nan: `refuse`, or `drop-episode`: leave out each episode with a NaN or an infinity.
        clip_actions: Clip actions to the action space's box; otherwise those outside are only reported.
        store_new_obs: Store `new_obs` with every row, for readers other than `Shards`, which derives it.
        overwrite: Replace a data set of that name.
        id_prefix: Of the ids of episodes to which the source gives none.
        progress: Told how far it is.

    Returns:
        The data set, opened.

    Raises:
        Exists: There is a data set of that name, or another ingest is writing it.
        UnknownName: There is nothing at `path`.
        BadValues: The data were refused; nothing is left behind.
        Corrupt: A file is truncated or is not what its name says.
        MissingColumn: A column is not there.
    """
    rules = Rules(nan, clip_actions, store_new_obs)
    final, folder, old = out / name, out / f"{name}.partial", out / f"{name}.old.partial"
    if not name or Path(name).name != name or name.endswith(".partial"):
        raise BadValues(f"{name!r} cannot name a data set.", "It names a folder: no slash, no '.partial'.")
    if old.exists():  # an overwrite was killed between its two renamings, or after them
        shutil.rmtree(old) if final.exists() else os.replace(old, final)
    if final.exists() and not overwrite:
        raise Exists(f"{final} exists.", "", f"off2on data add {name} --overwrite, or another --name")

    source = copy(source)
    source.rows_per_shard = rows_per_shard
    source.__dict__["_faults"] = []
    sha256 = source.fingerprint(path)
    parts = source.parts(path)
    observation_space, action_space = _spaces(source)
    if action_space is not None:
        rules = Rules(nan, clip_actions, store_new_obs, space_to_json(action_space))
    plan = {
        "sha256": sha256,
        "code": source.code_hash,
        "options": source.options(),
        "rules": asdict(rules),
        "parts": len(parts),
        "rows_per_shard": rows_per_shard,
        "discount": discount,
        "versions": [SCHEMA_VERSION, pa.__version__],
    }
    split = rows_per_shard if len(parts) == 1 else None
    job = Job(source, folder.absolute(), rules, discount, split, id_prefix)
    with _locked(folder, json.dumps(plan, sort_keys=True, default=str)):
        reports = run_parts(job, parts, progress)
        report = combine(reports, source.faults)
        if (refusal := report.refusal(path)) is not None:
            raise refusal
        manifest = describe_data(
            source, path, name, report, (observation_space, action_space), sha256, discount
        )
        if report.quarantined:
            write_text(folder / QUARANTINE, _csv(report.quarantined))
        write_text(folder / FILE, manifest.to_json())
        shutil.rmtree(folder / "parts")
        (folder / "plan.json").unlink()
        if final.exists():
            os.replace(final, old)
        os.replace(folder, final)
    (final / "lock").unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)
    return Shards(final)


@contextmanager
def _locked(folder: Path, plan: str) -> Iterator[None]:
    """Holds the partial folder for one process, emptied unless it was begun with the same plan."""
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    with exclusive(folder / "lock"):
        plan_file = folder / "plan.json"
        if not plan_file.is_file() or plan_file.read_text() != plan:
            for old in ("shards", SCENES, "parts"):
                shutil.rmtree(folder / old, ignore_errors=True)
        for fresh in ("shards", "parts"):
            (folder / fresh).mkdir(exist_ok=True)
        for kind in ("shards", SCENES):
            for leftover in (folder / kind).glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
        write_text(plan_file, plan)
        try:
            yield
        except UserError:  # refused data leave nothing behind; a killed process leaves its finished parts
            shutil.rmtree(folder)
            raise


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds a lock file for this process.

    Raises:
        Exists: Another one holds it.
    """
    with path.open("w") as lock:
        try:
            # The system lets go of it when the process dies, however it dies.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Exists(f"another process is writing {path.parent}.", "Wait for it, or stop it.") from None
        yield


def _csv(records: list[Quarantined]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Quarantined._fields, *records])
    return text.getvalue()


def write_text(path: Path, text: str) -> None:
    """Writes a file that is there as a whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def _spaces(source: Source) -> tuple[Any, Any]:
    """The declared spaces, else those of the environment, else None where the data will have to tell."""
    observation_space, action_space = source.observation_space, source.action_space
    if source.env and (observation_space is None or action_space is None):
        spaces = spaces_of(source.env, source.env_options)
        if spaces.trouble:
            detail = f"{source.env} cannot be made here, so spaces are the data's ({spaces.trouble})"
            source.note("env", "", detail)
        if observation_space is None:
            observation_space, source.nested_observation_space = spaces.observation, spaces.nested
        action_space = spaces.action if action_space is None else action_space
    return observation_space, action_space
