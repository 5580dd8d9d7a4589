"""DT acts: with the history of the episode, towards the return that it is asked for."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from real_learners import ask, same

import off2on
from datasets_io import Episode, Shards, Source
from datasets_io.ingestion.ingest import ingest
from off2on.algorithms.dt import DT
from off2on.commands.evaluate import evaluate as evaluate_command
from off2on.commands.export_policy import export_policy
from off2on.commands.ope import ope
from off2on.commands.serve import serve
from off2on.errors import UserError
from off2on.policy import Policy, load_policy
from off2on.recipe.acting_memory import memory_for
from off2on.replay.transforms import Transforms
from off2on.replay.windows import Histories
from off2on.training.evaluate import evaluate, numpy_policy
from off2on.training.plan import Plan
from off2on.training.train import train

Build = Callable[..., Any]
SMALL = {"width": "16", "blocks": "1", "hidden": "16", "batch_size": "16", "context": "4"}


@pytest.fixture(scope="module")
def run(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run."""
    plan = Plan("dt", "toy-pendulum", SMALL, updates=30, eval_every=30, eval_episodes=2, threads=1,
                out=str(tmp_path_factory.mktemp("runs")))  # fmt: skip
    return train(plan)


def test_what_depends_on_the_data_is_filled_in(toy: Shards):
    hp = DT.resolve(DT.Hyperparameters(), toy)
    assert hp.target_return == toy.returns.max()
    assert hp.return_scale == np.abs(toy.returns).max()
    assert hp.max_steps == 200
    assert (
        DT.resolve(DT.Hyperparameters(target_return=7.0, return_scale=3.0, max_steps=9), toy).max_steps == 9
    )


def test_in_the_environment_it_does_what_it_predicts_of_the_recorded_histories(run: Path, toy: Shards):
    policy = numpy_policy(load_policy(run / "policy.pt"))
    played = evaluate(policy, "Pendulum-v1", episodes=3, seed=5, keep=True)
    hp = DT.resolve(DT.Hyperparameters.parse(SMALL, "dt"), toy)
    transforms = Transforms.of(toy, hp)
    network = off2on.rllib.module.policy_from_checkpoint(run / "checkpoints" / "handover").nets.actor
    for episode in played:
        columns = transforms.apply(episode.columns)
        last = np.arange(episode.length) == episode.length - 1
        rows = Histories(4).change(columns, last, hp.discount)["obs"]
        steps = rows.reshape(episode.length, 4, 6)
        # The target was another return than that of the episode.
        steps[..., -2] += (steps[..., -1] > 0) * (hp.target_return - episode.ret)
        with torch.no_grad():
            predicted = network(torch.from_numpy(steps).flatten(1))[:, -1].numpy()
        np.testing.assert_allclose(columns["action"], predicted, rtol=0, atol=2e-5)
        assert np.ptp(predicted) > 1e-3


def test_environments_that_are_stepped_together_have_histories_of_their_own(run: Path):
    policy = numpy_policy(load_policy(run / "policy.pt"))
    together = evaluate(policy, "Pendulum-v1", episodes=3, seed=5)
    alone = evaluate(policy, "Pendulum-v1", episodes=3, seed=5, max_envs=1)
    np.testing.assert_allclose([one.ret for one in together], [one.ret for one in alone], rtol=1e-4)


