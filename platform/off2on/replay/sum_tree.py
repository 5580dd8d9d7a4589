"""A sum tree: numbers drawn in proportion to priorities that change with every batch.

Its nodes are wide, so that a batch of draws or of changes is a handful of tensor operations per level, and
three or four levels serve tens of millions of leaves. The sum of a node is always taken anew from its
children, never adjusted by a difference: however many changes there were, the tree is bit for bit the one
that would be built from its leaves.
"""

import torch
from torch import Tensor

WIDTH = 64
"""Children of a node."""


class SumTree:
    """Priorities of a fixed number of leaves, at first all 0.

    Args:
        leaves: How many.
        device: Where they lie.
    """

    def __init__(self, leaves: int, device: torch.device | None = None) -> None:
        self.leaves = leaves
        self.levels: list[Tensor] = []
        """Sums [nodes × WIDTH] from the leaves up; float32 would lose a small leaf among a million."""
        size = max(leaves, 1)
        while not self.levels or size > 1:
            size = -(-size // WIDTH)
            self.levels.append(torch.zeros(size * WIDTH, dtype=torch.float64, device=device))

    @property
    def priority(self) -> Tensor:
        """The leaves' priorities [leaves], float64, not to be written to."""
        return self.levels[0][: self.leaves]

    @property
    def mass(self) -> Tensor:
        """The sum of all priorities, a tensor of no dimensions."""
        return self.levels[-1].sum()

    def set(self, position: Tensor, priority: Tensor | float) -> None:
        """Give the leaves at positions [n] other priorities, [n] or one for all; of equal ones one wins."""
        self.levels[0][position] = (
            priority.to(self.levels[0]) if isinstance(priority, Tensor) else float(priority)
        )
        for below, above in zip(self.levels, self.levels[1:], strict=False):
            # Neighbours, as in a slice of rows that stream in, share their node: it is summed once.
            position = torch.unique_consecutive(position // WIDTH)
            above[position] = below.view(-1, WIDTH)[position].sum(1)

    def fill(self, priority: Tensor) -> None:
        """Give the first leaves these priorities [n], and the others 0."""
        self.levels[0].zero_()
        self.levels[0][: len(priority)] = priority
        for below, above in zip(self.levels, self.levels[1:], strict=False):
            above[: len(below) // WIDTH] = below.view(-1, WIDTH).sum(1)

    def find(self, point: Tensor) -> Tensor:
        """The leaves that points [n] in [0, mass) fall on, when all are laid end to end in their order: [n].

        A leaf of priority 0 is never found as long as another has more.
        """
        node = torch.zeros_like(point, dtype=torch.long)
        for level in reversed(self.levels):
            sums = level.view(-1, WIDTH)[node]
            edges = sums.cumsum(1)
            child = torch.searchsorted(edges, point.unsqueeze(1), right=True).clamp_(max=WIDTH - 1)
            # Rounding may put a point at or beyond the last edge, on nothing: the largest child takes it.
            child = torch.where(sums.gather(1, child) > 0, child, sums.argmax(1, keepdim=True))
            before = edges.gather(1, child) - sums.gather(1, child)
            point = (point - before.squeeze(1)).clamp_(min=0)
            node = node * WIDTH + child.squeeze(1)
        return node
