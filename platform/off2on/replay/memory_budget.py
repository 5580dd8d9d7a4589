"""How much memory there is for data: the machine's, or what its container or limits leave of it."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

SHARE = 4
"""The data of all learners of a machine may take one part in so many: the rest is for everything else."""

_CONTROL = Path("/sys/fs/cgroup")


def default_budget(learners: int = 0) -> int:
    """Bytes of data that each of a machine's learners may hold unless it is told: a quarter of all memory.

    Of all of it, not of what is free at the moment: a run that is resumed must find the same window.
    """
    step = 2**24  # an update of the system changes the last digits
    return max(total_memory() // SHARE // max(1, learners) // step, 1) * step


def total_memory() -> int:
    """Bytes that a process of this machine or container can have at most."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    own = [soft for soft, _ in map(resource.getrlimit, kinds) if soft != resource.RLIM_INFINITY]
    return min([machine, *own, *_container_limits()])


def _container_limits() -> Iterator[int]:
    """Of the control groups that this process is in, each within the next."""
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
            # In a container the path may be that of the host, of which only the top is to be seen.
            if folder.is_relative_to(top) and file.is_file() and (text := file.read_text().strip()) != "max":
                yield int(text)
