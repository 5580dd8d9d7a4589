"""Reports of the parts of an ingest, and their combination."""

import json
from dataclasses import asdict, dataclass, field
from functools import reduce
from typing import Any

from datasets_io.errors import BadValues, Corrupt
from datasets_io.faults import Fault, Quarantined, judge, merge
from datasets_io.ingestion.precision import MEASURED_COLUMNS, Ranges
from datasets_io.shards.manifest_checks import Column, Count, Lengths, ListedFile, Returns
from datasets_io.shards.moments import Moments
from datasets_io.storage.documents import parse_json


@dataclass(frozen=True)
class StoredReport:
    """Schema of a `PartReport` in a file."""

    files: list[ListedFile]
    columns: list[Column]
    moments: dict[str, dict[str, Any]]
    returns: Returns
    lengths: Lengths
    terminated: Count
    truncated: Count
    seen: Count
    scene_files: list[ListedFile]
    quarantined: list[Quarantined]
    faults: list[Fault]
    ranges: dict[str, dict[str, Any]] = field(default_factory=dict)
    obs_shape: list[int] = field(default_factory=list)
    left_out_episodes: Count = 0
    left_out_rows: Count = 0


@dataclass
class PartReport:
    """Files, statistics and faults of one part; stored with its files, so that a later run can skip the part.

    Args:
        files: Manifest entries of the shards.
        columns: (name, dtype, shape of a row) of each column.
        moments: Moments of the columns in `MEASURED_COLUMNS`.
        returns: Undiscounted return of each episode.
        lengths: Number of steps of each episode.
        terminated: Number of episodes ended by the task.
        truncated: Number of episodes that were cut off.
        seen: Number of rows read, including those left out.
        scene_files: Manifest entries of the files of scenes.
        quarantined: Records that were left out.
        faults: Faults of the data.
        ranges: Ranges of columns that are rounded to float32.
        obs_shape: Shape of an observation that was a matrix; empty for vectors.
        left_out_episodes: Number of episodes with NaN or infinity, which are not written.
        left_out_rows: Number of their rows.
    """

    files: list[ListedFile] = field(default_factory=list)
    columns: list[tuple[str, str, list[int]]] = field(default_factory=list)
    moments: dict[str, Moments] = field(default_factory=dict)
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    terminated: int = 0
    truncated: int = 0
    seen: int = 0
    scene_files: list[ListedFile] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    ranges: dict[str, Ranges] = field(default_factory=dict)
    obs_shape: list[int] = field(default_factory=list)
    left_out_episodes: int = 0
    left_out_rows: int = 0

    @property
    def rows(self) -> int:
        """Return the number of transitions written."""
        return sum(self.lengths)

    def to_json(self) -> str:
        """Return the report as JSON text."""
        plain = {**vars(self), "faults": [asdict(fault) for fault in self.faults]}
        for name in ("moments", "ranges"):
            plain[name] = {column: one.to_json() for column, one in plain[name].items()}
        return json.dumps(plain)

    @classmethod
    def from_json(cls, text: str | bytes) -> "PartReport":
        """Parse the text that `to_json` returns.

        Raises:
            Corrupt: The text is not that of a report.
        """
        stored = parse_json(text, StoredReport)
        rows, episodes = sum(file["rows"] for file in stored.files), len(stored.lengths)
        if rows != sum(stored.lengths) or episodes != len(stored.returns):
            raise Corrupt(f"a report lists {rows:,} rows and {episodes:,} episodes, and counts others.")
        try:
            moments = {name: Moments.from_json(one) for name, one in stored.moments.items()}
            ranges = {name: Ranges.from_json(one) for name, one in stored.ranges.items()}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise Corrupt(f"the moments of a report cannot be read: {error!r}.") from None
        return cls(**{**vars(stored), "moments": moments, "ranges": ranges})

    def refusal(self, path: Any) -> BadValues | None:
        """Return the error with which the data are refused, or None; for a combined report."""
        refused = [fault for fault in self.faults if fault.refused]
        faults = "\n".join(map(str, self.faults))
        if not refused:
            left_out = [f"{one.file}, byte {one.offset:,}: {one.reason}" for one in self.quarantined[:3]]
            return (
                None
                if self.rows
                else BadValues(f"{path} contains no episode.", "\n".join(left_out) or faults)
            )
        attempt = "--nan drop-episode" if any(fault.kind == "nan" for fault in refused) else ""
        count = f"{len(refused)} fault{'s' if len(refused) > 1 else ''}"
        return BadValues(f"refused {path}: {count} in {self.seen:,} rows.", faults, attempt)


def combine(reports: list[PartReport], source_faults: list[Fault]) -> PartReport:
    """Combine the reports of all parts, in order, with `source_faults`, the faults of the source.

    Raises:
        BadValues: The columns of two parts differ.
    """
    combined = PartReport(seen=sum(report.seen for report in reports))
    faults = merge([*source_faults, *(fault for one in reports for fault in one.faults)])
    combined.faults = judge(faults, combined.seen)
    combined.left_out_episodes = sum(report.left_out_episodes for report in reports)
    combined.left_out_rows = sum(report.left_out_rows for report in reports)
    combined.quarantined = [record for report in reports for record in report.quarantined]
    for report in (report for report in reports if report.files):
        found, first = (report.columns, report.obs_shape), (combined.columns, combined.obs_shape)
        if combined.columns and first != found:
            raise BadValues("the columns of two parts differ.", f"first {first}, then {found}")
        combined.columns, combined.obs_shape = found
        combined.files += report.files
        combined.scene_files += report.scene_files
        combined.returns += report.returns
        combined.lengths += report.lengths
        combined.terminated += report.terminated
        combined.truncated += report.truncated
    if combined.left_out_episodes and not any(fault.refused for fault in combined.faults):
        combined.faults.append(_left_out(combined))
    for name in MEASURED_COLUMNS:
        several = [report.moments[name] for report in reports if name in report.moments]
        if several:
            combined.moments[name] = reduce(Moments.merge, several)
        measured = [report.ranges[name] for report in reports if name in report.ranges]
        if measured:
            combined.ranges[name] = reduce(Ranges.merge, measured)
            if (fault := combined.ranges[name].fault(name)) is not None:
                combined.faults.append(fault)
    return combined


def _left_out(report: PartReport) -> Fault:
    """Return the fault that counts the episodes left out for NaN, and their rows."""
    episodes = len(report.lengths) + report.left_out_episodes
    detail = f"of {episodes:,} episodes left out for NaN ({report.left_out_rows:,} of {report.seen:,} rows)"
    return Fault("left_out", "", detail, count=report.left_out_episodes)
