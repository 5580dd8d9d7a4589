"""Conversion of faults recorded by a source or an ingest to findings."""

from collections.abc import Iterable, Iterator

from datasets_io.diagnosis.finding import Finding, Severity
from datasets_io.faults import Fault

_MEANING: dict[str, tuple[Severity, str, str]] = {
    "both_ends": (
        "warning",
        "the two marks contradict each other on bootstrapping from their last state",
        "mark a row as terminal only if the task itself ended",
    ),
    "no_timeouts": (
        "warning",
        "truncated episodes without a terminal cannot be separated",
        "add a column timeouts, true in the last row of an episode that was cut off",
    ),
    "next_obs": (
        "warning",
        "rows that differ do not follow each other: ends are missing, or rows were left out",
        "mark the missing ends, or use the file's next_observations with keep_next_obs=true",
    ),
    "no_final_obs": (
        "note",
        "their last action cannot be used for training",
        "record the observation after the last action",
    ),
    "quarantined": (
        "warning",
        "records that cannot be read were left out",
        "see quarantine.csv in the data set",
    ),
    "offset": (
        "warning",
        "rows are stored in float32, in which the column hardly changes",
        "subtract a constant from the column, or leave it out",
    ),
    "rounded": (
        "note",
        "rows are stored in float32, which holds whole numbers up to 16,777,216",
        "leave out numbers that only name something; divide large quantities",
    ),
    "outside": ("note", "recorded by the ingest", ""),
    "nan": ("note", "left out by the ingest", ""),
    "left_out": (
        "warning",
        "the data set has only the other episodes",
        "to keep more, fill empty cells or split the episodes there, before the data are added (page Data)",
    ),
    "env": (
        "note",
        "policies are evaluated and fine-tuned in this environment",
        "name another environment with --env ID",
    ),
}


_CHECKS = {"outside": "box", "nan": "finite", "one_step": "one step"}
"""Kind of fault → check that finds the same."""


def fault_findings(faults: Iterable[Fault], seen: set[str]) -> Iterator[Finding]:
    """Yield findings for faults.

    Args:
        faults: Faults of a source or a manifest.
        seen: Keys of the checks with findings of their own; their faults are not repeated.
    """
    for fault in faults:
        if _CHECKS.get(fault.kind) in seen:
            continue
        severity, means, do = _MEANING.get(fault.kind, ("note", "recorded when the data were read", ""))
        text = f"{fault.column + ': ' if fault.column else ''}"
        text += f"{fault.count:,} {fault.detail}" if fault.count else fault.detail
        rows = () if fault.first_row is None else (fault.first_row,)
        yield Finding("error" if fault.refused else severity, "reading", text, means, do, rows)
