"""The Ray that we start listens to this machine alone."""

import os
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import pytest


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


LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, ::1 and ::ffff:127.0.0.1, as /proc/net writes them."""


OWN_RAY = """
import sys
from datasets_io.local_ray import start_ray
import ray
start_ray(num_cpus=2)
ray.get([ray.remote(lambda: 1).remote() for _ in range(2)])
print("up", flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.mark.slow
def test_our_own_ray_listens_to_this_machine_alone():
    """What `train`, `tune`, `serve` and `data add` start."""
    mark = f"OFF2ON_MARK={uuid.uuid4().hex}"
    environment = os.environ | dict([mark.split("=")])
    with subprocess.Popen(
        [sys.executable, "-c", OWN_RAY],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        found = listening(mark)
        process.communicate("")
    assert any("gcs_server" in command for command in found)
    assert any("raylet" in command for command in found)
    assert set().union(*found.values()), "somebody listens"
    assert {command: at for command, at in found.items() if not at <= LOOPBACK} == {}
