"""Take the random draws out of a traced update, so that they are made before it, in the same order."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten
DIRECT: dict[Any, Callable[..., object]] = {
    aten.randn.default: lambda tensor, size: tensor.normal_(),
    aten.rand.default: lambda tensor, size: tensor.uniform_(),
    aten.randint.default: lambda tensor, stop, size: tensor.random_(0, stop),
    aten.randint.low: lambda tensor, start, stop, size: tensor.random_(start, stop),
    aten.randperm.default: lambda tensor, count: torch.randperm(count, out=tensor),
}
"""Draws whose arguments are the same in every update → the same draws into a tensor."""
LIKE: dict[Any, Callable[..., object]] = {
    aten.randn_like.default: Tensor.normal_,
    aten.rand_like.default: Tensor.uniform_,
}
"""Draws with the shape of another tensor → the same draws into a tensor."""
FILL: dict[Any, Callable[..., object]] = {
    aten.normal_.default: Tensor.normal_,
    aten.uniform_.default: Tensor.uniform_,
    aten.exponential_.default: Tensor.exponential_,
    aten.bernoulli_.float: Tensor.bernoulli_,
}
"""Draws into an existing tensor → the same draws into another tensor."""


@dataclass(frozen=True)
class Draw:
    """A random draw, which can be repeated.

    Attributes:
        like: Tensor without values, whose size, strides, dtype and device the drawn tensor has.
        fill: Function that draws into a tensor.
    """

    like: Tensor
    fill: Callable[[Tensor], object]

    def new(self) -> Tensor:
        """Draw into a new tensor."""
        tensor = empty_of(self.like)
        self.fill(tensor)
        return tensor


def empty_of(like: Tensor) -> Tensor:
    """Return a tensor with undefined values, and the size, strides, dtype and device of another."""
    return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=like.device)


def lift_draws(traced: fx.Graph) -> tuple[fx.Graph, list[Draw]] | None:
    """Copy a graph, and replace its draws by new inputs after the others.

    Returns:
        The copy, and the draws in order; None if a draw depends on a tensor's value.
    """
    graph = copy.deepcopy(traced)
    draws: list[Draw] = []
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    for node in [node for node in graph.nodes if is_draw(node)]:
        draw = _draw_of(node)
        if draw is None:
            return None
        draws.append(draw)
        with graph.inserting_after(last):
            last = graph.placeholder(f"draw_{len(draws)}")
        last.meta["val"] = node.meta["val"]
        if node.target in FILL:  # users of the filled tensor must see the draw
            node.args[0].replace_all_uses_with(last, delete_user_cb=lambda user, own=node: user is not own)
        node.replace_all_uses_with(last)
        graph.erase_node(node)
    return graph, draws


def is_draw(node: fx.Node) -> bool:
    """Return True if a node of a traced graph draws random numbers."""
    tags = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded in tags


def _draw_of(node: fx.Node) -> Draw | None:
    target, args = node.target, node.args
    if target in DIRECT and not node.all_input_nodes:
        fill, rest = DIRECT[target], args
    elif (target in LIKE or target in FILL) and len(node.all_input_nodes) == 1:
        fill, rest = (LIKE[target], ()) if target in LIKE else (FILL[target], args[1:])
    else:
        return None
    return Draw(node.meta["val"], lambda tensor: fill(tensor, *rest))


def make_draws(draws: Sequence[Draw]) -> list[Tensor]:
    """Make the draws in order, into new tensors."""
    return [draw.new() for draw in draws]
