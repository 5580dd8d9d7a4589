"""The command line in this process: without the seconds that a new one needs to import Ray and torch."""

import contextlib
import io
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from forked import OFF2ON

from off2on.cli import main

PATIENCE = 240
"""Seconds until a process counts as stuck; a busy machine is slow."""
HEAVY = {"torch", "ray", "pandas", "pyarrow", "matplotlib", "gymnasium", "h5py", "rich"}
"""Packages that take a command long to import."""
LEFT_OUT = ("OFF2ON_DATA", "PYTHONPATH", "PYTHONWARNINGS", "RAY_ADDRESS")


def environment() -> dict[str, str]:
    """Return the environment without the variables that change what a command does."""
    return {name: value for name, value in os.environ.items() if name not in LEFT_OUT}


def off2on(cwd: Path, *words: str | Path, **variables: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run ``off2on`` in a folder, in this process, with these environment variables.

    Modules that it imports from the folder are forgotten.
    """
    out, err, before = io.StringIO(), io.StringIO(), set(sys.modules)
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(
            os.environ, environment() | {name: str(value) for name, value in variables.items()}, clear=True
        ),
        mock.patch.object(sys, "argv", ["off2on", *map(str, words)]),
        mock.patch.object(sys, "path", list(sys.path)),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        warnings.simplefilter("ignore")
        code = main()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(f"{cwd}{os.sep}"):
            del sys.modules[name]
    return subprocess.CompletedProcess(list(words), code, out.getvalue(), err.getvalue())


def succeeds(cwd: Path, *words: str | Path, **variables: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run ``off2on`` in a folder, in this process, and check that it ends with 0."""
    done = off2on(cwd, *words, **variables)
    assert done.returncode == 0, done.stderr
    return done


def run_process(cwd: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the installed command and check that it ends with 0."""
    done = subprocess.run(
        [OFF2ON, *words], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done


def with_its_imports(
    cwd: Path, words: Sequence[str | Path]
) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """A command, and the packages of HEAVY that it ends with."""
    code = (
        "import sys; from off2on.cli import main; status = main(); sys.stdout.flush();"
        "print(*sys.modules, file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=cwd, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    return done, HEAVY & set(done.stderr.splitlines()[-1].split())


def short_run(cwd: Path, **variables: str | Path) -> None:
    """Make a run of 40 updates in a folder: runs/toy-pendulum/td3_bc-s0."""
    words = ["train", "td3_bc", "toy-pendulum", "hidden=16,16", "batch_size=16", "--updates", "40"]
    words += ["--eval-episodes", "1", "--eval-every", "40", "--threads", "1"]
    succeeds(cwd, *words, **variables)
