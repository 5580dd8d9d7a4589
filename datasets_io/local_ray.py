"""Start a local Ray instance for this process, which ends with it, also when it is killed.

Ray itself would leave agents running for a minute after a kill, and a folder for ever. Each local Ray gets a
folder of its own; its processes have it in the variable ``RAY_TMPDIR`` and write their output into it.
Another process, which is this file run as a script, waits for the end of the first, then kills those
processes and removes the folder.
"""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

LONGEST_S = 60.0
"""Seconds after which the watchdog gives up on a process that a signal does not end."""
_VARIABLE = "RAY_TMPDIR"
_TOO_SLOW = re.compile(r"timed out|failed to start GCS|may not have started", re.IGNORECASE)
"""Words of Ray's errors about processes of its own that did not start in time."""
_watchdogs: list["subprocess.Popen[bytes]"] = []
"""The watchdog of the running Ray, if it is a local one."""


def runtime_environment(**variables: str) -> dict[str, Any]:
    """Return Ray's ``runtime_env``: workers find the modules that this process finds, but search them last.

    Args:
        variables: Environment variables of the workers.
    """
    from datasets_io.imports import own_folders, path_extender

    return {"env_vars": variables, "worker_process_setup_hook": path_extender(own_folders())}


def start_ray(**options: Any) -> None:
    """Start Ray without a dashboard; a bare ``ray.init`` would join any cluster of this machine.

    Args:
        options: Arguments of ``ray.init``.

    Raises:
        RayNotStarted: Its processes did not start in time.
    """
    import ray

    from datasets_io.errors import RayNotStarted
    from datasets_io.ray_internals import job_config, loopback_only

    options.setdefault("runtime_env", runtime_environment())
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray sends statistics to its makers
    before = os.environ.get(_VARIABLE)
    # A short name: Ray's sockets are in it, and their paths have at most 107 characters.
    folder = f"{before or tempfile.gettempdir()}/off2on-{uuid.uuid4().hex[:8]}"
    _watchdogs.append(_start_watchdog(folder))  # first: a kill may come at once
    os.makedirs(folder, 0o700)
    os.environ[_VARIABLE] = folder
    begun = time.monotonic()
    try:
        with loopback_only():
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
                job_config=job_config(),
                **options,
            )
    except Exception as error:  # Ray raises a bare one, among other kinds
        if not _TOO_SLOW.search(str(error)):
            raise
        stop_ray()
        reason = re.split(r"[./\n]", str(error))[0].strip()  # what follows are its words for developers
        raise RayNotStarted(
            f"Ray did not start within {time.monotonic() - begun:.0f} s; this machine may be too busy.",
            f"Run the command again, with fewer other programs. Ray reports: {reason}.",
        ) from None
    finally:
        os.environ.pop(_VARIABLE)
        if before is not None:
            os.environ[_VARIABLE] = before


def stop_ray() -> None:
    """Leave Ray; one that `start_ray` started is ended with all its processes and files."""
    import ray

    ray.shutdown()
    while _watchdogs:
        _watchdogs.pop().communicate()


def _start_watchdog(folder: str) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-I", "-S", __file__, str(os.getpid()), folder]
    null = subprocess.DEVNULL
    # In a session of its own: a signal to the group of this process does not reach it.
    return subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True, cwd="/"
    )


def _watch(parent: int, folder: str) -> None:
    """Wait until the parent has ended or closes the pipe, then remove its Ray."""
    # The pipe alone is not enough: a process that the parent forks holds it, too.
    while os.getppid() == parent and not select.select([0], [], [], 1.0)[0]:
        pass
    deadline = time.monotonic() + LONGEST_S
    while (processes := _processes(folder)) and time.monotonic() < deadline:
        for process in processes:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def _processes(folder: str) -> list[int]:
    """Return the ids of the processes of the Ray in a folder."""
    return [
        int(place.name)
        for place in Path("/proc").glob("[0-9]*")
        if _carries(place, folder) or _writes_into(place, folder)
    ]


def _carries(process: Path, folder: str) -> bool:
    try:
        variables = (process / "environ").read_bytes().split(b"\0")
    except OSError:  # it has just ended, or is another user's
        return False
    # A Ray that a worker starts has its folder in this one.
    return any(variable.startswith(f"{_VARIABLE}={folder}".encode()) for variable in variables)


def _writes_into(process: Path, folder: str) -> bool:
    """Return True if the output goes to a file of the folder; Ray's agents overwrite their environment."""
    try:
        return any(os.readlink(process / "fd" / number).startswith(f"{folder}/") for number in "12")
    except OSError:
        return False


if __name__ == "__main__":
    _watch(int(sys.argv[1]), sys.argv[2])
