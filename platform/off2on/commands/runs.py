"""A run as a command line names it."""

from pathlib import Path
from typing import Any

from off2on.errors import UserError


def find_run(text: str) -> tuple[Path, dict[str, Any]]:
    """The folder of one run, and its run.yaml.

    Raises:
        UnknownName: There is none of this name; says what is near.
        UserError: There are several, or it is no run.
    """
    import yaml

    folder = Path(text)
    if not (folder / "run.yaml").is_file():
        from off2on.report import find_runs

        found = find_runs([text])
        if len(found) > 1:
            raise UserError(f"{len(found)} runs match '{text}'.", "\n".join(map(str, found[:10])))
        folder = found[0]
    about = yaml.safe_load((folder / "run.yaml").read_text(encoding="utf-8"))
    if not isinstance(about, dict) or not isinstance(about.get("data"), dict):
        raise UserError(
            f"{folder}/run.yaml does not describe a run.", "Expected a mapping with algorithm and data."
        )
    return folder, about
