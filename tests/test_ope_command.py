"""`off2on ope` as a process, on runs and data that were really made."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from datasets_io import Episode, Source
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.toy import ToyCartPole, ToyPendulum
from off2on.errors import UnknownName
from off2on.ope import fqe_score
from off2on.ope.candidates import candidate_of
from off2on.ope.fqe import Budget
from off2on.policy import load_policy

pytestmark = pytest.mark.slow

OFF2ON = Path(sys.executable).with_name("off2on")
SHORT = "hidden=16,16 batch_size=32 --updates 60 --eval-every 60 --eval-episodes 1 --threads 1"
PATIENCE = 300


class Drawn(Source):
    """Made data of the pendulum's shape by a policy that says how likely its actions were."""

    observation_space = gym.spaces.Box(-8, 8, (3,), np.float32)
    action_space = gym.spaces.Box(-2, 2, (1,), np.float32)

    def episodes(self, part: Any) -> Iterator[Episode]:
        rng = np.random.default_rng(0)
        for _ in range(25):
            obs = rng.uniform(-1, 1, (4, 3))
            actions = rng.uniform(-2, 2, (3, 1))
            extras = {"action_logp": np.full(3, -np.log(4), np.float32)}
            yield Episode(obs, actions, -np.square(actions)[:, 0], terminated=True, extras=extras)


def off2on(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    ours = ("OFF2ON_DATA", "PYTHONPATH", "PYTHONWARNINGS", "RAY_ADDRESS")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        [OFF2ON, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with data and an offline and an online run on the pendulum."""
    lab = tmp_path_factory.mktemp("ope")
    ingest(ToyPendulum(episodes=4), None, lab / "data", name="toy-pendulum")
    ingest(ToyCartPole(episodes=4), None, lab / "data", name="toy-cartpole")
    ingest(Drawn(), None, lab / "data", name="drawn")
    for words in ("", "--online 60 --seed 1"):
        done = off2on(lab, "train", "awac", "toy-pendulum", *SHORT.split(), *words.split())
        assert done.returncode == 0, done.stderr
    return lab


QUICK = ("--quick", "--updates", "100")


@pytest.mark.timeout(900)
def test_every_method_says_what_it_counts_and_how_far_to_trust_it(lab: Path):
    done = off2on(lab, "ope", "awac-s0", "drawn", "--explore", *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    [policy] = told["policies"]
    assert policy["left_out"] == {}
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
        assert one["trust"] in ("no objection", "with care", "do not trust")
        assert (one["trust"] == "no objection") == (one["doubts"] == [])
    assert policy["estimates"][1]["diagnostics"]["effective"] >= 1
    assert "Deprecat" not in done.stderr


@pytest.mark.timeout(900)
def test_several_policies_are_told_on_one_page_and_ranked_by_their_scores(lab: Path):
    done = off2on(lab, "ope", "runs/toy-pendulum", "toy-pendulum", "--checkpoints", "--method", "fqe", *QUICK)
    assert done.returncode == 0, done.stderr
    for said in ("awac-s0 (last)", "(handover)", "without an end", "its run's own score"):
        assert said in done.stdout
    assert done.stdout.count("\npolicy") == 3  # that of a run that stays offline is one policy
    assert "rank correlation" in done.stdout
    assert "regret@1" in done.stdout


@pytest.mark.timeout(900)
def test_what_a_deterministic_policy_lacks_is_said_once(lab: Path):
    done = off2on(lab, "ope", "awac-s0", "drawn", "--method", "wis", "--method", "dr", *QUICK)
    assert (done.returncode, done.stderr) == (1, "nothing could be estimated\n")
    assert "wis dr: left out: this policy's actions have no density; --explore" in " ".join(
        done.stdout.split()
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("awac-s0", "toy-pendulum", "--method", "fqf"), ("no method 'fqf'", "nearest: fqe", "--method fqe")),
        (("awac-s0", "toy-pendulm"), ("no data set", "toy-pendulum")),
        (("awac-s0", "toy-cartpole"), ("observation space of toy-cartpole",)),
        (("awac-s9", "toy-pendulum"), ("no run is called 'awac-s9'",)),
    ],
)
def test_a_mistake_is_told_before_anything_is_fitted(
    lab: Path, words: tuple[str, ...], said: tuple[str, ...]
):
    done = off2on(lab, "ope", *words)
    assert (done.returncode, done.stdout) == (2, "")
    for part in said:
        assert part in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_kept_policy_is_the_exported_one_and_knows_its_own_draws(
    lab: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(lab)
    [folder] = lab.glob("runs/toy-pendulum/awac-s0")
    obs = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    drawing = load_policy(folder / "exploring.pt")
    with torch.no_grad():
        action, said = (part.numpy() for part in drawing(torch.from_numpy(obs)))
    kept = candidate_of(folder, explore=True)
    assert kept.log_prob(obs, action) == pytest.approx(said, abs=1e-4)
    assert candidate_of(folder).act(obs) == pytest.approx(
        load_policy(folder / "policy.pt")(torch.from_numpy(obs)).detach().numpy()
    )
    shutil.copytree(folder, lab / "pruned", ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(UnknownName, match="no checkpoint called 'last'"):
        candidate_of(lab / "pruned", explore=True)


@pytest.mark.timeout(900)
def test_a_search_gets_a_number_and_its_interval(lab: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(lab)
    budget = Budget(updates=50, members=2, hidden=(8,))
    value, low, high = fqe_score("runs/toy-pendulum/awac-s0", "toy-pendulum", budget=budget, seed=3)
    assert low < value < high
    assert value < 0  # no reward of the pendulum is positive
    assert fqe_score("runs/toy-pendulum/awac-s0", "toy-pendulum", budget=budget, seed=3)[0] == value
