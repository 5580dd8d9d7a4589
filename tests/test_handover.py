"""The handover report: it says what changes, and finds what must not have changed."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from off2on.algorithms.iql import IQL
from off2on.online.settings import OnlineSettings
from off2on.training import handover_report
from off2on.training.evaluate import evaluate, numpy_policy
from off2on.training.handover_report import _updates, make_report
from off2on.training.plan import Plan
from off2on.training.train import train

pytestmark = pytest.mark.usefixtures("data_root")
SMALL = {"hidden": (16, 16), "batch_size": 16}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without runs."""
    monkeypatch.chdir(tmp_path)


def plan(**said: Any) -> Plan:
    said = {"online": 40, "updates": 20, "eval_every": 40, "eval_episodes": 2, "threads": 1} | said
    return Plan("iql", "toy-pendulum", SMALL, **said)


def went_online(asked: Plan) -> Any:
    algo = asked.config(asked.check()).build_algo()
    while algo.is_offline:
        algo.train()
    algo.go_online()
    return algo


def played(algo: Any, episodes: int = 2) -> list[Any]:
    return evaluate(numpy_policy(algo.policy()), "Pendulum-v1", episodes=episodes, seed=0, keep=True)


def test_a_warm_up_that_leaves_nothing_to_learn_is_told():
    online_settings = OnlineSettings.parse({"warm_up": 40}, "here")
    assert _updates(online_settings, 41, 1.0) == "1 per step, from step 40 on"
    assert _updates(online_settings, 40, 1.0) == "NONE: the warm-up has 40 steps, the online phase 40"


@pytest.mark.parametrize(
    ("period", "said"),
    [(6.0, "; one in 6 updates more"), (1000.0, "; one in 1,000 updates more"), (math.inf, "")],
)
def test_a_delay_is_told_with_its_real_period(period: float, said: str):
    text = _updates(OnlineSettings.parse({"policy_delay": 4}, "here"), 41, period)
    assert text == "1 per step, from step 0 on" + (said and f"{said} than the value networks")


def test_a_run_keeps_what_changed_and_what_was_checked(tmp_path: Path):
    folder = train(
        plan(strategy="warm_start", online_overrides={"warm_up": 10, "critic_lr": 1e-5}, out=str(tmp_path))
    )
    kept = yaml.safe_load((folder / "handover.yaml").read_text())
    changes = {change["what"]: (change["offline"], change["online"]) for change in kept["changes"]}
    assert changes["batches"] == ("4 k recorded rows", "warm_start")
    assert (
        changes["updates"][1] == "4 per step, from step 10 on; one in 4 updates more than the value networks"
    )
    assert float(changes["actor"][0].removeprefix("learning rate ")) < 1e-12, "along a cosine to nothing"
    assert changes["actor"][1] == "learning rate 0.0003"
    assert changes["critic"] == ("learning rate 0.0003", "learning rate 1e-05")
    assert changes["critic_lr"] == ("0.0003", "1e-05")
    assert changes["reward"] == ("return_scale", "return_scale")
    checks = {check["what"]: check for check in kept["checks"]}
    assert [checks[name]["passed"] for name in ("transforms", "score", "collecting policy")] == [True] * 3
    assert checks["exploration"]["found"].startswith("standard deviation 0.")
    assert checks["exploration"]["found"].endswith(" nats")


def test_whole_numbers_have_no_box(tmp_path: Path):
    asked = Plan("discrete_sac", "toy-cartpole", SMALL, updates=20, online=40, threads=1)
    with went_online(asked) as algo:
        episodes = evaluate(numpy_policy(algo.policy()), "CartPole-v1", episodes=1, seed=0, keep=True)
        (told,) = [
            one
            for one in make_report(asked, asked.check(), algo, None, episodes).checks
            if "expl" in one.what
        ]
    assert "% of actions are not the most frequent of their observation" in told.found
    assert "box" not in told.found


def test_transforms_that_differ_an_old_policy_and_a_moved_score_are_found():
    asked = plan()
    with went_online(asked) as algo:
        episodes = played(algo)
        score = float(np.mean([episode.ret for episode in episodes]))
        fine = {
            check.what: check for check in make_report(asked, asked.check(), algo, score, episodes).checks
        }
        assert fine["transforms"].passed
        assert fine["score"].passed
        assert fine["collecting policy"].passed

        (learner,) = algo.call_learners(lambda learner: learner)
        source = learner.sampler.source
        before = source.transforms
        source.transforms = type(before)(**{**vars(before), "reward_scale": 2 * before.reward_scale})
        algo.env_runner_group.local_env_runner.module.policy.nets.actor.mlp[0].bias.data += 1.0
        bad = {
            check.what: check for check in make_report(asked, asked.check(), algo, score + 1, episodes).checks
        }
    assert bad["transforms"].passed is False
    assert "reward by up to" in bad["transforms"].found
    assert "obs" not in bad["transforms"].found
    assert bad["score"].passed is False
    assert bad["collecting policy"].passed is False


