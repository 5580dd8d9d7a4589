"""Clip the gradients of one update as its recipe says, and make the steps of the optimisers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from off2on.rllib.flat_parameters import FlatParameters


class GradientSteps:
    """Makes the steps of an update's objectives, each right after its gradient.

    If the recipe limits the norm of all gradients together, all steps wait for the last gradient.

    Args:
        recipe: The algorithm.
        hp: Its hyperparameters.
        flat: The parameters of each network, by name.
        step: Function that makes a step of the optimiser of an objective, by its name.
        learners: Number S of learners whose networks are stacked; each is clipped by itself.
    """

    def __init__(
        self,
        recipe: Any,
        hp: Any,
        flat: Mapping[str, FlatParameters],
        step: Callable[[str], None],
        learners: int = 1,
    ) -> None:
        self.recipe, self.hp, self.flat, self.step, self.learners = recipe, hp, flat, step, learners
        self.limit: float | None = recipe.max_joint_gradient_norm(hp)
        self.waiting: list[str] = []

    def add(self, name: str) -> None:
        """Use the gradient of an objective, which is in its vector."""
        clip_norm([self.flat[name]], self.recipe.max_gradient_norm(name, self.hp), self.learners)
        if self.limit is None:
            self.step(name)
        else:
            self.waiting.append(name)

    def finish(self) -> None:
        """Make the steps that wait; called after the last gradient."""
        if self.waiting:
            clip_norm([self.flat[name] for name in self.waiting], self.limit, self.learners)
        for name in self.waiting:
            self.step(name)


@torch.no_grad()
def clip_norm(networks: Sequence[FlatParameters], limit: float | None, learners: int = 1) -> None:
    """Scale the gradients of networks, taken together as one vector, to a norm of at most a limit.

    Args:
        networks: The networks, with gradients.
        limit: Largest norm; None: nothing is done.
        learners: Number S of learners in each network's vector, whose parameters are [S, …]; each learner's
            gradients are scaled by themselves.
    """
    if limit is None:
        return
    _scale([block for flat in networks for block in _blocks(flat, learners)], limit)


@torch.no_grad()
def clip_stacked(flat: FlatParameters, limit: float, by: str, learners: int) -> None:
    """Clip the gradient of stacked learners as `FlatParameters.clip_gradient` does, each by itself.

    Args:
        flat: The parameters [S, …] of all learners, with a gradient.
        limit: Largest absolute value or norm.
        by: ``value`` of each number, ``norm`` of each parameter, or ``global_norm`` of a learner's vector.
        learners: Number S of learners.
    """
    blocks = _blocks(flat, learners)
    if by == "value":
        flat.clip_gradient(limit, by)
    elif by == "norm":
        for block in blocks:
            _scale([block], limit)
    else:
        _scale(blocks, limit)


def _blocks(flat: FlatParameters, learners: int) -> list[Tensor]:
    """Return views [S, n] of the parts of a gradient: one for each parameter, or one of all with S = 1."""
    gradient = flat.vector.grad
    assert gradient is not None
    sizes = [parameter.numel() for parameter in flat.parameters] if learners > 1 else [gradient.numel()]
    return [part.view(learners, -1) for part in torch.split(gradient, sizes)]


def _scale(blocks: Sequence[Tensor], limit: float) -> None:
    """Scale each learner's part of blocks [S, n], taken together, to a norm of at most a limit."""
    norm = torch.stack([block.norm(dim=1) for block in blocks]).norm(dim=0)
    factor = (limit / (norm + 1e-6)).clamp(max=1.0).unsqueeze(1)
    for block in blocks:
        block.mul_(factor)
