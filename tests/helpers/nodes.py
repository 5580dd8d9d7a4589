"""Ray clusters of several nodes on this machine, and commands that run beside a test."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forked import Forked
from processes import wait_for

PATIENCE = 300
TOKEN = "0123456789abcdef" * 4
WITH_TOKEN = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
WITH_TOKEN["RAY_AUTH_TOKEN"] = TOKEN
"""As most machines have one, which Ray makes for a Ray of one's own. The mode would be other tests'."""

# Nodes as commands say: "add 2", with so many CPUs, answers with its id; "end ID" and "kill ID" take it away;
# "idle -" waits until no CPU is taken.
NODES = """
import sys, time
from ray._private.state import GlobalState
from ray._raylet import GcsClientOptions
from ray.cluster_utils import Cluster
jobs = {"include_dashboard": True, "dashboard_port": int(sys.argv[1]), "dashboard_agent_listen_port": None}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": int(sys.argv[2]), **jobs})
nodes, state = {}, GlobalState()
state._initialize_global_state(GcsClientOptions.create(cluster.address, None, True, False))
print(cluster.address, flush=True)
for line in sys.stdin:
    verb, what = line.split()
    if verb == "add":
        node = cluster.add_node(num_cpus=int(what))
        nodes[node.node_id] = node
        print(node.node_id, flush=True)
    elif verb == "idle":
        while state.available_resources().get("CPU") != state.cluster_resources().get("CPU"):
            time.sleep(0.1)
        print("idle", flush=True)
    else:
        cluster.remove_node(nodes.pop(what), allow_graceful=verb == "end")
        print("gone", flush=True)
cluster.shutdown()
"""


class Nodes:
    """A Ray cluster on this machine, whose head has no CPU unless told, in processes of its own."""

    def __init__(self, folder: str, head_cpus: int = 0, **env: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        self.jobs = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", NODES, port, str(head_cpus)],
            env=os.environ | {"RAY_TMPDIR": folder} | env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.address = self._answer()
        self.alive: list[str] = []
        self._cpus: dict[str, int] = {}

    def add(self, cpus: int) -> str:
        """Its id."""
        self.alive.append(self._ask(f"add {cpus}"))
        self._cpus[self.alive[-1]] = cpus
        return self.alive[-1]

    def kill(self, node: str, how: str = "kill") -> None:
        self.alive.remove(node)
        assert self._ask(f"{how} {node}") == "gone"

    def only(self, *cpus: int) -> list[str]:
        """Keep the nodes with so many CPUs that other tests left, add what is missing, and end the others.

        Returns:
            The ids of all; nothing runs on them.
        """
        missing = list(cpus)
        for node in list(self.alive):
            if self._cpus[node] in missing:
                missing.remove(self._cpus[node])
            else:
                self.kill(node, "end")
        for count in missing:
            self.add(count)
        assert self._ask("idle -") == "idle"
        return list(self.alive)

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
    """An ``off2on`` that runs beside the test, with a token; what it says is in a file."""

    def __init__(self, folder: Path, *words: str | Path, **env: str | Path) -> None:
        self.said = folder / "said"
        variables = WITH_TOKEN | {name: str(value) for name, value in env.items()}
        self.process = Forked(folder, *words, env=variables, said=self.said)

    def wait_until(self, condition: Callable[[], Any]) -> Any:
        """What the condition gives as soon as that is something."""
        return wait_for(condition, self.process, PATIENCE, said=self.said.read_text)

    def ends_well(self) -> str:
        assert self.process.wait(PATIENCE) == 0, self.said.read_text()
        return self.said.read_text()

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