def test_values_are_held_against_what_the_episodes_returned():
    """With critics that say c everywhere, returns are hand-made: rewards to the limit, then c."""
    asked = plan()
    with went_online(asked) as algo:
        (learner,) = algo.call_learners(lambda learner: learner)
        for parameter in learner.nets.critic.parameters():
            parameter.data.zero_()
        learner.nets.critic.layers[-1].bias.data.fill_(7.0)
        scale = learner.sampler.source.transforms.reward_scale
        reward = np.array([1.0, 2.0, 3.0, -1.0])
        columns = {
            "obs": np.zeros((4, 3), np.float32),
            "new_obs": np.zeros((4, 3), np.float32),
            "actions": np.zeros((4, 1), np.float32),
            "rewards": reward,
            "terminateds": np.array([False, True, False, False]),
            "truncateds": np.array([False, False, False, True]),
            "last": np.array([False, True, False, True]),
        }
        (said,) = algo.call_learners(handover_report.compare_values_with_returns, columns=columns)
    scaled, gamma = scale * reward, 0.99
    end = scaled[3] + gamma * 7
    expected = [scaled[0] + gamma * scaled[1], scaled[1], scaled[2] + gamma * end, end]
    assert said["q"] == pytest.approx(7.0)
    assert said["return"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert np.isnan(said["correlation"]), "a constant goes with nothing"


def test_kept_episodes_are_what_was_played():
    with went_online(plan()) as algo:
        first, second = played(algo)
    for episode in (first, second):
        assert episode.columns is not None
        assert episode.columns["rewards"].sum() == pytest.approx(episode.ret, rel=1e-5)
        assert len(episode.columns["obs"]) == episode.length == 200
        np.testing.assert_array_equal(episode.columns["new_obs"][:-1], episode.columns["obs"][1:])
        assert episode.columns["truncateds"].tolist() == [False] * 199 + [True]
    assert not np.array_equal(first.columns["obs"], second.columns["obs"])


def test_how_random_exploring_is_in_halves_of_the_box():
    with went_online(plan()) as algo:
        (learner,) = algo.call_learners(lambda learner: learner)
        actor = learner.nets.actor
        obs = np.zeros((500, 3), np.float32)
        with torch.no_grad():
            for parameter in actor.mlp.parameters():
                parameter.zero_()
            actor.log_std.fill_(np.log(0.1))
            (narrow,) = algo.call_learners(handover_report.measure_exploration, obs=obs)
            actor.log_std.fill_(-5.0)
            (none,) = algo.call_learners(handover_report.measure_exploration, obs=obs)
    assert narrow["std"] == pytest.approx(0.1, rel=0.05)
    # ½ ln(2πe σ²) of a sigma that is 0.2 in the environment's box [-2, 2]
    assert narrow["entropy"] == pytest.approx(0.5 * np.log(2 * np.pi * np.e * 0.2**2), abs=0.03)
    assert none["std"] < 0.01


def test_the_transforms_are_checked_on_a_piece_that_is_used(build_learner: Any):
    """``top:`` leaves out episodes, perhaps all of the first row group."""
    learner = build_learner(IQL, augment="top:0.1")
    counts = learner.sampler.source.counts
    assert counts[0] == 0
    offline, online = handover_report.first_transitions(learner, 8)
    assert len(offline["obs"]) == 8
    assert all(np.array_equal(offline[name], online[name]) for name in offline)


def test_a_policy_that_waits_for_the_value_networks_counts_as_updated(tmp_path: Path):
    folder = train(
        Plan("td3_bc", "toy-pendulum", SMALL, online=40, updates=20, eval_every=40, eval_episodes=1,
             threads=1, strategy="so2", online_overrides={"warm_up": 10}, out=str(tmp_path))
    )  # fmt: skip
    kept = yaml.safe_load((folder / "handover.yaml").read_text())
    (actor,) = (change["online"] for change in kept["changes"] if change["what"] == "actor")
    assert actor == "learning rate 0.0003"
