"""Commands in processes of their own, without the seconds that each would take to import torch and Ray.

A server of multiprocessing imports them once; each command is a fork of it, in a session and with an
environment of its own. What the installed command itself does is in test_cli.py.
"""

import atexit
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

OFF2ON = Path(sys.executable).with_name("off2on")
IMPORTED = (
    "off2on.cli", "off2on.training.train", "off2on.rllib.algorithm", "off2on.search.run",
    "off2on.reports.figures", "ray.serve", "torch.export", "torch._functorch.partitioners",
)  # fmt: skip
"""What the commands import, for the most part."""


@functools.cache
def _import_path() -> list[str]:
    """Return where an interpreter searches for modules that no variable and no test tells more."""
    code = "import sys; print(*sys.path, sep='\\n')"
    alone = [sys.executable, "-I", "-c", code]
    return subprocess.run(alone, capture_output=True, text=True, check=True).stdout.splitlines()


@functools.cache
def _context() -> Any:
    """Return the context of multiprocessing, with its server started, without the variables of a test."""
    multiprocessing.set_forkserver_preload(list(IMPORTED))
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "OFF2ON_"))
    }
    with mock.patch.dict(os.environ, variables, clear=True):
        forkserver.ensure_running()
    return multiprocessing.get_context("forkserver")


def _become(cwd: str, env: dict[str, str], path: list[str], out: str, err: str) -> None:
    """Become a process of its own: its session, folder, environment, files and import path."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # that of the server; $TMPDIR may name another
    # Ray read the server's environment when it was imported, such as whether a token is wanted.
    from ray._raylet import Config

    Config.initialize("")
    for number, name in ((0, os.devnull), (1, out), (2, err)):
        file = os.open(name, os.O_RDWR | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    folders = [folder for folder in env.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.argv, sys.path = ["-c"], [*folders, *path]


def _run(words: list[str], *process: Any) -> None:
    """Become the process of a command; its exit code is that of the process."""
    _become(*process)
    sys.argv = [str(OFF2ON), *words]
    sys.path.insert(0, str(OFF2ON.parent))
    from off2on.cli import main

    try:
        code = main()
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out
    sys.exit(code)


def _execute(words: list[str], *process: Any) -> None:
    """Become the process of a Python program, given as its text, as ``python -c`` would run it."""
    _become(*process)
    sys.path.insert(0, "")
    try:
        exec(words[0], {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()


class Forked:
    """A running ``off2on``, with the methods of `subprocess.Popen`; a context manager that kills it.

    Args:
        cwd: Its folder.
        words: What follows ``off2on``.
        env: All environment variables.
        said: File for standard output and standard error; None: temporary files, one each, which end with
            the context.
    """

    _target = staticmethod(_run)

    def __init__(
        self, cwd: Path, *words: str | Path, env: Mapping[str, str], said: Path | None = None
    ) -> None:
        self._folder = None if said else tempfile.TemporaryDirectory(prefix="said")
        names = [Path(self._folder.name, name) for name in ("out", "err")] if self._folder else []
        self._said = [said, said] if said else names
        for file in self._said:
            file.write_bytes(b"")
        self.args = list(map(str, words))
        given = (self.args, str(cwd), dict(env), _import_path(), *map(str, self._said))
        self._process = _context().Process(target=self._target, args=given, daemon=True)
        self._process.start()
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, or the number of a signal, negative; None while it runs."""
        return self.poll()

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        code: int | None = self._process.exitcode
        return code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: It did not end in this time.
        """
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end, and return what it wrote to standard output and standard error."""
        self.wait(timeout)
        return self.told()

    def told(self) -> tuple[str, str]:
        """Return what it has written up to now to standard output and standard error."""
        out, err = (file.read_text() for file in self._said)
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal to it alone."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it with all processes of its group."""
        if self.poll() is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:  # it is not yet the first of its group
                os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self._folder:
            self._folder.cleanup()


class ForkedProgram(Forked):
    """A running Python program; what follows its folder is its text."""

    _target = staticmethod(_execute)


def run(
    cwd: Path, *words: str | Path, env: Mapping[str, str], timeout: float = 400
) -> "subprocess.CompletedProcess[str]":
    """Run ``off2on`` to its end, for at most so many seconds."""
    with Forked(cwd, *words, env=env) as process:
        out, err = process.communicate(timeout)
        return subprocess.CompletedProcess(process.args, process.wait(), out, err)
