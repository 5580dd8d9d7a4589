"""Take the random draws out of a traced update, so that they are made before it, in the same order."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten
DIRECT = {
    aten.randn.default,
    aten.rand.default,
    aten.randint.default,
    aten.randint.low,
    aten.randperm.default,
}
"""Draws whose arguments are the same in every update."""
LIKE: dict[Any, Callable[..., Tensor]] = {
    aten.randn_like.default: Tensor.normal_,
    aten.rand_like.default: Tensor.uniform_,
}
"""Draws with the shape of another tensor → the same draws into a new tensor."""
FILL: dict[Any, Callable[..., Tensor]] = {
    aten.normal_.default: Tensor.normal_,
    aten.uniform_.default: Tensor.uniform_,
    aten.exponential_.default: Tensor.exponential_,
    aten.bernoulli_.float: Tensor.bernoulli_,
}
"""Draws into an existing tensor → the same draws into a new tensor."""


def lift_draws(traced: fx.Graph) -> tuple[fx.Graph, list[Callable[[], Tensor]]] | None:
    """Copy a graph, and replace its draws by new inputs after the others.

    Returns:
        The copy, and functions that make the draws, in order; None if a draw depends on a tensor's value.
    """
    graph = copy.deepcopy(traced)
    draws: list[Callable[[], Tensor]] = []
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


def _draw_of(node: fx.Node) -> Callable[[], Tensor] | None:
    target, args = node.target, node.args
    if target in DIRECT and not node.all_input_nodes:
        return lambda: target(*args, **node.kwargs)
    fill = LIKE.get(target) or FILL.get(target)
    if fill is None or len(node.all_input_nodes) != 1:
        return None
    value, rest = node.meta["val"], () if target in LIKE else args[1:]
    size, stride, dtype, device = value.shape, value.stride(), value.dtype, value.device

    def draw() -> Tensor:
        return fill(torch.empty_strided(size, stride, dtype=dtype, device=device), *rest)

    return draw


def make_draws(draws: Sequence[Callable[[], Tensor]]) -> list[Tensor]:
    """Make the draws in order."""
    return [draw() for draw in draws]
