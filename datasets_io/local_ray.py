"""A Ray of our own, which listens and speaks to this machine alone."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""What Ray 2.60 knows this wish by: it fears the dialogues of those systems' firewalls. Told an address
of this machine only, it takes the one that others can reach, and its servers listen on all interfaces."""


def start_ray(**options: Any) -> None:
    """Starts Ray, without a dashboard; a bare ``ray.init`` would join any cluster on this machine.

    Args:
        options: Of ``ray.init``.
    """
    import ray
    from ray._private import ray_constants

    # Else its makers are sent statistics.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    before, told = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(LOOPBACK)
    ray_constants.ENABLE_RAY_CLUSTER = False  # as read when Ray was imported
    os.environ[LOOPBACK] = "0"  # for its processes, which have it from the first on
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            **options,
        )
    finally:  # a cluster that this process joins later is one of several machines
        ray_constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(LOOPBACK)
        if told is not None:
            os.environ[LOOPBACK] = told


@contextmanager
def answers_kept() -> Iterator[None]:
    """While Ray starts, who answers to SIGTERM and SIGINT stays who it was.

    Ray's Python ends a process in the middle of its start, and once it is connected its C++ aborts.
    """
    from ray._private import utils, worker

    answers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    set_handler, connect = utils.set_sigterm_handler, worker.connect

    def connected(*args: Any, **kwargs: Any) -> Any:
        signal.pthread_sigmask(signal.SIG_BLOCK, answers)
        try:
            return connect(*args, **kwargs)
        finally:
            for number, answer in answers.items():
                signal.signal(number, answer)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, answers)

    utils.set_sigterm_handler, worker.connect = lambda handler: None, connected
    try:
        yield
    finally:
        utils.set_sigterm_handler, worker.connect = set_handler, connect
