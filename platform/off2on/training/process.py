"""Set up the process of a run: Ray, output to a log, and signals that stop it at a checkpoint."""

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
from datasets_io.local_ray import runtime_environment, start_ray, stop_ray
from datasets_io.storage.redaction import redact
from off2on.errors import UserError

LOCAL_STORE_BYTES = 2**30
"""Bytes of object store of a local Ray."""

CONNECT_TIMEOUT_S = 10
"""Seconds for a connection to the head of a cluster."""


def cluster_address(given: str | None) -> str | None:
    """Return the address of the cluster to join, given or of a Ray job; None: start a local Ray.

    Raises:
        UserError: The address is a URL.
    """
    address = given or os.environ.get("RAY_ADDRESS") or None
    if address is not None and "://" in address:
        where = "--address" if given else "$RAY_ADDRESS"
        raise UserError(
            f"{where} is {address}: a run cannot join a cluster through a server.",
            "Expected HOST:PORT of the cluster's head, on a machine of the cluster, or a submitted job.",
            "ray job submit --address http://HEAD:8265 -- off2on train …",
        )
    return None if address == "local" else address


def _check_connection(address: str) -> None:
    """Check that the address accepts connections; Ray itself would report a failure only after minutes."""
    host, _, port = address.rpartition(":")
    if address == "auto":  # Ray finds the cluster of this machine
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Ray cluster answers at {address}.",
            f"Expected HOST:PORT of its head: {error}.",
            "ray start --head --port 6379, and then --address HOST:6379",
        ) from None


@contextmanager
def ray_started(address: str | None, actors: int) -> Iterator[None]:
    """Join the cluster at an address or of a Ray job, or start a local Ray, unless Ray is initialised.

    Args:
        address: Address of a cluster; None: see `cluster_address`.
        actors: Number of processes that share a local Ray; 0: none is started, because a local Ray takes
            seconds and ten processes, and nothing would use it.

    Raises:
        UserError: The cluster does not answer, or refuses this machine.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    address = cluster_address(address)
    if address is None and actors == 0:
        logging.getLogger("ray").setLevel(logging.ERROR)  # as with a local Ray
        yield
        return
    os.environ.setdefault("RAY_worker_niceness", "0")
    # A job may have an environment, which is extended here.
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
    variables = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    if data := os.environ.get("OFF2ON_DATA"):  # names of data sets mean the same on every node
        variables["OFF2ON_DATA"] = str(storage.absolute(data))
    environment = runtime_environment(**variables)
    if address is None:
        # Ray would wait without a limit for a CPU per actor; on a small machine they share the cores.
        cpus = max(os.cpu_count() or 1, actors + 1)
        start_ray(num_cpus=cpus, object_store_memory=LOCAL_STORE_BYTES, runtime_env=environment)
    else:
        _join(address, environment)
    try:
        yield
    finally:
        stop_ray()


def _join(address: str, environment: dict[str, Any]) -> None:
    import ray

    _check_connection(address)
    try:
        address = ray_internals.resolved_address(address)
        ray_internals.read_token()
        refused = partial(ray_internals.refuses_token, address, CONNECT_TIMEOUT_S)
        if refused() and (not ray_internals.use_token() or refused()):
            raise UserError(
                f"the Ray cluster at {address} requires a token, and the local one is missing or differs.",
                "Expected the token of the cluster in ~/.ray/auth_token, or in $RAY_AUTH_TOKEN.",
                "scp HEAD:.ray/auth_token ~/.ray/auth_token",
            )
        ray.init(
            address=address,
            runtime_env=environment,
            job_config=ray_internals.job_config(),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.AuthenticationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"the Ray cluster at {address} cannot be joined from here.",
            f"Ray reports: {reason}\nExpected a machine of the cluster (ray start --address {address}) "
            "with the same version of Ray and, if the cluster requires one, its token.",
            f"ray status --address {address}",
        ) from None


@contextmanager
def redirect_output(log: Path) -> Iterator[TextIO]:
    """Redirect standard output and error to a log, also those of C libraries, without secrets.

    Yields:
        The original standard error, for output to the user; in a notebook, its stream into the cell.
    """
    is_notebook = type(sys.stderr).__module__.partition(".")[0] == "ipykernel"
    cell = sys.stderr if is_notebook else None  # it need not write to file descriptor 2
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    terminal = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8")
    with _RedactedFile(log.open("ab"), encoding="utf-8", line_buffering=True) as file, terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            with redirect_stdout(file), redirect_stderr(file):
                yield cell or terminal
        finally:
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            text = log.read_text(encoding="utf-8", errors="replace")
            if (hidden := redact(text)) != text:  # output that bypassed Python's streams
                storage.write_text(log, hidden)


class _RedactedFile(io.TextIOWrapper):
    """A text file that redacts secrets as they are written."""

    def write(self, text: str) -> int:
        super().write(redact(text))
        return len(text)


class StopRequest:
    """A request to stop a run."""

    is_requested = False

    def handle_signal(self, number: int, frame: FrameType | None) -> None:
        """Request the stop after the current block of updates; a second request interrupts at once."""
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn Ctrl-C and SIGTERM into a request to stop between two blocks of updates."""
    stop = StopRequest()
    try:
        before = {
            number: signal.signal(number, stop.handle_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # only the main thread can set handlers
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
