"""What a run needs of its process: Ray, a quiet terminal, and Ctrl-C at the right moment."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any, TextIO


@contextmanager
def ray_started(address: str | None, actors: int) -> Iterator[None]:
    """A Ray of our own unless one runs already or an address is given."""
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_worker_niceness", "0")
    paths = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    options: dict[str, Any] = {"runtime_env": {"env_vars": {"PYTHONPATH": paths}}}
    if address is None:
        # "local", because a bare init would join whatever cluster lives on this host.
        # An actor waits for a CPU of its own for ever; on a small machine they share.
        cpus = max(os.cpu_count() or 1, actors + 1)
        options |= {
            "address": "local",
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": 2**30,
        }
    else:
        options |= {"address": address}
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def quiet(log: Path) -> Iterator[TextIO]:
    """Everything that anything says goes to the log, C libraries' words too.

    Yields:
        The standard error of before, for what the user is to see.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    terminal = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8")
    with log.open("a", buffering=1, encoding="utf-8") as file, terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            with redirect_stdout(file), redirect_stderr(file):
                yield terminal
        finally:
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)


class Stop:
    """Whether the run was asked to stop."""

    asked = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """The first signal waits for the block of updates to end, the second does not."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM end the run between two blocks of updates, where a checkpoint is whole."""
    stop = Stop()
    try:
        before = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever owns it decides
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
