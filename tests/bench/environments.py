"""Virtual environments of the installed peers, each of its own, in a cache folder outside the project.

An environment is made when it is missing, or when it was made for other versions. d3rlpy and RLlib pin
different versions of gymnasium, so they cannot share one.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

import torch

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "off2on-bench"
PACKAGES = {"d3rlpy": "d3rlpy==2.8.1", "torchrl": "torchrl==0.14.1"}
"""What is installed, by environment."""


def python_of(name: str) -> Path | None:
    """Return the Python of a peer's environment, which is made if it is missing.

    Returns:
        None if it cannot be made, for example without network; the reason is printed.
    """
    folder = CACHE / name
    # torch first and exact: every package is measured with the same one.
    wanted = [f"torch=={torch.__version__.split('+')[0]}", PACKAGES[name]]
    note, python = folder / "installed.txt", folder / "bin" / "python"
    if python.exists() and note.exists() and note.read_text().splitlines() == wanted:
        return python
    print(f"making an environment for {name} in {folder} …", flush=True)
    try:
        venv.create(folder, clear=True, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
        subprocess.run(install, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as failed:
        reason = str(getattr(failed, "stderr", "") or failed).strip().splitlines()[-1]
        print(f"{name} is not measured: its environment could not be made: {reason}", flush=True)
        return None
    note.write_text("\n".join(wanted))
    return python


def version_of(name: str, python: str | Path = sys.executable) -> str:
    """Return the version of a package in an environment."""
    code = f"from importlib.metadata import version; print(version({name!r}))"
    return subprocess.run(
        [str(python), "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()
