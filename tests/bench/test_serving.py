"""Requests per second and how long they take, of a real service on this machine, against the bare policy."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from off2on.serving.policies import ServedPolicy

pytestmark = pytest.mark.bench

OFF2ON = Path(sys.executable).with_name("off2on")
CONNECTIONS, REQUESTS = 16, 125


def test_requests_against_the_bare_policy(toy, tmp_path):
    environment = os.environ | {"OFF2ON_DATA": str(toy.path.parent)}
    words = ["train", "iql", toy.path.name, "--updates", "20", "--eval-episodes", "1", "--threads", "1"]
    subprocess.run([OFF2ON, *words], cwd=tmp_path, env=environment, check=True, capture_output=True)
    (run,) = (tmp_path / "runs").glob("*/iql-s0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    service = subprocess.Popen(
        [OFF2ON, "serve", str(run), "--port", str(port)],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert service.stdout is not None
        while not service.stdout.readline().startswith("serving"):
            assert service.poll() is None
        body = json.dumps({"obs": [1.0, 0.0, 0.5]})

        def ask(_: int) -> list[float]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            taken = []
            for _ in range(REQUESTS):
                started = time.perf_counter()
                connection.request("POST", "/act", body)
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                answer.read()
                taken.append(time.perf_counter() - started)
            connection.close()
            return taken

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(ask, range(CONNECTIONS)))  # warm
            started = time.perf_counter()
            taken = np.concatenate(list(pool.map(ask, range(CONNECTIONS)))) * 1000
            rate = CONNECTIONS * REQUESTS / (time.perf_counter() - started)
    finally:
        service.send_signal(signal.SIGINT)
        service.wait(120)
        if service.stdout is not None:
            service.stdout.close()
    policy, obs = ServedPolicy(run / "policy.pt"), np.zeros((1, 3), np.float32)
    started = time.perf_counter()
    for _ in range(500):
        policy.act(obs)
    bare = 500 / (time.perf_counter() - started)
    middle, slow = np.percentile(taken, (50, 99))
    print(f"\nserving, {CONNECTIONS} connections: {rate:,.0f} requests/s")
    print(f"p50 {middle:.1f} ms, p99 {slow:.1f} ms")
    print(f"the bare policy, one row at a time: {bare:,.0f}/s; ratio {rate / bare:.2f}")
    assert len(taken) == CONNECTIONS * REQUESTS
