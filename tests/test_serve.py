"""A real service on this machine: answers, refusals, and episodes that become data to learn on from."""

import json
import os
import shutil
import signal
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch
from command import off2on, short_run, succeeds
from forked import Forked
from processes import wait_for

from datasets_io.shards.reading import Shards
from off2on.policy import load_policy
from off2on.serving.requests import MAX_BODY_BYTES

pytest.importorskip("ray.serve", reason="ray[serve] is not installed")

PATIENCE = 200
RUN = "runs/toy-pendulum/td3_bc-s0"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Service:
    """A process that serves, and what is asked of it."""

    def __init__(self, lab: Path, data: Path, *words: str) -> None:
        self.port = free_port()
        self.lab, self.words = lab, [*words, "--port", str(self.port)]
        self.environment = os.environ | {"OFF2ON_DATA": str(data)}
        self.start()

    def start(self) -> None:
        self.process = Forked(self.lab, "serve", *self.words, env=self.environment, said=self.lab / "said")
        deadline = time.monotonic() + PATIENCE
        while "serving " not in (self.lab / "said").read_text():
            assert self.process.poll() is None, (self.lab / "said").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        while self.ask("/health")[0] != 200:
            time.sleep(0.2)

    def wait_for_the_port(self) -> None:
        """Ray's own processes outlive a killed one for a moment."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                    return
            time.sleep(0.2)

    def ask(self, path: str, body: Any = None, method: str | None = None) -> tuple[int, Any]:
        """Status and answer; a body that is bytes goes out as it is."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode()
            return error.code, json.loads(text) if text.startswith("{") else text

    def end(self, number: int) -> int:
        self.process.kill() if number == signal.SIGKILL else self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A folder with a short run."""
    place = tmp_path_factory.mktemp("lab")
    short_run(place, OFF2ON_DATA=data_root)
    return place


@pytest.fixture(scope="module")
def service(lab: Path, data_root: Path) -> Iterator[Service]:
    """One for questions only: no test ends it, nor an episode."""
    found = Service(lab, data_root, RUN, "--log", "asked")
    yield found
    found.end(signal.SIGKILL)


@pytest.fixture
def own_root(tmp_path: Path, data_root: Path) -> Path:
    """A data root for the episodes of one test."""
    shutil.copytree(data_root / "toy-pendulum", tmp_path / "data" / "toy-pendulum")
    return tmp_path / "data"


@pytest.fixture
def serve(lab: Path, own_root: Path) -> Iterator[Callable[..., Service]]:
    """serve(*words): a service of a test's own, killed if it does not end it."""
    started: list[Service] = []

    def start(*words: str) -> Service:
        started.append(Service(lab, own_root, RUN, *words))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()


def policy(lab: Path) -> Any:
    return load_policy(lab / "runs/toy-pendulum/td3_bc-s0/policy.pt")


@pytest.mark.slow
def test_answers_are_the_policys_alone_in_lists_and_many_at_once(service: Service, lab: Path):
    obs = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    expected = policy(lab)(torch.from_numpy(obs)).detach().numpy()
    status, answer = service.ask("/act", {"obs": obs.tolist()})
    assert status == 200
    np.testing.assert_allclose(answer["actions"], expected, rtol=1e-5, atol=1e-6)
    assert answer["log_prob"] is None, "nothing was drawn"
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda one: service.ask("/act", {"obs": one})[1], obs.tolist()))
    np.testing.assert_allclose([each["actions"] for each in answers], expected, rtol=1e-5, atol=1e-6)
    assert {each["version"] for each in answers} == {answer["version"]}
    told = service.ask("/version")[1]
    assert (told["version"], told["algorithm"]) == (answer["version"], "td3_bc")


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/act", b"{", 400, "not JSON"),
        ("/act", {}, 400, "no 'obs'"),
        ("/act", {"obs": [1, 2]}, 400, "shape (2,)"),
        ("/act", {"obs": []}, 400, "shape"),
        ("/act", {"obs": [[1, 2, 3], [1, 2]]}, 400, "different lengths"),
        ("/act", {"obs": ["a", "b", "c"]}, 400, "not a number"),
        ("/act", b'{"obs": [NaN, 0, 0]}', 400, "NaN"),
        ("/act", {"obs": [1, 2, 3], "episde": "x"}, 400, "episde"),
        ("/act", {"obs": [[1, 2, 3]], "episode": "x"}, 400, "one observation per request"),
        ("/act", {"obs": [[0, 0, 0]] * 5000}, 413, "5,000 observations"),
        ("/reward", {"id": "nobody", "reward": 1.0}, 404, "no action has the id"),
        ("/reward", {"id": "x", "reward": "much"}, 400, "'reward' must be"),
        ("/reward", {"id": "x", "reward": 1, "terminated": True}, 400, "needs 'next_obs'"),
        ("/nowhere", {"obs": [1, 2, 3]}, 404, "/nowhere"),
    ],
)
@pytest.mark.slow
def test_bad_requests_are_told_why(service: Service, path: str, body: Any, status: int, words: str):
    found, answer = service.ask(path, body)
    assert (found, words in answer["error"]) == (status, True), answer


@pytest.mark.slow
def test_a_body_that_is_too_large_is_not_taken_in(service: Service):
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        given = f"POST /act HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\n\r\n"
        client.sendall(given.encode())
        client.settimeout(60)
        assert client.recv(64).startswith(b"HTTP/1.1 413"), "answered before it came"


