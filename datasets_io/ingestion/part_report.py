"""What a part of an ingest came to, and all parts together."""

import json
from dataclasses import asdict, dataclass, field
from functools import reduce
from typing import Any

from datasets_io.errors import BadValues
from datasets_io.faults import Fault, Quarantined, merge
from datasets_io.moments import Moments

MEASURED = ("obs", "actions", "rewards")
"""Columns whose statistics are kept."""


@dataclass
class PartReport:
    """What one part came to; kept beside its files, so that a later run need not repeat it."""

    files: list[dict[str, Any]] = field(default_factory=list)
    columns: list[tuple[str, str, list[int]]] = field(default_factory=list)
    moments: dict[str, Moments] = field(default_factory=dict)
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    terminated: int = 0
    truncated: int = 0
    seen: int = 0
    scene_files: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Transitions written."""
        return sum(self.lengths)

    def to_json(self) -> str:
        """As JSON text."""
        plain = {**vars(self), "faults": [asdict(fault) for fault in self.faults]}
        plain["moments"] = {name: moments.to_json() for name, moments in self.moments.items()}
        return json.dumps(plain)

    @classmethod
    def from_json(cls, text: str) -> "PartReport":
        """The inverse of `to_json`."""
        plain = json.loads(text)
        plain["columns"] = [(name, dtype, shape) for name, dtype, shape in plain["columns"]]
        plain["moments"] = {name: Moments.from_json(one) for name, one in plain["moments"].items()}
        plain["faults"] = [Fault(**fault) for fault in plain["faults"]]
        plain["quarantined"] = [Quarantined(*record) for record in plain["quarantined"]]
        return cls(**plain)

    def refusal(self, path: Any) -> BadValues | None:
        """Why data of which this is the whole cannot be used, if they cannot."""
        refused = [fault for fault in self.faults if fault.refused]
        faults = "\n".join(map(str, self.faults))
        if not refused:
            left_out = [f"{one.file}, byte {one.offset:,}: {one.reason}" for one in self.quarantined[:3]]
            return (
                None if self.rows else BadValues(f"{path} holds no episode.", "\n".join(left_out) or faults)
            )
        attempt = "--nan drop-episode" if any(fault.kind == "nan" for fault in refused) else ""
        count = f"{len(refused)} fault{'s' if len(refused) > 1 else ''}"
        return BadValues(f"refused {path}: {count} in {self.seen:,} rows.", faults, attempt)


def combine(reports: list[PartReport], noted: list[Fault]) -> PartReport:
    """Adds up the parts, in order, and what the source itself noted.

    Raises:
        BadValues: They have not the same columns.
    """
    whole = PartReport(faults=merge([*noted, *(fault for one in reports for fault in one.faults)]))
    whole.seen = sum(report.seen for report in reports)
    whole.quarantined = [record for report in reports for record in report.quarantined]
    for report in (report for report in reports if report.files):
        if whole.columns and whole.columns != report.columns:
            raise BadValues(
                "parts disagree in their columns.", f"first {whole.columns}, then {report.columns}"
            )
        whole.columns = report.columns
        whole.files += report.files
        whole.scene_files += report.scene_files
        whole.returns += report.returns
        whole.lengths += report.lengths
        whole.terminated += report.terminated
        whole.truncated += report.truncated
    for name in MEASURED:
        several = [report.moments[name] for report in reports if name in report.moments]
        if several:
            whole.moments[name] = reduce(Moments.merge, several)
    return whole
