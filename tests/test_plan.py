"""What a plan refuses before anything starts, and what a run that goes on must share with its beginning."""

import dataclasses
import logging
import os
import signal
from pathlib import Path

import pytest
import yaml
from forked import Forked
from processes import wait_for

from datasets_io import Shards
from off2on.algorithms.bc import BC
from off2on.errors import Exists, SimulatorError, UserError
from off2on.training.command_line import make_plans, unused_settings
from off2on.training.plan import Plan
from off2on.training.train import train

SMALL = {"hidden": "16,16", "batch_size": "16"}


class New(BC):
    """A class that no other test configures: RLlib gives its advice once for each name."""


@pytest.fixture(scope="module")
def finished(toy: Shards, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plan that was carried out."""
    out = str(tmp_path_factory.mktemp("runs"))
    plan = Plan("bc", "toy-pendulum", SMALL, updates=20, eval_every=20, eval_episodes=1, out=out)
    train(plan)
    return plan


def test_a_run_is_not_overwritten(finished: Plan):
    with pytest.raises(Exists, match="--resume"):
        finished.check()
    finished.check(resume=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hyperparameters": SMALL | {"hidden": "8,8"}}, r"run with hidden \[16, 16\], not \[8, 8\]"),
        ({"updates": 10}, "run with updates 20, not 10"),
        ({"memory": 2**21}, "run with memory .* not 2097152"),
        ({"precision": "bfloat16"}, "run with precision float32, not bfloat16"),
        ({"strategy_options": {"offline_share": 0.9}}, r"run with strategy.offline_share 0\.5, not 0\.9"),
    ],
)
def test_a_resumed_run_must_be_the_one_that_began(finished: Plan, change: dict, words: str):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(finished, **change).check(resume=True)


def test_an_offline_run_has_the_policy_of_its_handover(finished: Plan):
    here, there = finished.folder / "policy.pt", finished.folder / "checkpoints/handover/policy.pt"
    assert here.read_bytes() == there.read_bytes()


def test_rllib_gives_no_advice_on_a_configuration_that_no_user_wrote(
    toy: Shards, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    logger = logging.getLogger("ray.rllib.algorithms.algorithm_config")
    monkeypatch.setattr(logger, "handlers", [*logger.handlers, caplog.handler])
    logger.setLevel(logging.WARNING)
    Plan(f"{__name__}:New", "toy-pendulum", updates=20, out=str(tmp_path)).check()
    assert [record.getMessage() for record in caplog.records if record.name == logger.name] == []


def test_what_was_done_is_written_down(finished: Plan):
    about = yaml.safe_load((finished.folder / "run.yaml").read_text())
    assert about["status"] == "finished"
    assert about["hyperparameters"]["hidden"] == {"value": [16, 16], "default": [256, 256], "origin": "given"}
    assert about["online_side"]["strategy.offline_share"] == {
        "value": 0.5,
        "default": 0.5,
        "origin": "default",
    }
    assert about["threads"] >= 1


def test_what_a_command_line_says_twice_or_of_an_online_side_that_is_not_is_refused(toy: Shards):
    asked = ["iql", str(toy.path)]
    with pytest.raises(UserError, match=r"--utd and online\.utd= set"):
        make_plans([*asked, "online.utd=4"], {"utd": 2.0, "online": 10}, "")
    with pytest.raises(UserError, match=r"online\.utd is for the online phase") as caught:
        make_plans([*asked, "online.utd=4"], {}, "")
    assert caught.value.try_ == "--online 20k"
    with pytest.raises(UserError, match="a data set is missing") as caught:
        make_plans(["iql"], {}, "off2on plan iql")
    assert caught.value.try_.startswith("off2on plan iql toy-pendulum")


def test_an_option_overrules_a_file_and_what_does_nothing_is_told(toy: Shards, tmp_path: Path):
    (tmp_path / "best.yaml").write_text("online.utd: 4\nonline.noise: 0.3\nonline.warm_up: 5\n")
    words = ["iql", str(toy.path), f"@{tmp_path}/best.yaml"]
    options = {"utd": 2.0, "online": 10, "out": str(tmp_path)}
    (plan,), resolved = make_plans(words, options, "")
    assert (resolved.settings.online.utd, resolved.settings.online.warm_up) == (2.0, 5)
    assert unused_settings(plan, resolved) == ["online.noise has no effect: exploration is own, not noisy"]
    assert make_plans(words, {"out": str(tmp_path)}, "")[0][0].online == 0, (
        "a file may hold more than is used"
    )


def test_evaluations_are_dense_after_the_handover():
    offline, online = Plan("bc", "toy-pendulum", updates=100_000, online=40_000).evaluations()
    assert offline == list(range(5000, 100_001, 5000))
    assert online[:6] == [1, 1000, 2000, 4000, 5000, 6000]
    assert online[-1] == 40_000


def test_online_needs_a_simulator_and_offline_does_not(wide: Shards):
    plan = Plan("iql", "wide", hyperparameters=SMALL, updates=10)
    assert plan.check().env is None
    with pytest.raises(SimulatorError, match="no environment"):
        dataclasses.replace(plan, online=10).check()
    with pytest.raises(SimulatorError, match="observations in"):
        dataclasses.replace(plan, env="Pendulum-v1").check()


@pytest.mark.slow
def test_sigterm_keeps_a_checkpoint(toy: Shards, tmp_path: Path):
    words = ["train", "bc", str(toy.path), "--updates", "1M"]
    options = [
        "--eval-every",
        "200",
        "--eval-episodes",
        "1",
        "--threads",
        "1",
        "hidden=16,16",
        "batch_size=16",
    ]
    with Forked(tmp_path, *words, *options, env=os.environ) as process:
        last = tmp_path / "runs" / "toy-pendulum" / "bc-s0" / "checkpoints" / "last"
        wait_for(last.exists, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    about = yaml.safe_load((last.parents[1] / "run.yaml").read_text())
    assert about["status"] == "interrupted"
    assert (last / "rows-0-of-1.pt").is_file()
