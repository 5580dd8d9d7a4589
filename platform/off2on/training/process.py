"""What a run needs of its process: Ray, a quiet terminal, and Ctrl-C at the right moment."""

import io
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from datasets_io import ray_internals, storage
from datasets_io.local_ray import start_ray
from datasets_io.storage.redaction import redact
from off2on.errors import UserError

OWN_STORE = 2**30
"""Bytes of object store of a Ray of our own."""

PATIENCE_S = 10
"""Seconds for a cluster's head to answer."""


def cluster_address(said: str | None) -> str | None:
    """The cluster to join: the one that was said, or a job's; None: a Ray of our own.

    Raises:
        UserError: It is an address of another kind.
    """
    address = said or os.environ.get("RAY_ADDRESS") or None
    if address is not None and "://" in address:
        where = "--address" if said else "$RAY_ADDRESS"
        raise UserError(
            f"{where} is {address}, and a run joins a cluster as one of its processes, not through a server.",
            "Expected HOST:PORT of the cluster's head, on a machine of the cluster; or send the run there.",
            "ray job submit --address http://HEAD:8265 -- off2on train …",
        )
    return None if address == "local" else address


def _must_answer(address: str) -> None:
    """That somebody listens there: Ray itself finds out after minutes."""
    host, _, port = address.rpartition(":")
    if address == "auto":  # Ray knows which cluster this machine is of
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE_S).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Ray cluster answers at {address}.",
            f"Expected HOST:PORT of its head: {error}.",
            "ray start --head --port 6379, and then --address HOST:6379",
        ) from None


@contextmanager
def ray_started(address: str | None, actors: int) -> Iterator[None]:
    """A Ray of our own, unless one runs already, an address is given, or a job says which (see above).

    Raises:
        UserError: No cluster answers there, or not to this machine.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    address = cluster_address(address)
    os.environ.setdefault("RAY_worker_niceness", "0")
    # A job may have said a PYTHONPATH too, which ours goes on from.
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
    paths = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    environment = {"env_vars": {"PYTHONPATH": paths}}
    if data := os.environ.get("OFF2ON_DATA"):  # names of data sets mean the same on every node
        environment["env_vars"]["OFF2ON_DATA"] = str(storage.absolute(data))
    if address is None:
        # An actor waits for a CPU of its own for ever; on a small machine they share.
        cpus = max(os.cpu_count() or 1, actors + 1)
        start_ray(num_cpus=cpus, object_store_memory=OWN_STORE, runtime_env=environment)
    else:
        _join(address, environment)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str, environment: dict[str, Any]) -> None:
    import ray

    _must_answer(address)
    try:
        address = ray_internals.resolved_address(address)
        ray_internals.read_token()
        refused = partial(ray_internals.refuses_token, address, PATIENCE_S)
        if refused() and (not ray_internals.use_token() or refused()):
            raise UserError(
                f"the Ray cluster at {address} wants its token, and here is none, or another.",
                "Expected the cluster's in ~/.ray/auth_token, or in $RAY_AUTH_TOKEN.",
                "scp HEAD:.ray/auth_token ~/.ray/auth_token",
            )
        ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.AuthenticationError) as error:
        told = str(error).strip().splitlines()[0]
        raise UserError(
            f"the Ray cluster at {address} cannot be joined from here.",
            f"Ray says: {told}\nThis machine must be one of the cluster (ray start --address {address}), "
            "with the same Ray, and if the cluster wants a token, the cluster's.",
            f"ray status --address {address}",
        ) from None


@contextmanager
def quiet(log: Path) -> Iterator[TextIO]:
    """Everything that anything says goes to the log, C libraries' words too, without secrets.

    Yields:
        The standard error of before, for what the user is to see.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    terminal = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8")
    with _Hiding(log.open("ab"), encoding="utf-8", line_buffering=True) as file, terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            with redirect_stdout(file), redirect_stderr(file):
                yield terminal
        finally:
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            said = log.read_text(encoding="utf-8", errors="replace")
            if (hidden := redact(said)) != said:  # what libraries said past Python's streams
                storage.write_text(log, hidden)


class _Hiding(io.TextIOWrapper):
    """A text file in which no secret is written."""

    def write(self, text: str) -> int:
        super().write(redact(text))
        return len(text)


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
