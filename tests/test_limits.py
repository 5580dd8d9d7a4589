"""At one end of a dial an algorithm must become another: exactly, not nearly."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gradients import gradient
from torch.nn import functional as F  # noqa: N812

from off2on.algorithms.bc import BC
from off2on.algorithms.cql import CQL
from off2on.algorithms.iql import IQL
from off2on.algorithms.sac import SAC
from off2on.algorithms.td3_bc import TD3BC
from off2on.replay.buffer import Layout, ReplayBuffer
from off2on.replay.strategy import Options
from off2on.strategies.append import Append
from off2on.strategies.balanced import Balanced, BalancedOptions
from off2on.strategies.symmetric import Symmetric, SymmetricOptions

AS_SAC = {"conservative_weight": 0.0, "actor_lr": 3e-4, "temperature_lr": 3e-4, "entropy_backup": True}


def test_cql_without_its_term_has_sacs_losses_and_draws_sacs_random_numbers(problem: Callable[..., Any]):
    sac, cql = problem(SAC), problem(CQL, **AS_SAC)
    seen = []
    for case in (sac, cql):
        torch.manual_seed(7)
        batch = case.recipe.prepare(case.nets, case.batch, case.hp)
        losses = [
            getattr(case.recipe, f"compute_{objective.name}_loss")(case.nets, batch, case.hp)[0]
            for objective in SAC.objectives_in_order()  # CQL's multiplier has no loss without its term
        ]
        seen.append((torch.stack(losses), torch.get_rng_state()))
    assert torch.equal(seen[0][0], seen[1][0])
    assert torch.equal(seen[0][1], seen[1][1])


def test_cql_without_its_term_learns_what_sac_learns(build_learner: Callable[..., Any]):
    sac, cql = build_learner(SAC), build_learner(CQL, **AS_SAC)
    assert sac.advance(30) == cql.advance(30)
    theirs = cql.nets.state_dict()
    assert all(torch.equal(ours, theirs[name]) for name, ours in sac.nets.state_dict().items())
    assert theirs.keys() - sac.nets.state_dict().keys() == {"multiplier.value"}
    assert theirs["multiplier.value"] == 0


def test_cql_with_its_term_learns_something_else(build_learner: Callable[..., Any]):
    sac, cql = build_learner(SAC), build_learner(CQL, **AS_SAC | {"conservative_weight": 0.5})
    sac.advance(5)
    cql.advance(5)
    assert not torch.equal(sac.flat["critic"].vector, cql.flat["critic"].vector)


def test_iql_at_expectile_one_half_is_half_of_least_squares(problem: Callable[..., Any]):
    case = problem(IQL, expectile=0.5)
    batch = case.prepared()
    ours = case.loss("value", batch)
    squares = 0.5 * F.mse_loss(case.nets.value(batch.obs), batch.target_q)
    torch.testing.assert_close(ours, squares)
    torch.testing.assert_close(gradient(ours, case.nets.value), gradient(squares, case.nets.value))


def test_iql_at_beta_zero_is_cloning(problem: Callable[..., Any]):
    case = problem(IQL, beta=0.0)
    batch = case.prepared()
    ours = case.loss("actor", batch)
    cloning = -case.nets.actor(batch.obs).log_prob(batch.action).mean()
    assert torch.equal(ours, cloning)
    assert torch.equal(gradient(ours, case.nets.actor), gradient(cloning, case.nets.actor))
    # and whatever the critics say
    batch.target_q = 1e3 * torch.randn_like(batch.target_q)
    assert torch.equal(case.loss("actor", batch), cloning)


def test_td3_bc_at_alpha_zero_is_bc(problem: Callable[..., Any]):
    case, clone = problem(TD3BC, alpha=0.0), problem(BC)
    clone.nets.actor.load_state_dict(case.nets.actor.state_dict())
    ours, theirs = case.loss("actor"), clone.recipe.compute_actor_loss(clone.nets, case.batch, clone.hp)[0]
    assert torch.equal(ours, theirs)
    assert torch.equal(gradient(ours, case.nets.actor), gradient(theirs, clone.nets.actor))


# Strategies.

LAYOUT = Layout({"obs": 2, "action": 1})


def rows(offline: int, online: int, capacity: int = 100) -> ReplayBuffer:
    held = ReplayBuffer(LAYOUT, offline, offline, capacity, torch.device("cpu"))
    held.data[:offline] = torch.randn(offline, LAYOUT.width)
    if online:
        held.add(torch.randn(online, LAYOUT.width))
    return held


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def balanced(held: ReplayBuffer) -> Balanced:
    strategy = Balanced(held, BalancedOptions())
    strategy.tree.set(held.offline + torch.arange(held.online), 1.0)
    return strategy


def test_balanced_with_equal_priorities_is_uniform():
    held = rows(70, 30)
    position = balanced(held).draw(2000, 50, generator())
    # 100 rows in 50 strata: each batch takes one of every pair, either with the same chance
    assert torch.equal(position // 2, torch.arange(50).expand(2000, 50))
    counts = np.bincount(position.flatten(), minlength=100)
    assert counts.sum() == 100_000
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(2000 / 4)


def test_balanced_stays_uniform_while_the_densities_are_equal():
    held = rows(70, 30)
    strategy = balanced(held)
    last = strategy.ratio[-1]
    torch.nn.init.zeros_(last.weight)  # w = 1 everywhere: equal densities
    for group in strategy.optimizer.param_groups:
        group["lr"] = 0.0
    source = generator()
    for position in strategy.draw(5, 32, source):
        (batch,) = held.batches_at(position.unsqueeze(0))
        strategy.on_used(batch, position, source)
    assert strategy.tree.priority[:100].tolist() == pytest.approx([1.0] * 100)


@pytest.mark.parametrize(("share", "offline"), [(1.0, 32), (0.0, 0), (0.25, 8)])
def test_symmetric_holds_its_share_in_every_batch(share: float, offline: int):
    held = rows(70, 30)
    position = Symmetric(held, SymmetricOptions(offline_share=share)).draw(200, 32, generator())
    assert position.shape == (200, 32)
    assert ((position < 70).sum(1) == offline).all()
    assert position.min() >= 0
    assert position.max() < 100


@pytest.mark.parametrize(
    "strategy",
    [(Append, Options()), (Symmetric, SymmetricOptions(offline_share=0.0)), (Balanced, BalancedOptions())],
)
def test_before_the_first_online_row_every_strategy_is_offline(strategy: tuple[Any, Any]):
    kind, options = strategy
    position = kind(rows(70, 0), options).draw(200, 35, generator())
    counts = np.bincount(position.flatten(), minlength=70)
    assert len(counts) == 70
    assert counts.min() > 50


def test_append_on_resident_rows_is_uniform_over_both_sides():
    counts = np.bincount(
        Append(rows(70, 30), Options()).draw(1000, 100, generator()).flatten(), minlength=100
    )
    assert len(counts) == 100
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_append_lets_a_window_stand_for_all_of_the_data():
    held = ReplayBuffer(LAYOUT, 70, 7000, 100, torch.device("cpu"))
    held.add(torch.randn(70, LAYOUT.width))
    position = Append(held, Options()).draw(1000, 100, generator())
    # 7,000 offline rows to 70 online ones, although the window holds as many as the ring
    assert (position >= 70).float().mean().item() == pytest.approx(70 / 7070, abs=2e-3)
