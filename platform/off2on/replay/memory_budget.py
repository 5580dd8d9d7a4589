"""Compute the memory available for data, from the machine, its container and its limits."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

DIVISOR = 4
"""Memory of a machine divided by the memory for the data of all its learners."""

_CGROUP_ROOT = Path("/sys/fs/cgroup")


def default_budget(learners: int = 0) -> int:
    """Return the default number of bytes of data that each learner of a machine holds.

    It is a quarter of all memory, divided by the number of learners; 0 learners means one in this process.

    It does not depend on the memory free at the moment, so that a resumed run has the same window.
    """
    step = 2**24  # rounded, because a system update may change the memory a little
    return max(total_memory() // DIVISOR // max(1, learners) // step, 1) * step


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
            (_CGROUP_ROOT / "memory", "memory.limit_in_bytes")
            if controllers
            else (_CGROUP_ROOT, "memory.max")
        )
        inner = top / path.strip("/")
        for folder in (inner, *inner.parents):
            file = folder / name
            # In a container the path may be the host's, of which only the top folder is visible.
            if folder.is_relative_to(top) and file.is_file() and (text := file.read_text().strip()) != "max":
                yield int(text)
