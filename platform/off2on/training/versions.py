"""Where results come from: versions of what matters, and the commit of the code."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("off2on", "ray", "torch", "gymnasium", "mujoco", "numpy", "pyarrow", "pandas", "h5py")


def versions() -> dict[str, str | None]:
    """Version of each package, None where it is not installed, and of Python."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def provenance() -> dict[str, Any]:
    """Versions, machine and commit, for run.yaml."""
    return {"versions": versions(), "machine": platform.platform(), "commit": _commit()}


def _commit() -> str | None:
    """The commit this package lies in, with a mark if the tree differs from it."""
    folder = Path(__file__).parent
    try:
        asked = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
