"""Waiting for what other processes do."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")


class Process(Protocol):
    """A process of subprocess or of `forked`."""

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""


def wait_for(
    condition: Callable[[], T],
    process: Process | None = None,
    seconds: float = 120,
    every: float = 0.05,
    said: Callable[[], str] = str,
) -> T:
    """What the condition gives as soon as that is something.

    Args:
        condition: Asked again and again.
        process: The one that should bring it about: waiting for a dead one is in vain.
        seconds: The longest wait.
        every: Seconds between two questions.
        said: What to tell when the wait was in vain.
    """
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert process is None or process.poll() is None, f"it has ended: {said()}"
        assert time.monotonic() < end, f"waited in vain: {said()}"
        time.sleep(every)
    return found


def runs_in(folder: Path) -> list[Path]:
    """The runs below a folder, sorted; what comes and goes while they are looked for does no harm."""
    return sorted(Path(place) for place, _, files in os.walk(folder) if "run.yaml" in files)
