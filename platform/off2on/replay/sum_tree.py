"""Draw in proportion to priorities that change with every batch: a sum tree.

Nodes have many children, so that a batch of draws or changes is a few tensor operations per level, and three
or four levels suffice for tens of millions of leaves. The sum of a node is always computed from its children,
never adjusted by a difference: after any number of changes the tree equals, bit for bit, one built from its
leaves.
"""

import torch
from torch import Tensor

WIDTH = 64
"""Number of children of a node."""


class SumTree:
    """Priorities of a fixed number of leaves, initially 0.

    Args:
        leaves: Number of leaves.
        device: Device of the tensors.
    """

    def __init__(self, leaves: int, device: torch.device | None = None) -> None:
        self.leaves = leaves
        self.levels: list[Tensor] = []
        """Sums [nodes × WIDTH] per level, leaves first; float32 would lose a small leaf among a million."""
        size = max(leaves, 1)
        while not self.levels or size > 1:
            size = -(-size // WIDTH)
            self.levels.append(torch.zeros(size * WIDTH, dtype=torch.float64, device=device))

    @property
    def priority(self) -> Tensor:
        """Priorities of the leaves [leaves], float64; read only."""
        return self.levels[0][: self.leaves]

    @property
    def total(self) -> Tensor:
        """Sum of all priorities, a scalar tensor."""
        return self.levels[-1].sum()

    def set(self, position: Tensor, priority: Tensor | float) -> None:
        """Set the priorities at positions [n] to [n] values, or all to one value.

        If a position is given twice, one of its values is used.
        """
        self.levels[0][position] = (
            priority.to(self.levels[0]) if isinstance(priority, Tensor) else float(priority)
        )
        for below, above in zip(self.levels, self.levels[1:], strict=False):
            # Adjacent leaves, as in rows of a stream, have the same parent, which is summed only once.
            position = torch.unique_consecutive(position // WIDTH)
            above[position] = below.view(-1, WIDTH)[position].sum(1)

    def fill(self, priority: Tensor) -> None:
        """Set the first n priorities to these [n], and the others to 0."""
        self.levels[0].zero_()
        self.levels[0][: len(priority)] = priority
        for below, above in zip(self.levels, self.levels[1:], strict=False):
            above[: len(below) // WIDTH] = below.view(-1, WIDTH).sum(1)

    def find(self, point: Tensor) -> Tensor:
        """Return the leaves [n] whose intervals of cumulative priority contain points [n] in [0, total).

        A leaf of priority 0 is found only if all are 0.
        """
        node = torch.zeros_like(point, dtype=torch.long)
        for level in reversed(self.levels):
            sums = level.view(-1, WIDTH)[node]
            edges = sums.cumsum(1)
            child = torch.searchsorted(edges, point.unsqueeze(1), right=True).clamp_(max=WIDTH - 1)
            # Rounding may place a point at or beyond the last edge: the largest child is used.
            child = torch.where(sums.gather(1, child) > 0, child, sums.argmax(1, keepdim=True))
            before = edges.gather(1, child) - sums.gather(1, child)
            point = (point - before.squeeze(1)).clamp_(min=0)
            node = node * WIDTH + child.squeeze(1)
        return node