class TwoBehaviours(Source):
    """Episodes of 12 steps with all actions near 1, or all near -1; the reward is the action."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-2, 2, (1,), np.float32)

    def episodes(self, part: Any) -> Iterator[Episode]:
        rng = np.random.default_rng(0)
        for number in range(60):
            actions = (1.0 if number % 2 else -1.0) + 0.2 * rng.normal(size=(12, 1))
            yield Episode(rng.normal(size=(13, 2)), actions, actions[:, 0], terminated=False)


def test_asked_for_much_it_does_the_good_and_asked_for_little_the_bad(tmp_path: Path, build_learner: Build):
    shards = ingest(TwoBehaviours(), None, tmp_path, name="two")
    learner = build_learner(
        DT, str(shards.path), updates=300, context=5, actor_lr=3e-3, lr_warm_up=0.0, dropout=0.0
    )
    learner.advance(300)
    policy = Policy(DT, learner.nets, learner.hp, Transforms.of(shards, learner.hp)).eval()
    rng = np.random.default_rng(1)
    earned = {}
    for target in (12.0, -12.0):
        policy.get_buffer("target_return").fill_(target)
        act, total = numpy_policy(policy), np.zeros(5)
        memory = memory_for(act, 5)
        for _ in range(12):
            action = memory.next(rng.normal(size=(5, 2)).astype(np.float32), act)
            memory.record(action[:, 0])
            total += action[:, 0]
        earned[target] = total
    assert (np.abs(earned[12.0] - 12) < 3).all()
    assert (np.abs(earned[-12.0] + 12) < 3).all()


@pytest.mark.usefixtures("data_root")
def test_a_restored_run_learns_what_an_uninterrupted_one_does(tmp_path: Path):
    given = {"width": 16, "blocks": 1, "hidden": (16,), "batch_size": 16, "context": 4}
    config = DT.configure("toy-pendulum").training(threads=1, updates_per_call=10, **given).offline(30)
    with config.build_algo() as algo:
        algo.train()
        algo.save_to_path(str(tmp_path / "kept"))
        while not algo.finished:
            algo.train()
        expected = ask(algo)
    with config.copy().build_algo() as algo:
        algo.restore_from_path(str(tmp_path / "kept"))
        assert algo.updates == 10
        while not algo.finished:
            algo.train()
        assert same(ask(algo), expected)


def test_a_loaded_policy_can_be_asked_for_another_return(run: Path):
    asked = [load_policy(run / "policy.pt", target_return=target) for target in (None, 5000.0)]
    history = torch.randn(7, 4, 6)
    history[..., -1] = torch.arange(1, 5)
    own, other = (policy(history) for policy in asked)
    assert own.shape == (7, 1)
    assert not torch.isclose(own, other).all()
    answers = [
        CliRunner().invoke(evaluate_command, [str(run), "--episodes", "2", *words])
        for words in ([], ["--target-return", "5000"])
    ]
    for answer in answers:
        assert answer.exit_code == 0, answer.output
    assert answers[0].stdout != answers[1].stdout
    loaded = off2on.load_run(run)
    assert loaded.evaluate(2).equals(loaded.evaluate(2))
    assert not loaded.evaluate(2).equals(loaded.evaluate(2, target_return=5000.0))


def test_doors_without_a_history_refuse_by_its_name(run: Path, tmp_path: Path):
    for command, words in (
        (serve, [str(run)]),
        (ope, [str(run), "toy-pendulum"]),
        (export_policy, [str(run), str(tmp_path / "policy.onnx")]),
    ):
        answer = CliRunner().invoke(command, words)
        assert isinstance(answer.exception, UserError), answer.output
        assert "a history" in str(answer.exception)


@pytest.mark.usefixtures("data_root")
@pytest.mark.parametrize(
    ("given", "online", "says"),
    [
        ({}, 100, "no online phase"),
        ({"reward": "return_scale"}, 0, "reward=raw"),
        ({"heads": "3"}, 0, "multiple of heads"),
        ({"augment": "noise:0.1"}, 0, "context=20"),
        ({"augment": "bootstrap:0.5"}, 0, "bootstrap"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(
    tmp_path: Path, given: dict[str, str], online: int, says: str
):
    with pytest.raises(UserError, match=says):
        Plan("dt", "toy-pendulum", given, updates=5, online=online, out=str(tmp_path)).check()


def test_the_best_episodes_can_be_chosen(build_learner: Build):
    learner = build_learner(DT, augment=("top:0.5",))
    assert np.isfinite(learner.advance(2)["actor/loss"])


@pytest.mark.usefixtures("data_root")
def test_rllibs_evaluation_keeps_a_history():
    given = {"width": 16, "blocks": 1, "hidden": (16,), "context": 4}
    config = DT.configure("toy-pendulum").training(threads=1, **given).offline(5)
    with config.evaluation(evaluation_interval=1, evaluation_duration=2).build_algo() as algo:
        first, second = algo.evaluate(), algo.evaluate()
    assert first == second
    assert first["env_runners"]["episode_len_mean"] == 200
