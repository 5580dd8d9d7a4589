"""What the doctor says: findings, which may need an act, and facts, which need none."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""The gravest first. An error: learning from the data as they are would go wrong, or cannot begin."""


@dataclass(frozen=True)
class Finding:
    """Something about the data that their user should know.

    Args:
        severity: One of `SEVERITIES`.
        check: Which check it comes from: `finite`, `stitched`, `rewards` ….
        what: What was seen, with numbers.
        means: What it does to learning.
        do: What to do about it; a line to paste where there is one.
        rows: The first rows at which it is seen, counted in the source.
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
        """As plain values."""
        return asdict(self)

    @property
    def is_command(self) -> bool:
        """Whether what to do is a line to paste."""
        return self.do.startswith("off2on ")

    @property
    def where(self) -> str:
        """``first rows 12, 40, 77``; nothing where rows mean nothing."""
        if not self.rows:
            return ""
        word = "row" if len(self.rows) == 1 else "first rows"
        return f"{word} {', '.join(f'{row:,}' for row in self.rows)}"


@dataclass(frozen=True)
class Fact:
    """A number about the data, with the estimator's name and its limits.

    Args:
        name: Two words at most.
        text: The number in words.
        values: The same as plain values.
        caution: How it was estimated and what it cannot tell; for the page, not for the terminal.
    """

    name: str
    text: str
    values: dict[str, Any] = field(default_factory=dict)
    caution: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def sort_by_severity(findings: list[Finding]) -> list[Finding]:
    """Errors, then warnings, then notes; otherwise in the order in which they came."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def share(part: float, whole: float) -> str:
    """``0.3 %``; ``all`` and ``none`` where it is exactly so."""
    if not part or not whole:
        return "none"
    if part == whole:
        return "all"
    percent = 100 * part / whole
    if percent < 0.01:
        return "< 0.01 %"
    # Neither the last percent nor the first may be rounded away.
    text = f"{percent:.3g}" if percent < 99.5 else f"{percent:.4g}"
    return f"{text} %" if text not in ("100", "99.99") or part == whole else "> 99.9 %"


def listed(items: list[str], most: int = 6) -> str:
    """The first few, and how many more there are."""
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
