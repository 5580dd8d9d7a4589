"""Ray clusters of several nodes on this machine, and commands that run beside a test."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import wait_for

OFF2ON = Path(sys.executable).with_name("off2on")
PATIENCE = 300
TOKEN = "0123456789abcdef" * 4
WITH_TOKEN = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
WITH_TOKEN["RAY_AUTH_TOKEN"] = TOKEN
"""As most machines have one, which Ray makes for a Ray of one's own. The mode would be other tests'."""

# Nodes as commands say: "add 2", with so many CPUs, answers with its id; "end ID" and "kill ID" take it away.
NODES = """
import sys
from ray.cluster_utils import Cluster
jobs = {"include_dashboard": True, "dashboard_port": int(sys.argv[1]), "dashboard_agent_listen_port": None}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **jobs})
nodes = {}
print(cluster.address, flush=True)
for line in sys.stdin:
    verb, what = line.split()
    if verb == "add":
        node = cluster.add_node(num_cpus=int(what))
        nodes[node.node_id] = node
        print(node.node_id, flush=True)
    else:
        cluster.remove_node(nodes.pop(what), allow_graceful=verb == "end")
        print("gone", flush=True)
cluster.shutdown()
"""


class Nodes:
    """A Ray cluster on this machine, whose head has no CPU, in processes of its own."""

    def __init__(self, folder: str, **env: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        self.jobs = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", NODES, port], env=os.environ | {"RAY_TMPDIR": folder} | env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.address = self._answer()
        self.alive: list[str] = []

    def add(self, cpus: int) -> str:
        """Its id."""
        self.alive.append(self._ask(f"add {cpus}"))
        return self.alive[-1]

    def kill(self, node: str, how: str = "kill") -> None:
        self.alive.remove(node)
        assert self._ask(f"{how} {node}") == "gone"

    def only(self, *cpus: int) -> list[str]:
        """Ends what other tests left, and adds nodes with so many CPUs."""
        for node in list(self.alive):
            self.kill(node, "end")
        return [self.add(count) for count in cpus]

    def _ask(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(60)
        finally:
            os.killpg(self.process.pid, signal.SIGKILL) if self.process.poll() is None else None
            self.process.stdout.close()


class Job:
    """A command that runs beside the test, with a token; what it says is in a file."""

    def __init__(self, folder: Path, *words: str | Path, **env: str | Path) -> None:
        self.said = folder / "said"
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                list(map(str, words)), cwd=folder, stdout=said, stderr=said, start_new_session=True,
                env=WITH_TOKEN | {name: str(value) for name, value in env.items()},
            )  # fmt: skip

    def wait_until(self, condition: Callable[[], Any]) -> Any:
        """What the condition gives as soon as that is something."""
        return wait_for(condition, self.process, PATIENCE, said=self.said.read_text)

    def ends_well(self) -> str:
        assert self.process.wait(PATIENCE) == 0, self.said.read_text()
        return self.said.read_text()

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
