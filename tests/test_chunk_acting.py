"""Policies of chunks act: each chunk is executed to its end, wherever a policy acts."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

import off2on
from datasets_io import Shards
from off2on.algorithms.qc import QC
from off2on.commands.evaluate import evaluate as evaluate_command
from off2on.commands.ope import ope
from off2on.commands.serve import serve
from off2on.errors import UserError
from off2on.policy import load_policy
from off2on.recipe.acting_memory import ActionQueue
from off2on.runs.tables import read_metrics
from off2on.training.evaluate import evaluate, numpy_policy
from off2on.training.plan import Plan
from off2on.training.train import train

SMALL = {"hidden": "16,16", "batch_size": "16", "flow_steps": "2"}


class Steady(QC):
    """QC that explores with its deterministic policy."""

    @classmethod
    def act(cls, nets: Any, obs: Any, hp: Any, explore: bool) -> Any:
        return super().act(nets, obs, hp, False)


def test_a_queue_asks_for_what_is_used_up_and_for_nothing_else():
    asked: list[list[float]] = []

    def decide(obs: Any) -> Any:
        asked.append(obs[:, 0].tolist())
        return obs[:, None] + np.arange(3)[:, None]  # [n, 3, 1]: the observation and the two numbers after it

    queue = ActionQueue(2)
    obs = np.array([[10.0], [20.0]])
    assert queue.next(obs, decide)[:, 0].tolist() == [10, 20]
    assert queue.next(obs + 100, decide)[:, 0].tolist() == [11, 21]
    queue.clear([1])  # its episode has ended
    assert queue.next(obs + 200, decide)[:, 0].tolist() == [12, 220]
    assert queue.next(obs + 300, decide)[:, 0].tolist() == [310, 221]
    assert asked == [[10, 20], [220], [310]]
    single = ActionQueue(2)
    assert single.next(obs, lambda seen: seen + 1)[:, 0].tolist() == [11, 21]
    assert not any(single.left)


def configured(recipe: Any, chunk: int, **given: Any) -> Any:
    options = {"hidden": (16, 16), "batch_size": 16, "threads": 1, "flow_steps": 2, "samples": 3} | given
    return recipe.configure("toy-pendulum").training(chunk=chunk, **options).offline(5)


@pytest.mark.usefixtures("data_root")
def test_collected_actions_are_whole_chunks_also_across_updates_and_ends_of_episodes():
    config = configured(Steady, 3).online(500, rollout=14, utd=0.2).env_runners(num_envs_per_env_runner=2)
    rollouts: list[Any] = []
    with config.build_algo() as algo:
        store = algo._store
        algo._store = lambda found: store([rollouts.append((each, algo.policy())) or each for each in found])
        while not algo.finished:
            algo.train()
    columns = {name: np.concatenate([one.columns[name] for (one, _), _ in rollouts])
               for name in rollouts[0][0][0].columns}  # fmt: skip
    policies = [policy for (one, _), policy in rollouts for _ in one.columns["rewards"]]
    for env in (0, 1):
        (own,), place = np.nonzero(columns["env"] == env), 0
        for number, row in enumerate(own):
            if number == 0 or place == 3 or columns["truncateds"][own[number - 1]]:
                place, obs = 0, torch.from_numpy(columns["obs"][row][None])
                with torch.no_grad():
                    chunk = policies[row](obs).numpy()[0]
            np.testing.assert_allclose(columns["actions"][row], chunk[place], rtol=1e-4, atol=1e-5)
            place += 1


@pytest.fixture(scope="module")
def run(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of QC-FQL with a handover and an online phase."""
    return finished("qc_fql", tmp_path_factory.mktemp("runs"), chunk="4")


def finished(name: str, out: Path, online: int = 220, **given: Any) -> Path:
    options = {key: given.pop(key) for key in ("guard", "workers", "online_overrides") if key in given}
    plan = Plan(name, "toy-pendulum", SMALL | given, updates=20, online=online, eval_every=110,
                eval_episodes=2, threads=1, out=str(out), **options)  # fmt: skip
    return train(plan)


def test_an_exported_policy_returns_whole_chunks_in_the_units_of_the_environment(run: Path, toy: Shards):
    obs = torch.from_numpy(toy.read_all(["obs"])["obs"][:7])
    actions = load_policy(run / "policy.pt")(obs)
    assert actions.shape == (7, 4, 1)
    assert actions.abs().max() <= 2
    assert actions.std() > 0


