"""Compute the memory available for data, from the machine, its container and its limits."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

SHARE = 4
"""Divisor of the memory: the data of all learners of a machine take at most one part in this number."""

_CONTROL = Path("/sys/fs/cgroup")


def default_budget(learners: int = 0) -> int:
    """Return the default number of bytes of data in each learner of a machine: a quarter of all memory.

    It does not depend on the memory free at the moment, so that a resumed run has the same window.
    """
    step = 2**24  # a system update changes the last digits
    return max(total_memory() // SHARE // max(1, learners) // step, 1) * step


def total_memory() -> int:
    """Return the largest number of bytes that a process of this machine or container can have."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    own = [soft for soft, _ in map(resource.getrlimit, kinds) if soft != resource.RLIM_INFINITY]
    return min([machine, *own, *_container_limits()])


def _container_limits() -> Iterator[int]:
    """Yield the limits in bytes of this process's control groups, from the innermost to the outermost."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        # Version 1 has a tree for each resource, version 2 one for all, whose list of controllers is empty.
        top, name = (
            (_CONTROL / "memory", "memory.limit_in_bytes") if controllers else (_CONTROL, "memory.max")
        )
        inner = top / path.strip("/")
        for folder in (inner, *inner.parents):
            file = folder / name
            # In a container the path may be the host's, of which only the top folder is visible.
            if folder.is_relative_to(top) and file.is_file() and (text := file.read_text().strip()) != "max":
                yield int(text)
