"""Set the number of threads and the memory allocation, for fast training of small networks on a CPU."""

import ctypes
import os
import sys
import time
from collections.abc import Callable
from statistics import median

import torch


def fastest_threads(work: Callable[[], None], processes: int = 1, rounds: int = 5) -> int:
    """Return the number of torch threads with which a function is fastest, by measuring.

    Candidates are timed alternately, so that other load of the machine affects all of them. More than one
    thread must be faster by a fifth: on a busy machine several threads are much slower. OMP_NUM_THREADS,
    which Ray sets in its workers to the number of their CPUs, limits the candidates.

    Args:
        work: The function.
        processes: Number of processes that share the machine's cores.
        rounds: Number of times that each candidate is timed; the first is not counted.
    """
    cores = len(os.sched_getaffinity(0)) // processes
    available = max(1, min(cores, int(os.environ.get("OMP_NUM_THREADS") or cores)))
    candidates = [2**power for power in range(available.bit_length())]
    durations: dict[int, list[float]] = {count: [] for count in candidates}
    for _ in range(rounds if len(candidates) > 1 else 0):
        for count in candidates:
            torch.set_num_threads(count)
            started = time.perf_counter()
            work()
            durations[count].append(time.perf_counter() - started)
    if len(candidates) == 1:
        return 1
    cost = {count: median(times[1:]) * (1.0 if count == 1 else 1.2) for count, times in durations.items()}
    return min(cost, key=cost.__getitem__)


def agreed(threads: int, learners: int) -> int:
    """Return the number of the first learner in every learner; a checkpoint has no other."""
    if learners == 1:
        return threads
    number = torch.tensor(threads)
    torch.distributed.broadcast(number, 0)
    return int(number)


def configure_memory() -> None:
    """Leave new memory uninitialised, and keep freed memory in the process.

    RLlib enables torch's deterministic algorithms, which by default fill every new tensor with NaN: an eighth
    of the training time of CQL. glibc returns large blocks to the system when they are freed, so that the
    pages of every activation would be mapped again.
    """
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if sys.platform == "linux":
        trim_threshold, mmap_threshold, arena_max = -1, -3, -8
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(arena_max, 1)  # otherwise threads other than the first would still map and unmap
            libc.mallopt(trim_threshold, 1 << 30)
            libc.mallopt(mmap_threshold, 1 << 30)
