"""Clusters that lose a node in the middle of a job: it ends well, and nothing is lost or done twice."""

import csv
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from forked import OFF2ON
from nodes import PATIENCE, TOKEN, Job, Nodes
from processes import runs_in, wait_for

from datasets_io import open_shards
from datasets_io.ingestion.ingest import ingest
from off2on.policy import load_policy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # the path of a socket must be short
    cluster = Nodes(folder, RAY_AUTH_MODE="disabled")
    yield cluster
    cluster.close()
    shutil.rmtree(folder, ignore_errors=True)


# Parts say on which node they are read; those after the second wait until the file `go` is there.
SLOW = '''
import os, time
from pathlib import Path
import numpy as np
import ray
from datasets_io import Episode, Source

class Slow(Source):
    """Six parts of three episodes."""
    def parts(self, path):
        return [(str(path), number) for number in range(6)]
    def fingerprint(self, path):
        return "the same data"
    def episodes(self, part):
        path, number = Path(part[0]), part[1]
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
        (path / f"{number}-{node}-{os.getpid()}").touch()
        rng = np.random.default_rng(number)
        for episode in range(3):
            while number >= 2 and episode == 2 and not (path / "go").exists():
                time.sleep(0.02)
            steps = int(rng.integers(2, 9))
            yield Episode(rng.normal(size=(steps + 1, 2)), rng.normal(size=(steps, 1)), np.ones(steps), False)
'''


def test_an_ingest_loses_a_node_and_nothing_else(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, doomed = nodes.only(1, 1)
    (tmp_path / "slow_parts.py").write_text(SLOW)
    (tmp_path / "raw").mkdir()
    words = ["data", "add", "slow_parts:Slow", "raw", "--name", "slow"]
    with Job(tmp_path, *words, "--address", nodes.address, OFF2ON_DATA="data") as job:
        (begun,) = job.wait_until(lambda: [*(tmp_path / "raw").glob(f"[2-5]-{doomed}-*")])
        nodes.kill(doomed)
        number, _, process = begun.name.split("-")
        job.wait_until(lambda: not Path(f"/proc/{process}").exists())  # it outlives its node by a moment
        (tmp_path / "raw/go").touch()
        told = job.ends_well()
    assert len([*(tmp_path / "raw").glob(f"{number}-*")]) == 2  # read again from its start, elsewhere
    assert "available  3 nodes: 2 parts at a time" in told
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["slow"]
    assert sorted(path.name for path in (tmp_path / "data/slow/shards").iterdir()) == [
        f"part-{number:05d}.parquet" for number in range(6)
    ]
    monkeypatch.syspath_prepend(tmp_path)
    from slow_parts import Slow

    whole = ingest(Slow(), tmp_path / "raw", tmp_path / "other", name="slow")
    killed = open_shards(tmp_path / "data/slow")
    killed.verify()
    assert (killed.rows, killed.manifest.content_hash) == (whole.rows, whole.manifest.content_hash)


def rows(run: Path) -> list[dict[str, str]]:
    """What was measured, without the speeds."""
    path = run / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{name: row[name] for name in row if not name.endswith("_s")} for row in csv.DictReader(file)]


def test_two_learners_lose_a_node_and_end_as_they_would_have(nodes: Nodes, tmp_path: Path, data_root: Path):
    nodes.only(1, 1)
    words = ["train", "iql", "toy-pendulum", "hidden=16,16", "batch_size=16", "--threads", "1"]
    words += ["--updates", "1000", "--eval-every", "200", "--eval-episodes", "1", "--learners", "2"]
    words += ["--address", nodes.address]
    with Job(tmp_path, *words, "--out", "whole", OFF2ON_DATA=data_root) as job:
        told = job.ends_well()
    assert f"available  a cluster at {nodes.address} of 3 nodes: 2 of 2 CPUs" in told
    assert "needs      2 learners of 1 CPU each, 0.0687 MiB of data in each" in told
    assert "fits       for example learners on " in told
    whole = tmp_path / "whole/toy-pendulum/iql-s0"
    where = yaml.safe_load((whole / "run.yaml").read_text())["placement"]["learner"]
    assert len(set(where)) == 2  # each learner reads its half of the data on a node of its own

    with Job(tmp_path, *words, "--out", "killed", OFF2ON_DATA=data_root) as job:
        killed = tmp_path / "killed/toy-pendulum/iql-s0"
        job.wait_until(lambda: len(rows(killed)) >= 1)
        nodes.kill(nodes.alive[0])
        nodes.add(1)
        told = job.ends_well()
    assert "a learner died; continuing from the last checkpoint (1 of 3 times)" in told
    assert rows(killed) == rows(whole)
    obs = torch.randn(8, 3)
    ours, theirs = (load_policy(run / "policy.pt")(obs) for run in (killed, whole))
    assert torch.equal(ours, theirs)