@pytest.mark.slow
def test_a_wrong_method_is_told_the_right_one(service: Service):
    assert service.ask("/act")[0] == 405


def play(service: Service, episode: str, steps: int, ends: bool = True) -> list[float]:
    """An episode of its own making: observations count, rewards too."""
    actions = []
    for step in range(steps):
        status, answer = service.ask("/act", {"obs": [step, 0.5, 0.0], "episode": episode})
        assert status == 200, answer
        actions.append(answer["actions"][0])
        outcome = {"id": answer["id"], "reward": float(step), "next_obs": [step + 1, 0.5, 0.0]}
        status, told = service.ask("/reward", outcome | {"truncated": ends and step == steps - 1})
        assert status == 200, told
    return actions


@pytest.mark.slow
def test_episodes_become_a_data_set_that_learning_goes_on_from(
    serve: Callable[..., Service], lab: Path, own_root: Path
):
    service = serve("--log", "served", "--every", "2")
    first, second = play(service, "one", 4), play(service, "two", 3)
    shards = Shards(own_root / "served")
    assert shards.manifest.lengths == [4, 3]
    rows = shards.read_all(["obs", "actions", "rewards", "truncateds", "new_obs"])
    np.testing.assert_allclose(rows["actions"][:, 0], [*first, *second], rtol=1e-5)
    assert rows["rewards"].tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert rows["new_obs"][:, 0].tolist() == [1, 2, 3, 4, 1, 2, 3]
    assert rows["truncateds"].tolist() == [False] * 3 + [True, False, False, True]

    # Killed between two episodes and in the middle of one: nothing that was told is lost.
    play(service, "three", 2)
    play(service, "four", 2, ends=False)
    service.end(signal.SIGKILL)
    service.wait_for_the_port()
    service.start()
    assert service.ask("/act", {"obs": [9, 9, 9]})[0] == 200
    play(service, "five", 2)
    assert Shards(own_root / "served").manifest.lengths == [4, 3, 2, 2]
    play(service, "six", 1)
    assert service.end(signal.SIGINT) == 0
    assert Shards(own_root / "served").manifest.lengths == [4, 3, 2, 2, 1], (
        "what is whole is written at the end"
    )

    words = ["train", "--from", RUN, "--new-data", "served@1+", "--strategy", "symmetric"]
    succeeds(lab, *words, "--eval-episodes", "1", OFF2ON_DATA=own_root)


@pytest.mark.slow
def test_drawn_actions_come_with_their_density_and_are_kept_with_it(
    serve: Callable[..., Service], lab: Path, own_root: Path
):
    service = serve("--explore", "--log", "explored", "--every", "1")
    obs = [[0.1, 0.2, 0.3]] * 300
    _, answer = service.ask("/act", {"obs": obs})
    actions, given = np.array(answer["actions"]), np.array(answer["log_prob"])
    assert actions.std() > 0.05, "it draws"
    middle = policy(lab)(torch.tensor(obs)).detach().numpy()
    inside = np.abs(actions) < 2  # the noise has a sigma of 0.1 in [-1, 1], of 0.2 in [-2, 2]
    expected = -0.5 * ((actions - middle) / 0.2) ** 2 - np.log(0.2 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(given[inside[:, 0]], expected[inside], atol=1e-3)
    play(service, "drawn", 3)
    assert service.end(signal.SIGTERM) == 0
    rows = Shards(own_root / "explored").read_all(["action_logp", "policy_version", "served_at"])
    assert np.isfinite(rows["action_logp"]).all()
    assert {f"{number:012x}" for number in rows["policy_version"].tolist()} == {answer["version"]}
    assert (np.diff(rows["served_at"]) >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("state", ["starting", "Ray starts"])
def test_asked_to_end_while_it_starts_it_ends_without_a_word_of_ray(lab: Path, data_root: Path, state: str):
    place = Path(tempfile.mkdtemp(dir="/tmp"))  # the paths of Ray's sockets must be short
    env = os.environ | {"OFF2ON_DATA": str(data_root), "RAY_TMPDIR": str(place)}
    with Forked(lab, "serve", RUN, "--port", str(free_port()), env=env) as process:
        if state == "starting":
            wait_for(lambda: "starting " in process.told()[1], process)
        else:
            wait_for(lambda: list(place.glob("off2on-*/ray/session_*/logs/gcs_server.out")), process)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(PATIENCE)
        assert "Traceback" not in told, told
        by_the_signal = [-signal.SIGTERM] if state == "starting" else []  # before it is handled
        assert process.returncode in [0, *by_the_signal]
    place.rmdir()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["runs/nobody"], "no run is called"),
        ([RUN, "--checkpoint", "handover", "--log", "wide"], "observation space of wide"),
        ([RUN, "--port", "0"], "0 is not in the range"),
        ([RUN, "--log", "toy-cartpole"], "observation space of toy-cartpole"),
        ([RUN, "--host", "no.such.host"], "cannot listen on"),
    ],
)
@pytest.mark.slow
def test_mistakes_are_told(lab: Path, data_root: Path, words: list[str], told: str):
    done = off2on(lab, "serve", *words, OFF2ON_DATA=data_root)
    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.slow
def test_a_port_of_ray_itself_is_refused(lab: Path, data_root: Path):
    agent = "52365"  # Ray listens there, as soon as it is there
    done = forked.run(lab, "serve", RUN, "--port", agent, env=os.environ | {"OFF2ON_DATA": str(data_root)})
    assert done.returncode == 2
    assert "cannot listen on" in done.stderr
    assert "Traceback" not in done.stderr
