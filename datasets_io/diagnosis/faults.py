"""Faults that a source or an ingest noted, as findings."""

from collections.abc import Iterable, Iterator

from datasets_io.diagnosis.finding import Finding, Severity
from datasets_io.faults import Fault

_MEANING: dict[str, tuple[Severity, str, str]] = {
    "both_ends": (
        "warning",
        "whether anything is bootstrapped from their last state depends on which mark is meant",
        "mark a row as terminal only where the task itself ended",
    ),
    "no_timeouts": (
        "warning",
        "episodes that were cut off without a terminal cannot be told from one another",
        "add a column timeouts, true in the last row of an episode that was cut off",
    ),
    "next_obs": (
        "warning",
        "rows do not follow each other where they differ: ends are missing, or rows were left out",
        "mark the missing ends; keep_next_obs=true believes the file's next_observations instead",
    ),
    "no_final_obs": (
        "note",
        "their last action teaches nothing",
        "record the observation after the last action",
    ),
    "quarantined": (
        "warning",
        "records that cannot be read were left out",
        "see quarantine.csv in the data set",
    ),
    "outside": ("note", "what the ingest saw of the actions", ""),
    "nan": ("note", "what the ingest left out", ""),
    "env": (
        "note",
        "the environment is where a policy is evaluated, and goes on learning",
        "if it is another one: --env ID",
    ),
}


def fault_findings(faults: Iterable[Fault], seen: set[str]) -> Iterator[Finding]:
    """Findings of faults.

    Args:
        faults: As sources and manifests have them.
        seen: Checks that found something themselves, whose faults need no repetition.
    """
    for fault in faults:
        if (fault.kind == "outside" and "box" in seen) or (fault.kind == "nan" and "finite" in seen):
            continue
        severity, means, do = _MEANING.get(fault.kind, ("note", "noted when the data were read", ""))
        text = f"{fault.column + ': ' if fault.column else ''}"
        text += f"{fault.count:,} {fault.detail}" if fault.count else fault.detail
        rows = () if fault.first_row is None else (fault.first_row,)
        yield Finding("error" if fault.refused else severity, "reading", text, means, do, rows)
