"""Compare the sum tree with NumPy's cumulative sums."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from off2on.replay.sum_tree import WIDTH, SumTree

SIZES = st.sampled_from([1, 2, WIDTH - 1, WIDTH, WIDTH + 1, 1000, WIDTH**2, WIDTH**2 + 1])


def built(priority: torch.Tensor) -> SumTree:
    tree = SumTree(len(priority))
    tree.fill(priority)
    return tree


def same(ours: SumTree, theirs: SumTree) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ours.levels, theirs.levels, strict=True))


@given(SIZES, st.integers(0, 2**16))
def test_points_fall_where_numpys_cumulative_sum_says(leaves: int, seed: int):
    rng = np.random.default_rng(seed)
    # Multiples of 1/8 add up without rounding, so that both sides must agree on every boundary.
    priority = rng.integers(0, 40, leaves) / 8 * (rng.random(leaves) < 0.7)
    priority[rng.integers(leaves)] += 1
    edges = np.cumsum(priority)
    points = np.concatenate((rng.random(200) * edges[-1], edges[:-1], [0.0, edges[-1] - 1e-9]))
    points = points[points < edges[-1]]
    found = built(torch.from_numpy(priority)).find(torch.from_numpy(points))
    np.testing.assert_array_equal(found, np.searchsorted(edges, points, side="right"))


@given(SIZES, st.integers(0, 2**16))
def test_after_any_changes_the_tree_is_the_one_built_from_its_leaves(leaves: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    tree = SumTree(leaves)
    wanted = torch.zeros(leaves, dtype=torch.float64)
    for _ in range(20):
        count = int(torch.randint(1, 30, (), generator=generator))
        position = torch.randint(leaves, (count,), generator=generator).unique()
        priority = torch.rand(len(position), generator=generator, dtype=torch.float64) * 1e3
        tree.set(position, priority)
        wanted[position] = priority
    assert torch.equal(tree.priority, wanted)
    assert same(tree, built(wanted))


def test_equal_positions_in_a_batch_keep_the_sums_right():
    tree = built(torch.ones(500, dtype=torch.float64))
    tree.set(torch.tensor([7, 7, 7, 499, 7]), torch.tensor([5.0, 5.0, 5.0, 2.0, 5.0]))
    assert float(tree.total) == 500 + 4 + 1
    assert same(tree, built(tree.priority.clone()))


def test_a_million_changes_do_not_drift():
    """Differences added to float64 sums would be off by now; these are equal to the last bit."""
    generator = torch.Generator().manual_seed(1)
    tree = SumTree(10_000)
    for _ in range(2000):
        position = torch.randint(10_000, (500,), generator=generator)
        # Of float32 numbers, float64 sums would be exact, and differences too.
        tree.set(position, 10 ** (6 * torch.rand(500, generator=generator, dtype=torch.float64) - 3))
    assert same(tree, built(tree.priority.clone()))


@given(st.integers(0, 2**16))
def test_leaves_without_priority_are_never_drawn_not_even_at_the_very_end(seed: int):
    generator = torch.Generator().manual_seed(seed)
    priority = torch.rand(5000, generator=generator, dtype=torch.float64)
    priority[torch.rand(5000, generator=generator) < 0.5] = 0.0
    priority[4000:] = 0.0
    tree = built(priority)
    ends = torch.stack((tree.total, tree.total * (1 - 1e-16), tree.total * (1 + 1e-12), torch.tensor(0.0)))
    points = torch.cat((torch.rand(1000, generator=generator, dtype=torch.float64) * tree.total, ends))
    found = tree.find(points)
    assert (priority[found] > 0).all()
    assert found.max() < 4000


def test_draws_are_in_proportion_to_priority():
    priority = torch.zeros(300, dtype=torch.float64)
    priority[[3, 150, 299]] = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    points = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 8
    share = torch.bincount(built(priority).find(points), minlength=300) / 20_000
    assert share[[3, 150, 299]].tolist() == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=0.01)
