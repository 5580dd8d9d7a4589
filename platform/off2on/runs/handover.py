"""The content of handover.yaml: the settings that change at the handover, and the checks."""

from dataclasses import asdict, dataclass
from pathlib import Path

from datasets_io.storage.documents import dump_yaml, read_yaml

FILE = "handover.yaml"


@dataclass(frozen=True)
class SettingChange:
    """Values of a setting in the offline and in the online phase."""

    what: str
    offline: str
    online: str


@dataclass(frozen=True)
class HandoverCheck:
    """Result of a check; only information if `passed` is None."""

    what: str
    passed: bool | None
    found: str


@dataclass(frozen=True)
class HandoverReport:
    """The handover of a run.

    Attributes:
        changes: Settings of both phases, also those that do not change.
        checks: Results of the checks.
    """

    changes: list[SettingChange]
    checks: list[HandoverCheck]

    @property
    def changed(self) -> list[SettingChange]:
        """The settings that change."""
        return [change for change in self.changes if change.offline != change.online]

    def lines(self) -> list[str]:
        """Return lines for the screen: the settings that change, and every check."""
        names = [each.what for each in self.changed] + [each.what for each in self.checks]
        width = max(map(len, names), default=0)
        lines = [f"{each.what:<{width}}  {each.offline} → {each.online}" for each in self.changed]
        marks = {True: "check passed", False: "WARNING", None: "information"}
        lines += [f"{each.what:<{width}}  {marks[each.passed]}: {each.found}" for each in self.checks]
        return ["the handover", *(f"  {line}" for line in lines)]

    def to_yaml(self) -> str:
        """Return the report as YAML."""
        return dump_yaml(asdict(self))


def read_handover(folder: Path) -> HandoverReport | None:
    """Read handover.yaml of a run; return None if there is none.

    Raises:
        Corrupt: It does not describe a handover.
    """
    path = folder / FILE
    return read_yaml(path, HandoverReport) if path.exists() else None