COUNTING = """
import os, time
import gymnasium as gym
import numpy as np

class Counter(gym.Env):
    '''Observations say in which process they were made, and how many steps that process made before.'''
    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Box(-2, 2, (1,), np.float32)
    steps = length = 0
    def reset(self, **_):
        self.length = 0
        return self.seen(), {}
    def step(self, action):
        time.sleep(0.002)
        self.steps, self.length = self.steps + 1, self.length + 1
        return self.seen(), -1.0, False, self.length == 50, {}
    def seen(self):
        return np.array([os.getpid(), self.steps, self.length], np.float32)

gym.register("Counter-v0", Counter)
"""


def test_runners_lose_a_node_and_every_step_comes_in_once(nodes: Nodes, tmp_path: Path, data_root: Path):
    (tmp_path / "counting.py").write_text(COUNTING)
    nodes.only(1, 1)
    words = ["train", "iql", "toy-pendulum", "hidden=16,16", "batch_size=16", "normalise_obs=false"]
    words += ["--threads", "1", "--updates", "10", "--online", "2000", "--strategy", "append", "--utd", "0.1"]
    words += [
        "online.rollout=20",
        "--eval-every",
        "200",
        "--eval-episodes",
        "1",
        "--env",
        "counting:Counter-v0",
    ]
    words += ["--workers", "2", "--address", nodes.address]
    run = tmp_path / "runs/toy-pendulum/iql-append-s0"
    with Job(tmp_path, *words, OFF2ON_DATA=data_root) as job:
        job.wait_until(lambda: [row for row in rows(run) if int(row["env_steps"]) >= 200])
        nodes.kill(nodes.alive[0])
        nodes.add(1)
        job.ends_well()
    assert [int(row["env_steps"]) for row in rows(run)][-1] == 2000
    kept = torch.load(run / "checkpoints/last/rows-0-of-1.pt", weights_only=True)["rows"]
    assert kept["added"] == len(kept["online"]) == 2000
    found: dict[int, list[int]] = {}
    for process, step in kept["online"][:, :2].tolist():
        found.setdefault(int(process), []).append(int(step))
    assert len(found) >= 2
    for steps in found.values():
        assert steps == list(range(len(steps)))


SEARCH = """
algorithm: iql
data: toy-pendulum
updates: 400
eval_every: 100
eval_episodes: 1
seeds: 1
trials: 4
by: grid
maximise: final_score
out: found
with:
  hidden: [16, 16]
  batch_size: 16
search:
  expectile: {one_of: [0.6, 0.7]}
  beta: {one_of: [1, 3]}
"""


