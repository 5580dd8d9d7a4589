"""``off2on plan``: memory and transfers computed by hand, machines, and errors."""

import json
import re
from pathlib import Path

import pytest
import torch
from command import off2on, succeeds

from datasets_io import Shards
from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.commands.output import format_size
from off2on.replay.augmentation.compose import layout_for
from off2on.training.cluster import estimate as estimating
from off2on.training.cluster.estimate import SyntheticLearner, estimate
from off2on.training.cluster.placement import Node, Role, machines_needed, this_machine
from off2on.training.command_line import make_plans

ROW = 4 * (3 + 1 + 1 + 3 + 1)
"""Bytes of a transition of toy-pendulum: obs, action, reward, next_obs, terminated."""


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "MEASURED_S", 0.01)


def figures(toy: Shards, tmp_path: Path, *words: str, **options: object) -> dict[str, float | None]:
    """Return the figures of a plan as ``group.name``."""
    given = {"out": str(tmp_path), "address": "auto"} | options
    (plan, *_), resolved = make_plans(["iql", str(toy.path), "hidden=8,8", *words], given, "")
    return {f"{figure.group}.{figure.name}": figure.value for figure in estimate(plan, resolved)}


def test_memory_and_transfers_by_hand(toy: Shards, tmp_path: Path) -> None:
    sizes = {"updates": 10, "online": 1000, "learners": 2, "workers": 3}
    found = figures(toy, tmp_path, "online.rollout=50", **sizes)
    assert found["memory.offline_rows"] == ROW * -(-toy.rows // 2)
    assert found["memory.online_rows"] == ROW * 500
    assert found["memory.learner"] == sum(
        found[f"memory.{name}"] for name in ("offline_rows", "online_rows", "networks")
    )
    # Runners send obs, next_obs (float32), action, reward (float64), two ends, and the environment's number.
    step = toy.observation_space.dtype.itemsize * 6 + toy.action_space.dtype.itemsize + 8 + 1 + 1 + 8
    assert found["transfer.rollout"] == 50 * step * (1 + 2)


def test_a_window_takes_the_memory_it_is_given(toy: Shards, tmp_path: Path) -> None:
    found = figures(toy, tmp_path, updates=10, memory=2**20)
    assert found["memory.offline_rows"] == min(2**20, ROW * toy.rows)
    assert found["transfer.gradients"] == found["transfer.rollout"] == found["transfer.policy"] == 0


def test_times_are_the_measurements_times_the_numbers_of_the_plan(toy: Shards, tmp_path: Path) -> None:
    words = ["online.rollout=50", "online.warm_up=0", "online.burst=1"]
    options = {"updates": 10, "online": 1000, "workers": 4, "envs": 2, "utd": 0.5}
    found = figures(toy, tmp_path, *words, **options)
    update, step = found["measured.update"], found["measured.step"]
    assert update > 0
    assert step > 0
    assert found["time.offline"] == pytest.approx(10 * update)
    assert found["time.updating"] == pytest.approx(500 * update)
    # 20 rollouts, in which each of 4 workers makes 7 steps of 2 environments: 50 is not divisible by 8.
    assert found["time.collecting"] == pytest.approx(20 * 14 * step)
    assert found["time.online"] == pytest.approx(found["time.updating"] + found["time.collecting"])


def synthetic(name: str, toy: Shards, **values: object) -> SyntheticLearner:
    recipe = find_algorithm(name)
    hp = recipe.Hyperparameters.parse(values, name)
    layout = layout_for(toy, recipe, hp)
    return SyntheticLearner(recipe, hp, toy.observation_space, toy.action_space, layout)


def test_gradients_and_networks_of_a_tiny_network_by_hand(toy: Shards) -> None:
    learner = synthetic("bc", toy, hidden="4,4", batch_size="8")
    parameters = sum(parameter.numel() for parameter in learner.nets.actor.parameters())
    learner.update(8)
    assert learner.gradient_bytes == learner.policy_bytes == 4 * parameters
    # Parameters, gradients and two moments of Adam, whose number of steps takes 4 bytes.
    assert learner.network_bytes == 4 * (4 * parameters) + 4


def test_a_delayed_actor_sends_gradients_at_every_other_update(toy: Shards) -> None:
    learner = synthetic("td3", toy, hidden="8", batch_size="8")
    for _ in range(4):
        learner.update(8)
    actor, critic = (learner.flat[name].vector.nbytes for name in ("actor", "critic"))
    assert learner.gradient_bytes == critic + actor / 2


@pytest.mark.parametrize("name", [name for name in CATALOGUE if find_algorithm(name).actions != "discrete"])
def test_every_algorithm_can_be_measured(name: str, toy: Shards, small) -> None:
    learner = synthetic(name, toy, **small(find_algorithm(name)))
    learner.update(16)
    assert learner.network_bytes > learner.policy_bytes > 0
    assert all(torch.isfinite(flat.vector).all() for flat in learner.flat.values())


def test_machines_follow_from_cpus_and_memory() -> None:
    node = Node("", "this machine", 2.0, 0.0, 2.0**34, 2.0**30, 2.0, 0.0)
    roles = [Role("learner", 2, 1, 0), Role("runner", 4, 1, 0)]
    assert machines_needed(roles, node, learners_by_memory=10) == 3
    assert machines_needed([roles[0]], node, learners_by_memory=1) == 2
    assert machines_needed(roles, node, learners_by_memory=0) is None
    assert machines_needed([Role("learner", 1, 0, 1)], node, learners_by_memory=1) is None
    assert machines_needed([], node, learners_by_memory=1) == 1


def test_the_command_prints_json_and_a_table(toy: Shards, tmp_path: Path) -> None:
    words = ["plan", "iql", toy.path, "--updates", "10", "--online", "100", "--learners", "1", "hidden=8,8"]
    result = json.loads(succeeds(tmp_path, *words, "--json").stdout)
    assert result["fits"]["processes"] == {"learner": 1}
    assert set(result) == {"memory", "transfer", "measured", "time", "fits", "bound"}
    page = succeeds(tmp_path, *words).stdout
    (needs,) = (line for line in page.splitlines() if line.startswith("needs "))
    (fits,) = (line for line in page.splitlines() if line.startswith("fits "))
    assert needs.split(maxsplit=1)[1] == (
        f"{format_size(result['memory']['learner'])} of memory for the data and networks of each learner"
    )
    assert format_size(this_machine().memory) not in needs
    assert f"updates of the offline phase: {10 * 256 / toy.rows:.1f} passes over the rows" in page
    assert "needs" not in fits
    assert re.search(
        r"1 learner on 1 machine like this one \(\d+ CPUs, \d+ GPUs, [\d.]+ [GT]B of memory;", fits
    )
    assert max(map(len, page.splitlines())) <= 140
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("iqll {toy}", "'iqll'"),
        ("iql {toy} --learners 3", "batch_size 256"),
        ("iql {toy} --learners -1", "--learners"),
        ("iql {toy} --online 10 --asynchronous", "workers is 0"),
        ("", "off2on plan iql toy-pendulum"),
    ],
)
def test_a_plan_that_cannot_work_is_an_error(toy: Shards, tmp_path: Path, words: str, part: str) -> None:
    done = off2on(tmp_path, "plan", *words.format(toy=toy.path).split())
    assert (done.returncode, done.stdout) == (2, "")
    assert part in done.stderr
