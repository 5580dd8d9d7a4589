"""Run commands and kill them with SIGKILL at random moments; the moments follow from a seed."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

KILLS = int(os.environ.get("OFF2ON_KILLS", "20"))
"""Number of kills of each kind (make crash)."""
OFF2ON = str(Path(sys.executable).with_name("off2on"))
LONGEST_S = 600.0
_MARK = "OFF2ON_TEST_COMMAND"


class Ended(NamedTuple):
    """A command that has ended.

    Attributes:
        code: Exit code; -9 if it was killed.
        output: What it wrote to stdout and stderr.
        seconds: How long it ran.
        mark: Value of an environment variable that only its processes have; see `left_processes`.
    """

    code: int
    output: str
    seconds: float
    mark: str

    @property
    def killed(self) -> bool:
        """Return True if it was killed before it ended by itself."""
        return self.code == -signal.SIGKILL


def run(
    words: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None = None, after: float | None = None
) -> Ended:
    """Run a command in a session of its own, and kill its process group with SIGKILL.

    Args:
        words: The command.
        cwd: Its folder.
        env: Variables in addition to those of this process.
        after: Seconds until the kill; None to let it end, in at most `LONGEST_S`.
    """
    mark, start = uuid.uuid4().hex, time.monotonic()
    with (cwd / f".{mark}.output").open("w+b") as output:
        process = subprocess.Popen(
            [str(word) for word in words], cwd=cwd, env={**os.environ, **(env or {}), _MARK: mark},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(LONGEST_S if after is None else after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = time.monotonic() - start
        Path(output.name).unlink()
        output.seek(0)
        return Ended(process.returncode, output.read().decode(errors="replace"), seconds, mark)


def moments(seed: int, longest: float, count: int = KILLS) -> list[float]:
    """Return random moments between 0 and `longest` seconds, and print them for who repeats a failure."""
    chance = random.Random(seed)
    drawn = [round(chance.uniform(0, longest), 3) for _ in range(count)]
    sys.stdout.write(f"seed {seed}: kills after {drawn} s\n")
    return drawn


def left_processes(mark: str) -> dict[int, str]:
    """Return the processes {id: command line} of a command that still run, its children's included."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"{_MARK}={mark}".encode() in (place / "environ").read_bytes().split(b"\0"):
                found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has ended meanwhile, or is another user's
            continue
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder by its path; a subfolder is an empty entry PATH/."""
    return {
        f"{path.relative_to(folder)}{'/' if path.is_dir() else ''}": path.read_bytes()
        if path.is_file()
        else b""
        for path in sorted(folder.rglob("*"))
    }