def test_a_search_loses_a_node_and_no_trial(nodes: Nodes, tmp_path: Path, data_root: Path):
    (tmp_path / "search.yaml").write_text(SEARCH)
    nodes.only(1, 1)
    words = ["tune", "search.yaml", "--jobs", "2", "--address", nodes.address]
    with Job(tmp_path, *words, OFF2ON_DATA=data_root) as job:
        job.wait_until(lambda: sum(map(len, map(rows, runs_in(tmp_path / "found")))) >= 2)
        nodes.kill(nodes.alive[0])
        nodes.add(1)
        job.ends_well()
    with (tmp_path / "found/trials.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    assert [trial["status"] for trial in trials] == ["finished"] * 4
    assert len({(trial["expectile"], trial["beta"]) for trial in trials}) == 4
    runs = runs_in(tmp_path / "found")
    assert len(runs) == 4
    for run in runs:
        assert [row["updates"] for row in rows(run)] == ["100", "200", "300", "400"]


def test_what_does_not_fit_is_refused_and_writes_nothing(nodes: Nodes, tmp_path: Path, data_root: Path):
    nodes.only(2, 1)
    words = ["train", "iql", "toy-pendulum", "--online", "10", "--address", nodes.address]
    with Job(tmp_path, *words, "--learners", "2", "--workers", "2", OFF2ON_DATA=data_root) as job:
        assert job.process.wait(PATIENCE) == 2
    told = job.said.read_text()
    assert "error: the cluster has no capacity for 2 learners of 1 CPU each, 2 runners of 1 CPU each." in told
    assert told.rstrip().endswith("--learners 2 --workers 1")
    assert "--wait MINUTES" in told
    assert [path.name for path in tmp_path.iterdir()] == ["said"]
    with Job(tmp_path, *words, "--learners", "0", "--dry-run", OFF2ON_DATA=data_root) as job:
        told = job.ends_well()
    assert f"available  a cluster at {nodes.address} of 3 nodes: 3 of 3 CPUs, 0 of 0 GPUs free" in told
    assert "in this process the learner, evaluation and checkpoints" in told
    assert [path.name for path in tmp_path.iterdir()] == ["said"]


def test_a_search_that_does_not_fit_is_refused_and_writes_nothing(
    nodes: Nodes, tmp_path: Path, data_root: Path
):
    nodes.only(2, 1)
    (tmp_path / "search.yaml").write_text(SEARCH)
    words = ["tune", "search.yaml", "online=10", "--jobs", "4", "--address", nodes.address]
    with Job(tmp_path, *words, "workers=5", OFF2ON_DATA=data_root) as job:
        assert job.process.wait(PATIENCE) == 2
    told = job.said.read_text()
    assert "error: the cluster has no capacity for 1 trial of 1 CPU, 5 runners of 1 CPU each." in told
    assert "--wait MINUTES" in told
    with Job(tmp_path, *words, "--dry-run", OFF2ON_DATA=data_root) as job:
        told = job.ends_well()
    assert f"available  a cluster at {nodes.address} of 3 nodes: 3 of 3 CPUs, 0 of 0 GPUs free" in told
    assert "needs      4 trials of 1 CPU each" in told
    assert "fits       3 of 4 trials at a time" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["said", "search.yaml"]


def test_a_cluster_that_wants_a_token_is_joined_with_it_alone(tmp_path: Path, data_root: Path):
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    closed = Nodes(folder, head_cpus=1, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    try:
        words = ["train", "iql", "toy-pendulum", "--learners", "1", "--dry-run", "--address", closed.address]
        with Job(tmp_path, *words, OFF2ON_DATA=data_root) as job:
            assert "learners on" in job.ends_well()
        for token in ("", "f" * 64):
            strange = {"RAY_AUTH_TOKEN": token, "HOME": tmp_path, "OFF2ON_DATA": data_root}
            with Job(tmp_path, *words, **strange) as job:
                assert job.process.wait(PATIENCE) == 2
            told = job.said.read_text()
            assert f"the Ray cluster at {closed.address} requires a token" in told
            assert "~/.ray/auth_token" in told
    finally:
        closed.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_job_joins_the_cluster_it_runs_in(nodes: Nodes, tmp_path: Path, data_root: Path):
    from ray.job_submission import JobSubmissionClient

    nodes.only(1)
    (tmp_path / "sharp.py").write_text(
        "from off2on.algorithms.bc import BC\n\n\nclass Sharp(BC):\n    pass\n"
    )
    words = [
        OFF2ON,
        "train",
        "sharp:Sharp",
        "toy-pendulum",
        "hidden=16,16",
        "batch_size=16",
        "--threads",
        "1",
    ]
    words += ["--updates=20", "--eval-every=20", "--eval-episodes=1", "--learners=1"]
    words += ["--out", str(tmp_path / "runs")]
    client = JobSubmissionClient(nodes.jobs)
    env = {"OFF2ON_DATA": str(data_root), "PYTHONPATH": str(tmp_path)}
    job = client.submit_job(entrypoint=shlex.join(map(str, words)), runtime_env={"env_vars": env})
    wait_for(lambda: client.get_job_status(job).is_terminal(), seconds=PATIENCE, every=0.2)
    told = client.get_job_logs(job)
    assert client.get_job_status(job) == "SUCCEEDED", told
    assert f"available  a cluster at {nodes.address} of 2 nodes: 1 of 1 CPUs" in told
    plan = yaml.safe_load((tmp_path / "runs/toy-pendulum/Sharp-s0/run.yaml").read_text())["plan"]
    assert plan["address"] == {"value": nodes.address, "origin": "$RAY_ADDRESS"}
