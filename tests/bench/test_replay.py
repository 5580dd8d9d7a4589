"""Balanced replay's draws and refreshed priorities, against cumulative sums of all priorities."""

import time

import pytest
import torch
from harness import in_turns, report

from off2on.replay.sum_tree import SumTree

pytestmark = pytest.mark.bench
BATCH = 256


@pytest.mark.parametrize("every", [1, 10], ids=["a sum per update", "a sum per ten"])
@pytest.mark.parametrize("rows", [100_000, 1_000_000, 5_000_000])
def test_a_sum_tree_against_cumulative_sums(rows: int, every: int):
    torch.set_num_threads(1)
    first = torch.rand(rows, dtype=torch.float64)
    tree, flat = SumTree(rows), first.clone()
    tree.fill(first)
    fresh, stratum = torch.rand(BATCH), torch.arange(BATCH, dtype=torch.float64)

    def ours(updates: int) -> float:
        started = time.perf_counter()
        for _ in range(updates):
            tree.set(tree.find((stratum + torch.rand(BATCH)) / BATCH * tree.total), fresh)
        return time.perf_counter() - started

    def peer(updates: int) -> float:
        started = time.perf_counter()
        for update in range(updates):
            if update % every == 0:
                edges = flat.cumsum(0)
            points = (stratum + torch.rand(BATCH)) / BATCH * edges[-1]
            flat[torch.searchsorted(edges, points, right=True).clamp_(max=rows - 1)] = fresh.double()
        return time.perf_counter() - started

    report(f"replay {rows:,} rows, tree / cumsum every {every}", in_turns(ours, peer, 100))
