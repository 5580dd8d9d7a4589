"""Results of a diagnosis: findings, which may need an action, and facts, which are statistics."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""Severities, the highest first. Error: training on the data without a change fails or cannot start."""


@dataclass(frozen=True)
class Finding:
    """One result of a check, with its effect on training.

    Args:
        severity: One of `SEVERITIES`.
        check: Key of the check: `finite`, `stitched`, `rewards` ….
        what: Observation, with numbers.
        means: Effect on training.
        do: Recommended action; a command line if there is one.
        rows: First affected rows, counted in the source.
    """

    severity: Severity
    check: str
    what: str
    means: str
    do: str = ""
    rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", tuple(int(row) for row in self.rows))

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain values."""
        return asdict(self)

    @property
    def is_command(self) -> bool:
        """Return true if the recommended action is a command line."""
        return self.do.startswith("off2on ")

    @property
    def where(self) -> str:
        """Return the affected rows as text: ``first rows 12, 40, 77``; empty without rows."""
        if not self.rows:
            return ""
        word = "row" if len(self.rows) == 1 else "first rows"
        return f"{word} {', '.join(f'{row:,}' for row in self.rows)}"


@dataclass(frozen=True)
class Fact:
    """A statistic of the data, with a note on its estimator.

    Args:
        name: Label, two words at most.
        text: The statistic as text.
        values: The statistic as plain values.
        caution: Description of the estimator and its limits; shown on the page, not on the terminal.
    """

    name: str
    text: str
    values: dict[str, Any] = field(default_factory=dict)
    caution: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fact as plain values."""
        return asdict(self)


def sort_by_severity(findings: list[Finding]) -> list[Finding]:
    """Sort findings: errors, then warnings, then notes; the order within a severity is kept."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def share(part: float, whole: float) -> str:
    """Format a share as text: ``0.3 %``; ``all`` or ``none`` only if that is exact."""
    if not part or not whole:
        return "none"
    if part == whole:
        return "all"
    percent = 100 * part / whole
    if percent < 0.01:
        return "< 0.01 %"
    # Shares near 0 % and near 100 % are not rounded to these values.
    text = f"{percent:.3g}" if percent < 99.5 else f"{percent:.4g}"
    return f"{text} %" if text not in ("100", "99.99") or part == whole else "> 99.9 %"


def listed(items: list[str], most: int = 6) -> str:
    """Join the first `most` items with commas, and add the number of the others."""
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
