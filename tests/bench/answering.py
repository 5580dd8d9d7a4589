"""The protocol of the workers: which algorithms there are, then seconds for each number of updates asked for.

A worker writes ``ready NAME NAME …``, then answers each line ``NAME THREADS UPDATES`` with the seconds that
these updates took. It keeps one algorithm built, so that its memory is that of one.
"""

import gc
import sys
import time
from collections.abc import Callable, Mapping

import torch

Build = Callable[[int], Callable[[int], object]]
"""Takes a number of threads, which is set already, and returns a function that makes n updates."""


def repeat(once: Callable[[], object]) -> Callable[[int], None]:
    """Return a function that makes n updates by calling one that makes one."""

    def work(updates: int) -> None:
        for _ in range(updates):
            once()

    return work


def answer(builds: Mapping[str, Build]) -> None:
    """Answer lines until there are none."""
    print("ready", *builds, flush=True)
    built: tuple[str, int] | None = None
    work: Callable[[int], object] = len
    for line in sys.stdin:
        name, threads, updates = line.split()
        if built != (name, int(threads)):
            torch.set_num_threads(int(threads))
            work = len  # frees what was built before
            gc.collect()
            work = builds[name](int(threads))
            built = (name, int(threads))
        started = time.perf_counter()
        work(int(updates))
        print(time.perf_counter() - started, flush=True)
