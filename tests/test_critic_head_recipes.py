"""Critic heads in the algorithms that take one: losses, ranges, updates and files."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from real_learners import everything, same
from torch import Tensor

from datasets_io import Shards
from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.algorithms.dqn import DQN
from off2on.algorithms.iql import IQL
from off2on.algorithms.td3_bc import TD3BC
from off2on.errors import HyperparameterError
from off2on.online.settings import split_overrides
from off2on.policy import Policy, load_policy
from off2on.recipe.critic_heads import CriticHeadHyperparameters, Prediction, head_of
from off2on.recipe.discrete import ActionValues
from off2on.recipe.networks import Critic
from off2on.replay.transforms import Transforms
from off2on.replay.value_range import with_value_range
from off2on.rllib.batched.learners import BatchedLearners

Make = Callable[..., Any]
RANGE = {"v_min": -20.0, "v_max": 20.0, "atoms": 21}


def heads(name: str) -> list[str]:
    """The heads that an algorithm takes, besides none."""
    rule = find_algorithm(name).Hyperparameters.rules().get("critic_head")
    return [] if rule is None else [head for head in rule.choices if head != "plain"]


HEADED = [(name, head) for name in CATALOGUE for head in heads(name)]
MACHINES = [
    ("td3_bc", "quantile"), ("iql", "hl_gauss"), ("cql", "c51"), ("edac", "quantile"), ("redq", "c51"),
    ("fql", "hl_gauss"), ("dqn", "c51"), ("discrete_bcq", "hl_gauss"), ("discrete_cql", "quantile"),
]  # fmt: skip
"""Each shape of algorithm, and each head with both kinds of actions."""


def critics(case: Any) -> list[str]:
    """The objectives that are critics."""
    names = [objective.name for objective in case.recipe.objectives_in_order()]
    return [name for name in names if isinstance(getattr(case.nets, name), Critic | ActionValues)]


def test_the_algorithms_of_the_page_take_a_head():
    names = {name for name, _ in HEADED}
    assert {"td3_bc", "rebrac", "iql", "cql", "sac", "fql", "dqn", "double_dqn", "discrete_cql"} <= names
    assert {"bc", "bcq", "uwac", "discrete_sac"}.isdisjoint(names)


@pytest.mark.parametrize("name", ["bc", "bcq", "discrete_sac"])
def test_other_algorithms_refuse_a_head_by_name(name: str):
    with pytest.raises(HyperparameterError) as refusal:
        find_algorithm(name).Hyperparameters.parse({"critic_head": "c51"}, name)
    assert refusal.value.what == f"{name} has no hyperparameter 'critic_head'."


@pytest.mark.parametrize("name", ["bred", "e2o", "ispi_c"])
def test_algorithms_without_distributions_as_targets_refuse_heads_that_learn_them(name: str):
    with pytest.raises(HyperparameterError, match=r"plain \| hl_gauss"):
        find_algorithm(name).Hyperparameters.parse({"critic_head": "c51"}, name)


@pytest.mark.parametrize(("name", "head"), HEADED)
def test_every_critic_learns_by_the_error_of_its_head(
    problem: Make, monkeypatch: pytest.MonkeyPatch, name: str, head: str
):
    case, errors, error = problem(find_algorithm(name), critic_head=head, **RANGE), [], Prediction.error
    monkeypatch.setattr(Prediction, "error", lambda *given: errors.append(error(*given)) or errors[-1])
    assert critics(case)
    for critic in critics(case):
        errors.clear()
        loss = case.loss(critic)
        assert getattr(case.nets, critic).head == head_of(case.hp)
        assert loss.isfinite()
        assert [one.shape[-1] for one in errors] == [64]
        own = list(getattr(case.nets, critic).parameters())
        assert any(gradient.any() for gradient in torch.autograd.grad(loss, own))
    for objective in case.recipe.objectives_in_order():
        assert case.loss(objective.name).isfinite()


@pytest.mark.parametrize(("name", "head"), HEADED)
def test_its_future_counts_by_the_discount_and_not_after_the_end(problem: Make, name: str, head: str):
    losses = {}
    for mask in (0.0, 1.0):
        for discount in (0.0, 0.9):
            case = problem(find_algorithm(name), critic_head=head, discount=discount, **RANGE)
            case.batch.mask = torch.full_like(case.batch.mask, mask)
            losses[mask, discount] = case.loss("critic")
    assert torch.equal(losses[0.0, 0.0], losses[0.0, 0.9])
    assert torch.equal(losses[0.0, 0.0], losses[1.0, 0.0])
    assert not torch.isclose(losses[1.0, 0.0], losses[1.0, 0.9], rtol=1e-7)


@pytest.mark.parametrize(("name", "head"), HEADED)
def test_its_error_counts_by_the_weight_of_a_transition(problem: Make, name: str, head: str):
    case = problem(find_algorithm(name), critic_head=head, **RANGE)
    plain = case.loss("critic")
    case.batch.weight = torch.ones(64)
    torch.testing.assert_close(case.loss("critic"), plain)
    case.batch.weight = torch.zeros(64)
    none = case.loss("critic")
    assert not torch.isclose(none, plain)
    case.batch.reward = case.batch.reward + 1
    assert torch.equal(case.loss("critic"), none)


# The range of values.


def resolved(recipe: Any, shards: Shards, **given: Any) -> Any:
    return with_value_range(recipe.Hyperparameters.parse(given, recipe.__name__), shards)


def test_the_range_holds_every_discounted_sum_of_the_datas_rewards(toy: Shards, cartpole: Shards):
    rewards = toy.read_all(["rewards"])["rewards"]
    low, high = float(rewards.min()), float(rewards.max())
    found = resolved(TD3BC, toy, critic_head="hl_gauss", discount=0.9)
    assert low < high <= 0  # so the best single reward is better than any sum
    assert (found.v_min, found.v_max) == pytest.approx((10 * low, high))
    found = resolved(TD3BC, toy, critic_head="c51", discount=0.9, reward="ten_plus_five")
    assert (found.v_min, found.v_max) == pytest.approx((10 * (10 * low + 5), 10 * (10 * high + 5)))
    found = resolved(DQN, cartpole, critic_head="c51", discount=0.99)  # every reward is 1
    assert (found.v_min, found.v_max) == pytest.approx((1.0, 100.0))


def test_a_given_end_of_the_range_is_kept_and_the_other_computed(toy: Shards):
    found = resolved(IQL, toy, critic_head="c51", v_max=50.0, reward="raw")
    assert found.v_max == 50.0
    assert found.v_min == pytest.approx(100 * float(toy.read_all(["rewards"])["rewards"].min()))


@pytest.mark.parametrize("head", ["plain", "quantile"])
def test_heads_without_a_range_leave_it_open(toy: Shards, head: str):
    assert resolved(IQL, toy, critic_head=head).v_min is None


@pytest.mark.parametrize("given", [{"discount": 1.0}, {"v_min": 3.0, "v_max": 3.0}, {"v_max": float("inf")}])
def test_an_empty_or_infinite_range_is_refused_with_what_to_give(toy: Shards, given: dict[str, Any]):
    with pytest.raises(HyperparameterError, match="needs a range of values") as refusal:
        resolved(IQL, toy, critic_head="hl_gauss", **given)
    assert "v_min=NUMBER" in str(
        refusal.value.render() if hasattr(refusal.value, "render") else refusal.value
    )


@pytest.mark.parametrize("name", ["critic_head", "atoms", "v_min", "v_max"])
def test_a_head_cannot_be_another_one_online(name: str):
    with pytest.raises(HyperparameterError, match="must be the same in the online phase"):
        split_overrides({name: "1"}, IQL)


# Updates.


def data(recipe: Any) -> str:
    return "toy-cartpole" if recipe.actions == "discrete" else "wide"


def build(build_learner: Make, name: str, head: str, **given: Any) -> Any:
    recipe = find_algorithm(name)
    return build_learner(recipe, data(recipe), critic_head=head, atoms=11, hidden=(16, 16), **given)


@pytest.mark.parametrize(("name", "head"), MACHINES)
def test_traced_updates_are_bit_equal(build_learner: Make, name: str, head: str):
    own, traced = (build(build_learner, name, head, batch_size=16) for _ in range(2))
    own.traced.after, traced.traced.after = 100, 1
    found = [repr([learner.advance(updates) for updates in (7, 33)]) for learner in (own, traced)]
    assert found[0] == found[1]
    assert same(everything(own), everything(traced))
    assert traced.traced.reason is None
    assert traced.traced.repeated > 20


@pytest.mark.slow
@pytest.mark.parametrize(("name", "head"), MACHINES)
def test_seeds_learn_together_what_they_learn_alone(build_learner: Make, name: str, head: str):
    alone, abreast = ([build(build_learner, name, head, seed=seed) for seed in (3, 4)] for _ in range(2))
    together = BatchedLearners(abreast)
    expected = [one.advance(4) for one in alone]
    found = [together.advance(one, 4) for one in abreast]
    for mine, its in zip(found, expected, strict=True):
        assert mine == pytest.approx(its, rel=1e-3, abs=1e-4)
    for mine, its in zip(abreast, alone, strict=True):
        torch.testing.assert_close(
            dict(mine.nets.state_dict()), dict(its.nets.state_dict()), rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("head", heads("discrete_bcq"))
@pytest.mark.parametrize("name", ["dqn", "discrete_bcq"])
def test_a_policy_file_acts_by_the_values_of_a_head(cartpole: Shards, tmp_path: Path, name: str, head: str):
    recipe = find_algorithm(name)
    hp = with_value_range(recipe.Hyperparameters.parse({"critic_head": head, "atoms": 11}, name), cartpole)
    nets = recipe.build_nets(cartpole.observation_space, cartpole.action_space, hp)
    policy = Policy(recipe, nets, hp, Transforms.of(cartpole, hp))
    (tmp_path / "policy.pt").write_bytes(policy.export())
    obs = torch.from_numpy(cartpole.read_all(["obs"])["obs"])
    found = load_policy(tmp_path / "policy.pt")(obs)
    assert torch.equal(found, policy(obs))
    assert len(found.unique()) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("data_root")
@pytest.mark.parametrize(("name", "head"), [("td3_bc", "hl_gauss"), ("sac", "quantile"), ("dqn", "c51")])
def test_a_resumed_run_is_the_one_that_was_not_interrupted(
    data_root: Path, tmp_path: Path, name: str, head: str
):
    recipe = find_algorithm(name)
    env = "toy-cartpole" if recipe.actions == "discrete" else "toy-pendulum"

    def start() -> Any:
        given = {"critic_head": head, "atoms": 11, "hidden": (16, 16), "batch_size": 16, "threads": 1}
        config = recipe.configure(env).training(**given).offline(20).debugging(seed=3)
        return config.online(60, rollout=20).env_runners(num_env_runners=0).build_algo()

    def learnt(algo: Any) -> dict[str, Tensor]:
        (answer,) = algo.learner_group.foreach_learner(lambda learner: learner.nets.state_dict())
        return dict(answer.get())

    with start() as whole, start() as again:
        while whole.env_steps < 20:
            whole.train()
        again.restore_from_path(whole.save_to_path(tmp_path / "checkpoint"))
        for algo in (whole, again):
            while not algo.finished:
                algo.train()
        assert same(learnt(whole), learnt(again))
        assert head_of(again.config.resolved.hp) == head_of(whole.config.resolved.hp)


def test_heads_are_values_that_can_be_copied_and_compared():
    hp = CriticHeadHyperparameters(critic_head="c51", v_min=0.0, v_max=1.0)
    assert copy.deepcopy(head_of(hp)) == head_of(hp) != head_of(CriticHeadHyperparameters())
