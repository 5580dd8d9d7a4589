"""Writing one part: episodes in, checked and counted, Parquet out; never more than a row group in memory."""

import os
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from datasets_io.columns import describe, pack, to_table
from datasets_io.episode import Array, Episode
from datasets_io.errors import BadValues
from datasets_io.faults import Fault, merge
from datasets_io.inspection import Rules, inspect
from datasets_io.moments import Moments
from datasets_io.reports import MEASURED, PartReport
from datasets_io.returns import returns_to_go
from datasets_io.scenes import FOLDER as SCENES
from datasets_io.scenes import SceneWriter
from datasets_io.source import hash_path

# Rows a row group: large enough that a column of it is one read, small enough that a streaming reader which
# holds a few of them stays in tens of megabytes. 32k rows of HalfCheetah are 3.5 MB.
ROW_GROUP = 32_768
_NO_FINAL_OBS = "cut-off episodes lost their last transition: the observation after it was not recorded"


class PartWriter:
    """Writes the episodes of one part into one or more files.

    Args:
        folder: Of the data set: files go into its `shards/`, and into its `scenes/` if episodes have some.
        part: Number of the part; its file is part-00007.parquet.
        rules: What is refused, dropped, clipped.
        discount: Store a column `ret` computed with it.
        split: Rows after which a new file is begun (numbered on from `part`), or None for one file.
        id_prefix: Of the ids of episodes that have none.
        progress: Called with the number of rows written so far.
    """

    def __init__(
        self,
        folder: Path,
        part: int,
        rules: Rules,
        discount: float | None = None,
        split: int | None = None,
        id_prefix: str = "",
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._folder, self._part, self._rules, self._discount = folder / "shards", part, rules, discount
        self._split, self._prefix, self._progress = split, id_prefix, progress
        # Row groups of equal size: a file of 100,000 rows is four of 25,000, not three and a crumb.
        self._group = ROW_GROUP if split is None else ceil(split / ceil(split / ROW_GROUP))
        self._buffer: list[Episode] = []
        self._buffered = self._row = self._number = 0
        self._file: pq.ParquetWriter | None = None
        self._file_rows = 0
        self._temporary = self._folder / f".{uuid.uuid4().hex}.tmp"
        self._scene_file = folder / SCENES / f"part-{part:05d}.parquet"
        self._scenes = SceneWriter(self._scene_file.with_name(self._temporary.name))
        self.report = PartReport()

    def write(self, episodes: Iterable[Episode], noted: list[Fault]) -> PartReport:
        """Writes all episodes; whole files appear under their names, or nothing.

        Args:
            episodes: In order.
            noted: The source's list of faults, which grows while it is read.

        Raises:
            BadValues: Arrays that disagree within or between episodes.
        """
        try:
            for episode in episodes:
                self._add(episode)
            self._flush()
            self._finish_file()
            self._finish_scenes()
        finally:
            if self._file is not None:
                self._file.close()
            self._scenes.close()
            self._temporary.unlink(missing_ok=True)
            self._scenes.path.unlink(missing_ok=True)
        self.report.faults = merge([*noted, *self.report.faults])
        return self.report

    def _add(self, episode: Episode) -> None:
        episode.check(finite=False)  # finite is looked at a row group at a time, which is far cheaper
        row = self._row if episode.row is None else episode.row
        self._row += episode.length
        self.report.seen += episode.length
        whole = episode.complete()
        if whole is None or whole.length < episode.length:
            where = row + episode.length - 1
            self._fault("no_final_obs", "obs", _NO_FINAL_OBS, where)
        if whole is None:
            return
        name = episode.id or f"{self._prefix}{self._part}-{self._number}"
        self._number += 1
        if whole.scene is not None:
            self._scenes.add(*whole.scene)
        whole = replace(whole, id=name, row=row, scene=None)
        self._same_layout(whole)
        self._buffer.append(whole)
        self._buffered += whole.length
        full = self._split is not None and self._file_rows + self._buffered >= self._split
        if self._buffered >= self._group or full:
            self._flush()

    def _fault(self, kind: str, column: str, detail: str, row: int) -> None:
        self.report.faults = merge([*self.report.faults, Fault(kind, column, detail, 1, row)])

    def _same_layout(self, episode: Episode) -> None:
        if not self._buffer:
            return
        first, now = _layout(self._buffer[0]), _layout(episode)
        if first != now:
            raise BadValues(
                f"episodes disagree: {_list(now)} at row {episode.row}, {_list(first)} before.",
                "Every episode of a data set has the same columns, each of one width.",
            )

    def _flush(self) -> None:
        if not self._buffer:
            return
        columns, starts, final = pack(self._buffer)
        first_rows = np.array([episode.row for episode in self._buffer])
        columns, bad, faults = inspect(columns, starts, final, first_rows, self._rules)
        self.report.faults = merge([*self.report.faults, *faults])
        self._buffer = [episode for episode, is_bad in zip(self._buffer, bad, strict=True) if not is_bad]
        if bad.any() and self._buffer:
            # Rare, so simply once more; what is left has no fault that would be counted twice.
            columns, starts, final = pack(self._buffer)
            columns, _, _ = inspect(columns, starts, final, first_rows[~bad], self._rules)
        if self._buffer:
            self._write_group(columns, starts, final)
        self._buffer, self._buffered = [], 0
        if self._progress is not None:
            self._progress(self.report.rows)
        if self._split is not None and self._file_rows >= self._split:
            self._finish_file()

    def _write_group(self, columns: dict[str, Array], starts: Array, final: Array) -> None:
        last = np.zeros(len(columns["t"]), bool)
        last[np.append(starts[1:], len(last)) - 1] = True
        if self._rules.store_new_obs and "new_obs" not in columns:
            columns["new_obs"] = np.concatenate([episode.obs[1:] for episode in self._buffer]).astype(
                np.float32
            )
        if self._discount is not None:
            columns["ret"] = returns_to_go(columns["rewards"], last, self._discount)
        table = to_table(columns, starts, final, [str(episode.id) for episode in self._buffer])
        report = self.report
        if report.columns and report.columns != describe(table):
            raise BadValues(
                "episodes disagree in the types of their columns.",
                f"first {report.columns}, then {describe(table)}",
            )
        report.columns = describe(table)
        if self._file is None:
            self._file = pq.ParquetWriter(
                self._temporary,
                table.schema,
                compression="zstd",
                use_dictionary=["eps_id"],
                write_statistics=["eps_id", "t", "rewards"],
            )
        self._file.write_table(table, row_group_size=2 * ROW_GROUP)
        self._file_rows += len(table)
        self._count(columns, starts, last)

    def _count(self, columns: dict[str, Array], starts: Array, last: Array) -> None:
        report = self.report
        for name in MEASURED:
            moments = Moments.of(columns[name])
            report.moments[name] = report.moments[name].merge(moments) if name in report.moments else moments
        report.returns.extend(np.add.reduceat(columns["rewards"].astype(np.float64), starts).tolist())
        report.lengths.extend(np.diff(starts, append=len(last)).tolist())
        report.terminated += int(columns["terminateds"].sum())
        report.truncated += int(columns["truncateds"].sum())

    def _finish_file(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self._file = None
        final = self._folder / f"part-{self._part + len(self.report.files):05d}.parquet"
        os.replace(self._temporary, final)
        self.report.files.append(_listed(final, self._file_rows))
        self._file_rows = 0

    def _finish_scenes(self) -> None:
        self._scenes.close()
        if len(self._scenes):
            os.replace(self._scenes.path, self._scene_file)
            self.report.scene_files.append(_listed(self._scene_file, len(self._scenes)))


def _listed(file: Path, rows: int) -> dict[str, Any]:
    """A file as the manifest lists it."""
    return {"name": file.name, "rows": rows, "bytes": file.stat().st_size, "sha256": hash_path(file)}


def _layout(episode: Episode) -> dict[str, tuple[int, ...]]:
    shapes = {"obs": episode.obs.shape[1:], "actions": episode.actions.shape[1:]}
    return shapes | {name: values.shape[1:] for name, values in episode.extras.items()}


def _list(layout: Any) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in layout.items())
