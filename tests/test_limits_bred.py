"""BRED: with one agent it is CQL, with several so many of them, and their merged policy is their mixture."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients import gradient
from torch import nn, tensor

from off2on.algorithms.bred import BRED
from off2on.algorithms.cql import CQL
from off2on.recipe.actors import EnsembleActor
from off2on.recipe.batch import Batch
from off2on.recipe.distributions import TanhNormal
from off2on.recipe.ensembles import minimum_values, to_critics
from off2on.recipe.hooks import Objective
from off2on.recipe.networks import Critic, Nets, Scalar

Make = Callable[..., Any]


def prepared(*cases: Any) -> tuple[Any, ...]:
    return tuple(case.prepared() for case in cases)


def one_agent(cql: Any, bred: Any) -> None:
    """Give CQL's networks to BRED's only agent."""
    layers = [layer for layer in cql.nets.actor.mlp if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for ours, theirs in zip(bred.nets.actor.layers, layers, strict=True):
            ours.weight.copy_(theirs.weight.unsqueeze(0))
            ours.bias.copy_(theirs.bias.view(1, 1, -1))
    bred.batch = cql.batch
    bred.nets.critic.load_state_dict(cql.nets.critic.state_dict())
    bred.nets.target.critic.load_state_dict(cql.nets.target.critic.state_dict())
    for name in ("temperature", "multiplier"):
        getattr(bred.nets, name).load_state_dict(getattr(cql.nets, name).state_dict())


OPTIONS = [
    {},
    {"entropy_backup": True, "threshold": 1.0},
    {"backup_actions": 5, "gap_floor": 2.0},
    {"cloning_share": 0.9},
    {"conservative_weight": 0.0},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_bred_offline_with_one_agent_is_cql(problem: Make, options: dict[str, Any]):
    cql, bred = problem(CQL, **options), problem(BRED, agents=1, **options)
    one_agent(cql, bred)
    ours, theirs = prepared(bred, cql)
    conservative = options.get("conservative_weight", 1) > 0  # otherwise the critics draw their own actions
    for name in ("temperature", "actor", *(("multiplier", "critic") if conservative else ())):
        mine, other = bred.loss(name, ours), cql.loss(name, theirs)
        assert torch.equal(mine, other), name
        slopes = gradient(mine, getattr(bred.nets, name)), gradient(other, getattr(cql.nets, name))
        torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)  # sums over rows are taken in another order


@pytest.mark.parametrize("options", OPTIONS)
def test_bred_offline_is_so_many_agents_side_by_side(problem: Make, options: dict[str, Any]):
    """With the same noise for all: the sum of their losses, whatever the others do."""
    bred = problem(BRED, agents=3, **options)
    bred.nets.temperature.value.data.copy_(tensor([-0.5, 0.1, 0.7]))
    together, alone = bred.prepared(), []
    for agent in range(3):
        single = problem(BRED, agents=1, **options)
        mine = torch.tensor([agent, 3 + agent])
        with torch.no_grad():
            for parameter, other in zip(
                single.nets.actor.parameters(), bred.nets.actor.parameters(), strict=True
            ):
                parameter.copy_(other[agent : agent + 1])
            for critic, others in (
                (single.nets.critic, bred.nets.critic),
                (single.nets.target.critic, bred.nets.target.critic),
            ):
                for parameter, other in zip(critic.parameters(), others.parameters(), strict=True):
                    parameter.copy_(other[mine])
            single.nets.temperature.value.copy_(bred.nets.temperature.value[agent : agent + 1])
        batch = Batch(**vars(bred.batch))
        batch.own_action = together.own_action[agent : agent + 1]
        batch.own_log_prob = together.own_log_prob[agent : agent + 1]
        if hasattr(together, "proposals"):
            batch.proposals = tuple(each[mine] for each in together.proposals)
            where = -3, -2
            batch.next_sample = tuple(
                each.narrow(dim, agent, 1) for each, dim in zip(together.next_sample, where, strict=True)
            )
        alone.append((single, batch))
    names = ["temperature", "actor"] + (["critic"] if hasattr(together, "proposals") else [])
    for name in names:
        whole = bred.loss(name, together)
        parts = [single.loss(name, batch) for single, batch in alone]
        torch.testing.assert_close(whole, torch.stack(parts).sum())
        if name == "critic":
            slope = gradient(whole, bred.nets.critic.layers[0])
            each = [
                gradient(part, single.nets.critic.layers[0])
                for part, (single, _) in zip(parts, alone, strict=True)
            ]
            assert slope.norm() == pytest.approx(torch.stack(each).norm().item(), rel=1e-4)


def test_breds_merged_policy_of_one_member_is_that_member():
    torch.manual_seed(0)
    policy = EnsembleActor(5, 3, (16,), 1)(torch.randn(50, 5))
    merged = policy.merged()
    assert torch.equal(merged.mean, policy.mean[0])
    torch.testing.assert_close(merged.log_std, policy.log_std[0], rtol=1e-6, atol=1e-6)
    slopes = torch.autograd.grad(merged.log_std.sum(), policy.log_std)
    torch.testing.assert_close(slopes[0], torch.ones(1, 50, 3), rtol=1e-5, atol=1e-6)


def test_breds_merged_policy_has_the_mean_and_the_variance_of_the_mixture():
    # N(1, 4) and N(-3, 16): mean -1, variance (4 + 16) / 2 + (1 + 9) / 2 - 1
    location, std = tensor([[[1.0]], [[-3.0]]]), tensor([[[2.0]], [[4.0]]])
    merged = TanhNormal(location, std.log()).merged()
    assert merged.location.item() == -1
    assert merged.log_std.exp().item() ** 2 == pytest.approx(14)
    # far beyond the bounds of a single policy's sigma
    wide = TanhNormal(tensor([[[100.0]], [[-100.0]]]), torch.zeros(2, 1, 1)).merged()
    assert wide.log_std.item() == 2
    narrow = TanhNormal(torch.zeros(2, 1, 1), torch.full((2, 1, 1), -20.0)).merged()
    assert narrow.log_std.item() == pytest.approx(-20)


def test_bred_acts_as_the_merged_policy_on_both_sides(problem: Make):
    case = problem(BRED, agents=4)
    policies = case.nets.actor(case.batch.obs)
    expected = policies.location.mean(0).tanh()
    assert torch.equal(BRED.act(case.nets, case.batch.obs, case.hp, False), expected)
    case.batch.progress = 1.5
    torch.manual_seed(0)
    sampled, log_prob = policies.merged().sample()
    batch = case.prepared()
    assert torch.equal(batch.own_action, sampled)
    assert torch.equal(batch.own_log_prob, log_prob)


def test_breds_agents_believe_their_own_two_critics(problem: Make):
    case = problem(BRED, agents=3)
    obs, action = case.batch.obs, torch.rand(3, 64, 3) * 2 - 1
    mine = minimum_values(case.nets.critic, obs, action, case.hp.agents)
    for agent in range(3):
        every = case.nets.critic(obs, action[agent])
        torch.testing.assert_close(mine[agent], torch.minimum(every[agent], every[3 + agent]))
    shared = minimum_values(case.nets.critic, obs, action[0], case.hp.agents)
    every = case.nets.critic(obs, action[0])
    assert torch.equal(shared, torch.minimum(every[:3], every[3:]))
    assert to_critics(action.unsqueeze(0), case.hp.critics).shape == (6, 1, 64, 3)


def test_a_critic_values_every_members_own_actions():
    torch.manual_seed(0)
    critic, obs, action = Critic(5, 3, (16, 16), 4), torch.randn(8, 5), torch.randn(4, 6, 8, 3)
    q = critic(obs, action)
    assert q.shape == (4, 6, 8)
    for member in range(4):
        torch.testing.assert_close(q[member], critic(obs, action[member])[member])


def test_breds_online_losses_by_hand():
    # Two agents of one observation, Q_ei = c; r = 1, gamma = 0.5, not the end; alpha = 2
    critic = Critic(1, 1, (), 4)
    with torch.no_grad():
        critic.layers[0].weight.zero_()
        critic.layers[0].bias.copy_(tensor([4.0, -1.0, 3.0, 2.0]).view(4, 1, 1))  # Q_11, Q_21, Q_12, Q_22
    nets = Nets(critic=critic, merged_temperature=Scalar(math.log(2)), targets=("critic",))
    one = tensor([1.0])
    batch = Batch(obs=torch.zeros(1, 1), next_obs=torch.zeros(1, 1), reward=one, mask=one, progress=1.2)
    batch.own_action, batch.own_log_prob = torch.zeros(1, 1), tensor([0.25])
    hp = BRED.Hyperparameters(agents=2, discount=0.5)
    loss, _ = BRED.compute_actor_loss(nets, batch, hp)
    assert loss.item() == pytest.approx(2 * 0.25 - (3 - 1) / 2)
    target = BRED.soft_target(nets, batch, hp, torch.zeros(1, 1), tensor([0.25]))
    # 1 + 0.5 (3 - 0.5) and 1 + 0.5 (-1 - 0.5), for either critic of the agents
    assert target.flatten().tolist() == pytest.approx([2.25, 0.25, 2.25, 0.25])
    batch.action = torch.zeros(1, 1)
    loss, _ = BRED.compute_merged_temperature_loss(nets, batch, hp)
    assert loss.item() == pytest.approx(-math.log(2) * (0.25 - 1))


def test_bred_moves_what_belongs_to_its_side():
    def due(name: str, progress: float, **options: Any) -> bool:
        return BRED.is_due(Objective(name), BRED.Hyperparameters(**options), 1, progress)

    assert [due("temperature", 0.5), due("temperature", 1.0)] == [True, False]
    assert [due("merged_temperature", 0.99), due("merged_temperature", 1.0)] == [False, True]
    assert [due("multiplier", 0.5, threshold=1.0), due("multiplier", 1.5, threshold=1.0)] == [True, False]
    assert not due("multiplier", 0.5)
    assert due("actor", 0.5)
    assert due("critic", 1.5)