def test_a_loaded_run_values_whole_chunks(run: Path, toy: Shards):
    obs = toy.read_all(["obs"])["obs"][:4]
    loaded = off2on.load_run(run)
    chunks = loaded.policy()(torch.from_numpy(obs)).detach().numpy()
    values = loaded.q(obs, chunks)
    assert values.shape == (2, 4)
    assert not np.allclose(values, loaded.q(obs, -chunks))


def test_an_evaluation_executes_chunks_to_their_end(run: Path):
    policy = load_policy(run / "policy.pt")
    played = evaluate(numpy_policy(policy), "Pendulum-v1", episodes=3, seed=5, keep=True)
    for number, episode in enumerate(played):
        env = gym.make("Pendulum-v1")
        obs, _ = env.reset(seed=5 + number)
        total, steps, cut = 0.0, 0, False
        while not cut:
            with torch.no_grad():
                chunk = policy(torch.from_numpy(np.stack([obs, obs])))[0].numpy()
            for action in chunk:
                obs, reward, _, cut, _ = env.step(action)
                total, steps = total + float(reward), steps + 1
                if cut:
                    break
        assert (episode.length, steps) == (200, 200)
        assert episode.ret == pytest.approx(total, rel=1e-4)


def test_the_score_just_after_the_handover_is_the_one_just_before(run: Path):
    scores = {row["side"]: row["score"] for row in reversed(list(read_metrics(run)))}
    assert scores["handover"] == [row["score"] for row in read_metrics(run) if row["side"] == "offline"][-1]
    checks = {check["what"]: check for check in yaml.safe_load((run / "handover.yaml").read_text())["checks"]}
    assert checks["score"]["passed"] is True
    assert checks["transforms"]["passed"] is True
    assert checks["collecting policy"]["passed"] is True
    assert "correlation" in checks["Q"]["found"]


def test_doors_that_take_single_actions_refuse_chunks_by_their_name(run: Path):
    for command, words in ((serve, [str(run)]), (ope, [str(run), "toy-pendulum"])):
        answer = CliRunner().invoke(command, words)
        assert isinstance(answer.exception, UserError), answer.output
        assert "chunks of 4 actions" in str(answer.exception)


def test_eval_on_the_command_line(run: Path):
    answer = CliRunner().invoke(evaluate_command, [str(run), "--episodes", "2"])
    assert answer.exit_code == 0, answer.output
    assert len(answer.stdout.splitlines()) >= 3


def numbers(folder: Path) -> list[dict[str, str]]:
    timed = {"wall_s", "updates_per_s", "steps_per_s"}
    return [{key: value for key, value in row.items() if key not in timed} for row in read_metrics(folder)]


@pytest.mark.slow
@pytest.mark.parametrize(("chunked", "single"), [("qc", "bfn"), ("qc_fql", "fql")])
@pytest.mark.usefixtures("data_root")
def test_a_run_with_chunks_of_one_is_the_run_of_single_actions(tmp_path: Path, chunked: str, single: str):
    given = {"samples": "3"} if single == "bfn" else {}
    one = finished(chunked, tmp_path, chunk="1", **given)
    other = finished(single, tmp_path, **given)
    assert numbers(one) == numbers(other)
    obs = torch.linspace(-1, 1, 60).view(20, 3)
    assert torch.equal(load_policy(one / "policy.pt")(obs), load_policy(other / "policy.pt")(obs))


@pytest.mark.usefixtures("data_root")
def test_a_guarded_run_collects_and_tests_chunks(tmp_path: Path):
    folder = finished("qc", tmp_path, chunk="3", samples="3", guard={})
    trials = yaml.safe_load((folder / "guard.yaml").read_text())["trials"]
    assert len(trials) >= 2
    assert load_policy(folder / "policy.pt")(torch.zeros(5, 3)).shape == (5, 3, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_chunks_are_collected_while_the_learner_updates(tmp_path: Path):
    folder = finished("qc", tmp_path, chunk="3", samples="3", workers=1,
                      online_overrides={"asynchronous": "true"})  # fmt: skip
    rows = list(read_metrics(folder))
    assert rows[-1]["env_steps"] == "220"
    assert np.isfinite(float(rows[-1]["score"]))


@pytest.mark.usefixtures("data_root")
def test_rllibs_evaluation_executes_chunks():
    config = configured(QC, 3).evaluation(evaluation_interval=1, evaluation_duration=2)
    with config.build_algo() as algo:
        first, second = algo.evaluate(), algo.evaluate()
    assert first == second
    assert first["env_runners"]["episode_len_mean"] == 200
