"""Balanced replay: rows are drawn by a priority that a density ratio gives them."""

import numpy as np
import pytest
import torch
from held_rows import CPU, LAYOUT, blocks, generator, go_on, held, went_online
from hypothesis import given
from hypothesis import strategies as st

from off2on.replay.buffer import ReplayBuffer
from off2on.strategies.balanced import Balanced, BalancedOptions


@given(
    priorities=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30),
    online=st.integers(0, 10),
    size=st.integers(1, 64),
    seed=st.integers(0, 1000),
)
def test_balanced_draws_where_numpys_cumulative_sum_says(
    priorities: list[float], online: int, size: int, seed: int
):
    rows = held(len(priorities), (online,) if online else ())
    strategy = went_online(Balanced, rows)
    strategy.tree.set(torch.arange(rows.offline), torch.tensor(priorities, dtype=torch.float64))
    position = strategy.draw(3, size, generator(seed)).numpy()

    mass = strategy.tree.priority[: rows.offline + rows.online].numpy()
    uniforms = torch.rand((3, size), generator=generator(seed), dtype=torch.float64).numpy()
    edges = np.cumsum(mass)
    expected = np.searchsorted(edges, (np.arange(size) + uniforms) / size * edges[-1], side="right")
    np.testing.assert_array_equal(position, np.minimum(expected, len(mass) - 1))
    # Stratified: in every batch the count of each row differs from its share by at most one.
    shares = mass / mass.sum() * size
    for batch in position:
        counts = np.bincount(batch, minlength=len(mass))
        assert (counts >= np.floor(shares - 1e-6) - 1).all()
        assert (counts <= np.ceil(shares + 1e-6) + 1).all()


def test_balanced_draws_each_row_in_proportion_to_its_priority():
    rows = held(5, (3,))
    strategy = went_online(Balanced, rows)
    priority = torch.tensor([0.001, 0.5, 1.0, 4.0, 10.0, 2.0, 2.0, 7.5], dtype=torch.float64)
    strategy.tree.set(torch.arange(8), priority)
    counts = np.bincount(strategy.draw(4000, 16, generator()).flatten(), minlength=8)
    expected = (priority / priority.sum() * 64_000).numpy()
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected.max())
    assert abs(counts[0] - expected[0]) < 5


@pytest.mark.parametrize("learners", [1, 2, 4])
def test_the_first_thousand_online_rows_get_their_share_of_the_mass(learners: int):
    offline, online = 5000 // learners, 1000 // learners
    rows = held(offline, (online,))
    rows.learners = learners
    strategy = Balanced(rows, BalancedOptions(online_share=0.75))
    strategy.on_added(offline + torch.arange(online))
    # p_new = M f / ((1 - f) 1000) = 5000 · 3 / 1000
    assert strategy.tree.priority[offline : offline + online].unique().tolist() == [15.0]
    share = (strategy.draw(200, 256, generator()) >= offline).double().mean().item()
    assert share == pytest.approx(0.75, abs=5e-3)


def test_new_rows_enter_at_the_largest_priority_ever_given():
    rows = held(20, (5,))
    strategy = went_online(Balanced, rows)
    assert strategy.tree.priority[20:25].unique().tolist() == pytest.approx(
        [20 / 1000]
    )  # p_new: M / 1000 at f = 1/2
    go_on(strategy, 3, seed=0)
    largest = float(strategy.largest)
    assert largest > 20 / 1000  # priorities about 1 were given by now
    (_, new) = blocks(25, 4)
    strategy.on_added(rows.add(new))
    assert strategy.tree.priority[25:29].unique().tolist() == [largest]
    # It never falls again, whatever is given later.
    strategy.largest = torch.tensor(500.0, dtype=torch.float64)
    go_on(strategy, 3, seed=1)
    assert strategy.largest == 500


def test_only_the_rows_just_used_get_another_priority():
    rows = held(30, (10,))
    strategy = went_online(Balanced, rows)
    before = strategy.tree.priority.clone()
    (position,) = go_on(strategy, 1, seed=0)
    changed = (strategy.tree.priority != before).nonzero().flatten()
    assert set(changed.tolist()) <= set(position.tolist())
    assert len(changed) > 0
    used = strategy.tree.priority[position]
    assert used.min() >= 1e-3
    assert used.max() <= 1e3


