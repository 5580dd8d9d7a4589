"""Writing of one part: episodes are checked, counted and written as Parquet, two row groups in memory."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datasets_io import storage
from datasets_io.episode import Array, Episode
from datasets_io.errors import BadValues
from datasets_io.faults import Fault, merge
from datasets_io.ingestion.inspection import IngestOptions, check_rows
from datasets_io.ingestion.part_report import PartReport
from datasets_io.ingestion.precision import MEASURED_COLUMNS, measure
from datasets_io.shards.columns import describe_columns, pack, to_table
from datasets_io.shards.manifest_checks import ListedFile
from datasets_io.shards.moments import Moments
from datasets_io.shards.returns import returns_to_go
from datasets_io.shards.scenes import SCENES_FOLDER as SCENES
from datasets_io.shards.scenes import SceneWriter
from datasets_io.source import hash_path
from datasets_io.storage import Place
from datasets_io.storage.errors import convert_full_disk

# A streaming reader reads whole row groups and keeps a few of them in memory. A group is large enough for one
# read per column, and small enough that a few groups take tens of MB. 32k rows of HalfCheetah are 3.5 MB.
ROW_GROUP = 32_768
ROW_GROUP_BYTES = 2**23
MEASURED_ROWS = 2**17
WAITING_BYTES = 4 * ROW_GROUP_BYTES
"""Size of the largest group that waits in memory for the disk while the next one is read."""
_NO_FINAL_OBS = "cut-off episodes without their last transition: the observation after it was not recorded"


class PartWriter:
    """Writer of the episodes of one part into one or more files.

    A thread compresses, writes and hashes a group while the next one is read and checked.

    Args:
        folder: Folder of the data set; files are written to `shards/`, and scenes to `scenes/`.
        part: Number of the part; its file is part-00007.parquet.
        options: Options of the ingest.
        discount: Discount of a stored column `ret`, or None.
        split: Number of rows after which a new file begins (numbered from `part`), or None for one file.
        prefix: Prefix of the file names.
        id_prefix: Prefix of the ids of episodes without an id.
        progress: Callback with the number of rows written so far.
    """

    def __init__(
        self,
        folder: Place,
        part: int,
        options: IngestOptions,
        *,
        discount: float | None = None,
        split: int | None = None,
        prefix: str = "",
        id_prefix: str = "",
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._folder, self._part, self._options, self._discount = folder, part, options, discount
        self._split, self._prefix, self._id_prefix, self._progress = split, prefix, id_prefix, progress
        # Row groups of equal size: a file of 100,000 rows has four groups of 25,000, not three and a rest.
        self._group = ROW_GROUP if split is None else ceil(split / ceil(split / ROW_GROUP))
        self._buffer: list[Episode] = []
        self._recorded: list[int] = []
        """Rows of the source of each episode in the buffer; a cut-off episode may have lost its last one."""
        self._layout: dict[str, tuple[int, ...]] | None = None
        self._buffered = self._buffered_bytes = self._row = self._number = 0
        self._file: pq.ParquetWriter | None = None
        self._disk = ThreadPoolExecutor(1, "shards")
        """Thread that uses `_file`, task by task; the report's files are added there."""
        self._written: Future[None] | None = None
        """The last task that was handed to the thread."""
        self._groups: list[int] = []
        self._temporary = storage.temporary_path_for(self._shard(0))
        self._scenes = SceneWriter(storage.temporary_path_for(self._scene_file))
        self.report = PartReport()

    def write(self, episodes: Iterable[Episode], source_faults: list[Fault]) -> PartReport:
        """Write all episodes; only complete files get their final names.

        Args:
            episodes: Episodes, in order.
            source_faults: List of faults of the source, which grows while episodes are read.

        Raises:
            BadValues: Shapes differ within or between episodes.
            NoSpace: The disk is full.
        """
        try:
            with convert_full_disk(self._temporary.parent):
                for episode in episodes:
                    self._add_episode(episode)
                self._flush()
                self._finish_file()
                if self._written is not None:
                    self._written.result()
                self._finish_scenes()
        finally:
            self._disk.shutdown(cancel_futures=True)
            self._discard()
        self.report.faults = merge([*source_faults, *self.report.faults])
        return self.report

    def _shard(self, number: int) -> Place:
        return self._folder / "shards" / f"{self._prefix}part-{self._part + number:05d}.parquet"

    @property
    def _scene_file(self) -> Place:
        return self._folder / SCENES / f"{self._prefix}part-{self._part:05d}.parquet"

    def _add_episode(self, episode: Episode) -> None:
        episode.check(finite=False)  # finiteness is checked per row group, which is much faster
        row = self._row if episode.row is None else episode.row
        self._row += episode.length
        self.report.seen += episode.length
        complete = episode.complete()
        if complete is None:
            self._add_lost(row + episode.length - 1)
            return
        name = episode.id or f"{self._id_prefix}{self._part}-{self._number}"
        self._number += 1
        if complete.scene is not None:
            self._scenes.add(*complete.scene)
        complete = complete.labelled(name, row)
        self._check_layout(complete)
        self._buffer.append(complete)
        self._recorded.append(episode.length)
        self._buffered += complete.length
        self._buffered_bytes += _bytes(complete)
        full = self._split is not None and sum(self._groups) + self._buffered >= self._split
        if self._buffered >= self._group or self._buffered_bytes >= ROW_GROUP_BYTES or full:
            self._flush()

    def _add_lost(self, row: int) -> None:
        """Report the row of a last transition that is left out."""
        self.report.faults = merge([*self.report.faults, Fault("no_final_obs", "obs", _NO_FINAL_OBS, 1, row)])

    def _check_layout(self, episode: Episode) -> None:
        now = _layout(episode)
        if self._layout is None:
            self._layout = now
        if self._layout != now:
            raise BadValues(
                f"the shapes of episodes differ: {_layout_text(now)} at row {episode.row}, "
                f"{_layout_text(self._layout)} before.",
                "All episodes of a data set have the same columns, each of one width.",
            )

    def _flush(self) -> None:
        if not self._buffer:
            return
        columns, starts, final = pack(self._buffer)
        too_large, rounded = measure(self._buffer, self.report.ranges)
        first_rows = np.array([episode.row for episode in self._buffer])
        columns, bad, faults = check_rows(columns, starts, final, first_rows, self._options, too_large)
        self.report.obs_shape = [*(self._buffer[0].obs_shape or ())]
        for episode, recorded, is_bad in zip(self._buffer, self._recorded, bad, strict=True):
            if is_bad:
                self.report.left_out_episodes += 1
                self.report.left_out_rows += recorded
            elif episode.length < recorded:
                self._add_lost(int(episode.row or 0) + recorded - 1)
        self.report.faults = merge([*self.report.faults, *rounded, *faults])
        self._buffer = [episode for episode, is_bad in zip(self._buffer, bad, strict=True) if not is_bad]
        if bad.any() and self._buffer:
            # Rare, so packed a second time; the remaining episodes have no fault that would be counted twice.
            columns, starts, final = pack(self._buffer)
            columns, _, _ = check_rows(columns, starts, final, first_rows[~bad], self._options)
        if self._buffer:
            self._write_group(columns, starts, final)
        self._buffer, self._recorded, self._buffered, self._buffered_bytes = [], [], 0, 0
        if self._progress is not None:
            self._progress(self.report.rows)
        if self._split is not None and sum(self._groups) >= self._split:
            self._finish_file()

    def _write_group(self, columns: dict[str, Array], starts: Array, final: Array) -> None:
        last = np.zeros(len(columns["t"]), bool)
        last[np.append(starts[1:], len(last)) - 1] = True
        if self._options.store_new_obs and "new_obs" not in columns:
            columns["new_obs"] = np.concatenate([episode.obs[1:] for episode in self._buffer]).astype(
                np.float32
            )
        if self._discount is not None:
            columns["ret"] = returns_to_go(columns["rewards"], last, self._discount)
        table = to_table(columns, starts, final, [str(episode.id) for episode in self._buffer])
        report = self.report
        if report.columns and report.columns != describe_columns(table.schema):
            raise BadValues(
                "the column types of two episodes differ.",
                f"first {report.columns}, then {describe_columns(table.schema)}",
            )
        report.columns = describe_columns(table.schema)
        if self._written is not None:
            self._written.result()  # one group waits, not more
        self._written = self._disk.submit(self._write_table, table)
        if table.nbytes > WAITING_BYTES:
            self._written.result()
        self._groups.append(len(table))
        self._count(columns, starts, last)

    def _write_table(self, table: pa.Table) -> None:
        if self._file is None:
            self._file = pq.ParquetWriter(
                self._temporary,
                table.schema,
                compression="zstd",
                use_dictionary=["eps_id"],
                write_statistics=["eps_id", "t", "rewards"],
            )
        self._file.write_table(table, row_group_size=len(table))  # whole episodes, readable separately

    def _count(self, columns: dict[str, Array], starts: Array, last: Array) -> None:
        report = self.report
        for name in MEASURED_COLUMNS:
            for start in range(0, len(last), MEASURED_ROWS):  # measured in float64, several copies at once
                moments = Moments.of(columns[name][start : start + MEASURED_ROWS])
                before = report.moments.get(name)
                report.moments[name] = moments if before is None else before.merge(moments)
        report.returns.extend(np.add.reduceat(columns["rewards"].astype(np.float64), starts).tolist())
        report.lengths.extend(np.diff(starts, append=len(last)).tolist())
        report.terminated += int(columns["terminateds"].sum())
        report.truncated += int(columns["truncateds"].sum())

    def _finish_file(self) -> None:
        if self._groups:
            self._written = self._disk.submit(self._close_file, self._groups, self._written)
            self._groups = []

    def _close_file(self, groups: list[int], written: Future[None] | None) -> None:
        """Publish the file of these groups, the last of which is `written`."""
        if written is not None:
            written.result()  # its error is also that of the file
        if self._file is not None:
            self._file.close()
            self._file = None
        listed = {"rows": sum(groups), "groups": groups}
        self.report.files.append(_publish(self._temporary, self._shard(len(self.report.files)), listed))

    def _discard(self) -> None:
        """Remove unfinished files."""
        for unfinished in (self._file, self._scenes):
            with suppress(OSError):  # on a full disk, closing the file fails as well
                if unfinished is not None:
                    unfinished.close()
        for scratch in (self._temporary, self._scenes.path):
            scratch.unlink(missing_ok=True)

    def _finish_scenes(self) -> None:
        self._scenes.close()
        if rows := len(self._scenes):
            self.report.scene_files.append(_publish(self._scenes.path, self._scene_file, {"rows": rows}))


def _publish(written: Path, file: Place, entry: dict[str, Any]) -> ListedFile:
    """Move a file to its final path; return its manifest entry."""
    listed: Any = {"name": file.name, **entry, "bytes": storage.size(written), "sha256": hash_path(written)}
    storage.publish(written, file)
    return listed  # type: ignore[no-any-return]


def _bytes(episode: Episode) -> int:
    """Return the approximate size of an episode in memory, in bytes."""
    return int(episode.obs.nbytes + episode.actions.nbytes + sum(x.nbytes for x in episode.extras.values()))


def _layout(episode: Episode) -> dict[str, tuple[int, ...]]:
    shapes = {"obs": episode.obs_shape or episode.obs.shape[1:], "actions": episode.actions.shape[1:]}
    return shapes | {name: values.shape[1:] for name, values in episode.extras.items()}


def _layout_text(layout: Any) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in layout.items())
