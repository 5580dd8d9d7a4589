"""Our own Ray listens to this machine alone, and ends with its process; Rays of others do not."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from processes import wait_for

from datasets_io.local_ray import _processes

PARENT = """
import subprocess, sys
from datasets_io.local_ray import _start_watchdog
_start_watchdog(sys.argv[1])
print("up", flush=True)
sys.stdin.read()
"""
"""A process that starts a watchdog, without Ray."""

OWN_RAY = """
import os, sys
from datasets_io.local_ray import _watchdogs, start_ray, stop_ray
import ray
before = os.environ.get("RAY_TMPDIR")
start_ray(num_cpus=2)
assert os.environ.get("RAY_TMPDIR") == before
ray.get([ray.remote(lambda: 1).remote() for _ in range(2)])
print(_watchdogs[0].args[-1], flush=True)
sys.stdin.read()
stop_ray()
print("stopped", flush=True)
"""

LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, ::1 and ::ffff:127.0.0.1, as /proc/net writes them."""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """start(words, variables, stdout): a process in a session of its own, killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(words: list[str], stdout: int = subprocess.PIPE, **variables: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=stdout, text=True, start_new_session=True,
            env=os.environ | variables,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        with process:  # closes the pipes and waits
            process.kill()


def lines(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


SLEEP = [sys.executable, "-S", "-c", "import time; print('up', flush=True); time.sleep(600)"]


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_what_carries_the_folder_ends_with_its_process(start: Start, tmp_path: Path, how: str):
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    parent = start([sys.executable, "-c", PARENT, str(own)])
    assert lines(parent) == "up"
    ours = [start(SLEEP, RAY_TMPDIR=str(folder)) for folder in (own, own / "nested")]
    with (own / "agent.out").open("w") as output:
        writer = start(SLEEP, stdout=output.fileno())
    others = [start(SLEEP, RAY_TMPDIR=str(other)), start(SLEEP, NOTE=f"RAY_TMPDIR={own}")]
    assert [lines(process) for process in (*ours, *others)] == ["up"] * 4
    wait_for(lambda: (own / "agent.out").read_text() == "up\n", writer)
    if how == "killed":
        os.killpg(parent.pid, signal.SIGKILL)
    else:
        assert parent.stdin is not None
        parent.stdin.close()
    assert [process.wait(30) for process in (*ours, writer)] == [-signal.SIGKILL] * 3
    wait_for(lambda: not own.exists(), seconds=30)
    assert [process.poll() for process in others] == [None, None]
    assert other.is_dir()


def listening(mark: str) -> dict[str, set[str]]:
    """Command to addresses at which the processes listen that have a mark in their environment."""
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A":
                sockets[f"socket:[{inode}]"] = local.partition(":")[0]
    found: dict[str, set[str]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if mark.encode() in (process / "environ").read_bytes():
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
                opened = {os.readlink(file) for file in (process / "fd").iterdir()}
                found[command] = {sockets[name] for name in opened & sockets.keys()}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "stopped", "killed while it starts"])
def test_our_own_ray_listens_to_this_machine_alone_and_ends_with_its_process(start: Start, how: str):
    place = Path(tempfile.mkdtemp(dir="/tmp"))  # the paths of Ray's sockets must be short
    process = start([sys.executable, "-c", OWN_RAY], RAY_TMPDIR=str(place))
    try:
        if how == "killed while it starts":
            wait_for(lambda: list(place.glob("off2on-*/ray/session_*/logs/gcs_server.out")), process)
        else:
            folder = lines(process)
            assert Path(folder).parent == place
            assert len(_processes(folder)) > 4
        if how == "stopped":
            found = listening(f"RAY_TMPDIR={place}")
            assert any("gcs_server" in command for command in found)
            assert any("raylet" in command for command in found)
            assert set().union(*found.values()), "somebody listens"
            assert {command: at for command, at in found.items() if not at <= LOOPBACK} == {}
            assert process.communicate("")[0] == "stopped\n"
        else:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        begun = time.monotonic()
        wait_for(lambda: not list(place.iterdir()), seconds=30)
        # The watchdog itself has this variable, too, and ends just after it has removed the folder.
        wait_for(lambda: not _processes(str(place)), seconds=30)
        sys.stdout.write(f"{how}: nothing left after {time.monotonic() - begun:.2f} s\n")
    finally:
        place.rmdir()