def test_a_priority_is_the_normalised_root_of_the_density_ratio_before_its_step():
    rows = held(30, (10,))
    strategy = Balanced(rows, BalancedOptions(temperature=2.0, ratio_lr=0.03, ratio_batch=4096))
    strategy.on_added(30 + torch.arange(10))
    position = torch.tensor([0, 7, 31, 38])
    (batch,) = rows.batches_at(position.unsqueeze(0))
    (everything,) = rows.batches_at(torch.arange(30).unsqueeze(0))

    def wanted() -> torch.Tensor:
        with torch.no_grad():
            w, w_offline = (
                strategy.ratio(torch.cat((it.obs, it.action), 1)).relu().squeeze(1).sqrt()
                for it in (batch, everything)
            )
        return w / w_offline.mean()

    before = wanted()
    strategy.on_used(batch, position, generator())
    # The mean over 4,096 offline draws is the mean over all 30 rows, nearly.
    given = strategy.tree.priority[position].float()
    torch.testing.assert_close(given, before, rtol=0.02, atol=1e-3)
    assert (given - wanted()).abs().max() > 0.05


@pytest.mark.parametrize("temperature", [0.02, 1e-3])
def test_priorities_are_bounded(temperature: float):
    rows = ReplayBuffer(LAYOUT, 30, 30, 10, CPU)
    rows.data[:30] = torch.randn(30, 4)
    rows.add(torch.randn(10, 4) + 3.0)
    # So cold that a row is either nothing or everything: w^50; w^1000 by itself would overflow.
    strategy = Balanced(rows, BalancedOptions(temperature=temperature, ratio_lr=1e-3))
    strategy.tree.set(torch.arange(30, len(strategy.tree.priority)), 1.0)
    go_on(strategy, 40, seed=0)
    assert strategy.tree.priority.isfinite().all()
    assert strategy.tree.priority.min() == pytest.approx(1e-3)
    assert (
        strategy.tree.priority.max() == pytest.approx(1e3)
        if temperature == 0.02
        else strategy.tree.priority.max() > 1
    )


def test_the_density_ratio_tells_online_rows_from_offline_ones():
    rows = ReplayBuffer(LAYOUT, 400, 400, 400, CPU)
    rows.data[:400] = torch.randn(400, 4)
    rows.data[:100, 0] += 3.0  # a quarter of the offline rows look like the online ones
    online = torch.randn(400, 4)
    online[:, 0] += 3.0
    rows.add(online)
    strategy = Balanced(rows, BalancedOptions(ratio_lr=3e-3))
    strategy.on_added(400 + torch.arange(400))
    go_on(strategy, 150, seed=0)
    similar, rest = strategy.tree.priority[:100].mean(), strategy.tree.priority[100:400].mean()
    assert similar > 1.2 * rest
    (everything,) = rows.batches_at(torch.arange(800).unsqueeze(0))
    with torch.no_grad():
        ratio = strategy.ratio(torch.cat((everything.obs, everything.action), 1)).relu().squeeze(1)
    assert ratio[:100].mean() > 3 * ratio[100:400].mean()


def test_the_density_ratio_is_stepped_by_adam():
    # torch's fused Adam mixes up strided gradients: the plain one, step by step, is the witness.
    rows = held(30, (10,))
    fused, plain = went_online(Balanced, rows), went_online(Balanced, rows)
    plain.optimizer = torch.optim.Adam(plain.ratio.parameters(), lr=3e-4, foreach=False)
    for strategy in (fused, plain):
        go_on(strategy, 10, seed=0)
    for ours, theirs in zip(fused.ratio.parameters(), plain.ratio.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_rows_that_slide_into_the_window_start_at_one():
    rows = held(30, (10,))
    strategy = went_online(Balanced, rows)
    strategy.tree.set(torch.arange(30), 9.0)
    strategy.on_replaced(torch.tensor([3, 4]))
    assert strategy.tree.priority[:6].tolist() == [9, 9, 9, 1, 1, 9]


def test_balanced_does_nothing_to_priorities_before_the_first_online_row():
    rows = held(30)
    strategy = Balanced(rows, BalancedOptions())
    assert go_on(strategy, 2, seed=0).max() < 30
    assert strategy.tree.priority[:30].unique().tolist() == [1.0]


def test_two_learners_begin_with_the_same_density_ratio():
    torch.manual_seed(1)
    one = Balanced(held(30), BalancedOptions())
    torch.manual_seed(2)
    other = Balanced(held(30), BalancedOptions())
    for ours, theirs in zip(one.ratio.parameters(), other.ratio.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert one.ratio[-1].bias.item() == 1.0
