"""Kill `serve --log` at random moments while clients play: acknowledged episodes are there exactly once."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from killed_ray import nothing_left, ray_folder, shared_memory
from kills import KILLS, OFF2ON, moments, run

from datasets_io import Shards

pytest.importorskip("ray.serve", reason="ray[serve] is not installed")
pytestmark = [pytest.mark.crash, pytest.mark.timeout(300 + KILLS * 120)]

CLIENTS, STEPS, PATIENCE = 4, 3, 200
BEYOND_S = 8.0
"""Seconds that a service lives at most after its start."""


@pytest.fixture
def temporary() -> Iterator[Path]:
    with ray_folder() as folder:
        yield folder


class Client(threading.Thread):
    """Plays episodes; their observations tell client, episode and step.

    Attributes:
        acknowledged: Numbers of the episodes whose every request was answered with 200.
        begun: Number of episodes that were begun.
        refused: Answers that were not 200.
    """

    def __init__(self, number: int, port: int, first: int, ended: threading.Event) -> None:
        super().__init__()
        self.number, self.port, self.begun, self.ended = number, port, first, ended
        self.acknowledged: list[int] = []
        self.refused: list[Any] = []

    def run(self) -> None:
        while not self.ended.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                while not self.ended.is_set() and self._play(connection):
                    pass
            except (OSError, http.client.HTTPException, ValueError):  # it does not listen yet, or was killed
                time.sleep(0.1)
            finally:
                connection.close()

    def _play(self, connection: http.client.HTTPConnection) -> bool:
        if connection.sock is None:
            connection.connect()
        self.begun += 1
        obs = [float(self.number), float(self.begun), 0.0]
        for step in range(STEPS):
            name = f"{self.number}-{self.begun}"
            answer = self._ask(connection, "/act", {"obs": [*obs[:2], step], "episode": name})
            if answer is None:
                return False
            outcome = {"id": answer["id"], "reward": 1.0, "next_obs": [*obs[:2], step + 1]}
            if self._ask(connection, "/reward", outcome | {"truncated": step == STEPS - 1}) is None:
                return False
        self.acknowledged.append(self.begun)
        return True

    def _ask(self, connection: http.client.HTTPConnection, path: str, body: Any) -> Any:
        connection.request("POST", path, json.dumps(body))
        answer = connection.getresponse()
        content = answer.read()
        if answer.status == 200:
            return json.loads(content)
        if content.startswith(b"Path "):  # of Ray Serve, which listens before the service is there
            time.sleep(0.2)
        else:
            self.refused.append((answer.status, content[:200]))
        return None


def test_a_killed_service(tmp_path: Path, data_root: Path, temporary: Path):
    data = tmp_path / "data"
    shutil.copytree(data_root / "toy-pendulum", data / "toy-pendulum")
    environment = {"OFF2ON_DATA": str(data), "RAY_TMPDIR": str(temporary)}
    words = "train td3_bc toy-pendulum hidden=16,16 batch_size=16 --updates 20 --eval-every 20"
    words += " --eval-episodes 1 --threads 1"
    trained = run([OFF2ON, *words.split()], tmp_path, environment)
    assert trained.code == 0, trained.output
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = f"serve runs/toy-pendulum/td3_bc-s0 --port {port} --log served --every 5"
    serve = [OFF2ON, *words.split()]

    def start_and_stop() -> float:
        """Return the seconds until it served."""
        begun = time.monotonic()
        with subprocess.Popen(
            serve, cwd=tmp_path, env=os.environ | environment, stdout=subprocess.PIPE, text=True,
            start_new_session=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serving")
            ready = time.monotonic() - begun
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
        return ready

    ready = start_and_stop()
    before, played = shared_memory(), dict.fromkeys(range(CLIENTS), 0)
    acknowledged: set[tuple[int, int]] = set()
    served = 0
    for moment in moments(43, ready + BEYOND_S):
        ended = threading.Event()
        clients = [Client(number, port, played[number], ended) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        killed = run(serve, tmp_path, environment, moment)
        ended.set()
        for client in clients:
            client.join()
            played[client.number] = client.begun
            acknowledged |= {(client.number, episode) for episode in client.acknowledged}
            assert not client.refused, client.refused
        assert killed.killed, killed.output
        served += any(client.acknowledged for client in clients)
        nothing_left(temporary, killed.mark, before)
    start_and_stop()
    shards = Shards(data / "served")
    shards.verify()
    found = Counter(tuple(map(int, row)) for row in shards.read_all(["obs"])["obs"].tolist())
    assert set(found.values()) == {1}, "nothing twice"
    missing = [
        episode for episode in acknowledged if any((*episode, step) not in found for step in range(STEPS))
    ]
    sys.stdout.write(
        f"serve: {KILLS} killed, {served} of them while serving; {len(acknowledged)} episodes acknowledged, "
        f"{len(missing)} missing, 0 twice, {len(shards.manifest.lengths)} in the data\n"
    )
    assert not missing
    assert acknowledged
    assert set(shards.manifest.lengths) == {STEPS}
