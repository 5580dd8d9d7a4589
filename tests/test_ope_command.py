"""`off2on ope` as a process, on real runs and data."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import gymnasium as gym
import numpy as np
import pytest
import torch
from command import environment

from datasets_io import Episode, Source
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.toy import ToyCartPole, ToyPendulum
from off2on.errors import UnknownName
from off2on.ope import fqe_score
from off2on.ope.evaluated_policy import load_evaluated_policy
from off2on.ope.fqe import FQESettings
from off2on.policy import load_policy

pytestmark = pytest.mark.slow

SHORT = "hidden=16,16 batch_size=32 --updates 60 --eval-every 60 --eval-episodes 1 --threads 1"
PATIENCE = 300


class WithLogProbs(Source):
    """Synthetic data in the pendulum's spaces, with the log probability of the actions."""

    observation_space = gym.spaces.Box(-8, 8, (3,), np.float32)
    action_space = gym.spaces.Box(-2, 2, (1,), np.float32)

    def episodes(self, part: Any) -> Iterator[Episode]:
        rng = np.random.default_rng(0)
        for _ in range(25):
            obs = rng.uniform(-1, 1, (4, 3))
            actions = rng.uniform(-2, 2, (3, 1))
            extras = {"action_logp": np.full(3, -np.log(4), np.float32)}
            yield Episode(obs, actions, -np.square(actions)[:, 0], terminated=True, extras=extras)


def off2on(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run(cwd, *arguments, env=environment(), timeout=PATIENCE)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with data and an offline and an online run on the pendulum."""
    lab = tmp_path_factory.mktemp("ope")
    ingest(ToyPendulum(episodes=4), None, lab / "data", name="toy-pendulum")
    ingest(ToyCartPole(episodes=4), None, lab / "data", name="toy-cartpole")
    ingest(WithLogProbs(), None, lab / "data", name="drawn")
    for options in ("", "--online 60 --seed 1"):
        done = off2on(lab, "train", "awac", "toy-pendulum", *SHORT.split(), *options.split())
        assert done.returncode == 0, done.stderr
    return lab


QUICK = ("--quick", "--updates", "100")


@pytest.mark.timeout(900)
def test_every_method_has_an_interval_and_a_trust(lab: Path):
    done = off2on(lab, "ope", "awac-s0", "drawn", "--explore", *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    [policy] = report["policies"]
    assert policy["skipped"] == {}
    assert [one["method"] for one in policy["estimates"]] == [
        "fqe",
        "is",
        "pdis",
        "wis",
        "wpdis",
        "dr",
        "dice",
    ]
    for one in policy["estimates"]:
        assert one["low"] <= one["value"] <= one["high"]
        assert one["trust"] in ("no warnings", "use with care", "do not use")
        assert (one["trust"] == "no warnings") == (one["warnings"] == [])
    assert policy["estimates"][1]["diagnostics"]["effective_episodes"] >= 1
    assert "Deprecat" not in done.stderr


@pytest.mark.timeout(900)
def test_several_policies_are_printed_and_ranked(lab: Path):
    done = off2on(lab, "ope", "runs/toy-pendulum", "toy-pendulum", "--checkpoints", "--method", "fqe", *QUICK)
    assert done.returncode == 0, done.stderr
    for part in ("awac-s0 (last)", "(handover)", "infinite horizon", "score in the run's evaluation"):
        assert part in done.stdout
    assert done.stdout.count("\npolicy") == 3  # a run without an online phase has one policy
    assert "rank correlation" in done.stdout
    assert "regret@1" in done.stdout


@pytest.mark.timeout(900)
def test_two_policies_are_compared(lab: Path):
    arguments = ("ope", "runs/toy-pendulum", "toy-pendulum", "--method", "fqe", *QUICK)
    done = off2on(lab, *arguments)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(off2on(lab, *arguments, "--json").stdout)["policies"]
    higher = max(first, second, key=lambda policy: policy["estimates"][0]["value"])
    assert f"\ncomparison fqe: {higher['run']} (last) is higher by " in done.stdout
    assert "overlap" in done.stdout
    assert "ranking" not in done.stdout


@pytest.mark.timeout(900)
def test_a_reason_for_skipping_is_printed_once(lab: Path):
    done = off2on(lab, "ope", "awac-s0", "drawn", "--method", "wis", "--method", "dr", *QUICK)
    assert (done.returncode, done.stderr) == (1, "no estimate: all methods were skipped\n")
    assert "wis dr: skipped: the deterministic policy has no action density; --explore" in " ".join(
        done.stdout.split()
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("awac-s0", "toy-pendulum", "--method", "fqf"), ("no method 'fqf'", "nearest: fqe", "--method fqe")),
        (("awac-s0", "toy-pendulm"), ("no data set", "toy-pendulum")),
        (("awac-s0", "toy-cartpole"), ("observation space of toy-cartpole",)),
        (("awac-s9", "toy-pendulum"), ("no run is called 'awac-s9'",)),
    ],
)
def test_a_mistake_is_reported_before_any_fit(lab: Path, arguments: tuple[str, ...], parts: tuple[str, ...]):
    done = off2on(lab, "ope", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    for part in parts:
        assert part in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_checkpoint_policy_is_the_exported_one(lab: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(lab)
    [folder] = lab.glob("runs/toy-pendulum/awac-s0")
    obs = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    drawing = load_policy(folder / "exploring.pt")
    with torch.no_grad():
        action, log_prob = (part.numpy() for part in drawing(torch.from_numpy(obs)))
    kept = load_evaluated_policy(folder, explore=True)
    assert kept.log_prob(obs, action) == pytest.approx(log_prob, abs=1e-4)
    assert load_evaluated_policy(folder).act(obs) == pytest.approx(
        load_policy(folder / "policy.pt")(torch.from_numpy(obs)).detach().numpy()
    )
    shutil.copytree(folder, lab / "pruned", ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(UnknownName, match="no checkpoint called 'last'"):
        load_evaluated_policy(lab / "pruned", explore=True)


@pytest.mark.timeout(900)
def test_fqe_score_is_a_value_with_its_interval(lab: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(lab)
    settings = FQESettings(updates=50, members=2, hidden=(8,))
    value, low, high = fqe_score("runs/toy-pendulum/awac-s0", "toy-pendulum", settings=settings, seed=3)
    assert low < value < high
    assert value < 0  # no reward of the pendulum is positive
    assert fqe_score("runs/toy-pendulum/awac-s0", "toy-pendulum", settings=settings, seed=3)[0] == value
