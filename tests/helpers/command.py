"""The command line in this process: without the seconds that a new one needs to import Ray and torch."""

import contextlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

from off2on.cli import main

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
