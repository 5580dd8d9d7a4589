"""Flow policies: actions as the end of a path that starts at Gaussian noise.

A field v(s, x, t) is the velocity of a point x at time t; the path from noise at t = 0 to t = 1 ends at an
action. The field is trained by flow matching, Lipman et al., "Flow Matching for Generative Modeling",
ICLR 2023, arXiv:2210.02747, with straight paths between noise and data.

Shapes: ``B`` observations, ``D`` observation width, ``A`` action width, ``n`` samples per observation (before
``B``). Actions live in [-1, 1].
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from off2on.recipe.networks import MLP, Critic, concatenate, glorot

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A velocity v(s, x, t) at points x and times t, such as a `Field`."""


class _NoiseNetwork(nn.Module):
    """A network from observations and noise to actions: GELU layers, Glorot's weights.

    Args:
        obs: Observation width D.
        action: Action width A.
        hidden: Widths of the hidden layers.
    """

    more_inputs = 0
    """Number of inputs besides observation and noise."""

    def __init__(self, obs: int, action: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.width = action
        self.mlp = MLP((obs + action + self.more_inputs, *hidden, action), "gelu")
        glorot(self)


class Field(_NoiseNetwork):
    """A velocity v(s, x, t) of actions."""

    more_inputs = 1

    def forward(self, obs: Tensor, point: Tensor, time: Tensor) -> Tensor:
        """Return the velocity at points [B, A] or [n, B, A], at times of the same shape with width 1."""
        return self.mlp(concatenate(obs, torch.cat((point, time), -1)))  # type: ignore[no-any-return]


class NoiseActor(_NoiseNetwork):
    """A policy in one step a = f(s, z) from noise z."""

    def forward(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Map observations [B, D] and noise [B, A] to actions [B, A], which may be outside the box."""
        return self.mlp(concatenate(obs, noise))  # type: ignore[no-any-return]


class NoiseCritic(Critic):
    """An ensemble of values Q_i(s, a, z) of actions and noise z of the same width.

    The arguments are those of `Critic`.
    """

    def __init__(self, obs: int, action: int, hidden: Sequence[int], **more: Any) -> None:
        super().__init__(obs, 2 * action, hidden, **more)

    def forward(self, obs: Tensor, action: Tensor, noise: Tensor | None = None) -> Tensor:
        """Compute the values, see `Critic.forward`, with noise of the shape of the actions; None: noise 0."""
        noise = torch.zeros_like(action) if noise is None else noise
        return super().forward(obs, torch.cat((action, noise), -1))


def fixed_noise(count: int, width: int) -> Tensor:
    """Return noise [n, 1, A] for the deterministic action, of which the first is 0.

    Of one action it is 0: any other fixed noise would shift all actions to the same side.
    """
    noise = torch.randn(count, 1, width)
    noise[0] = 0
    return noise


def euler(field: Velocity, obs: Tensor, noise: Tensor, steps: int) -> Tensor:
    """Follow the field from noise to actions by Euler's method, and clip them to [-1, 1] at the end.

    Args:
        field: The field.
        obs: Observations [B, D].
        noise: Starting points [B, A] or [n, B, A].
        steps: Number of steps.
    """
    point = noise
    for step in range(steps):
        time = torch.full_like(point[..., :1], step / steps)
        point = point + field(obs, point, time) / steps
    return point.clamp(-1, 1)


def flow_matching(
    field: Velocity, obs: Tensor, action: Tensor, noise: Tensor, time: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Compute the error of the velocity on the straight paths from noise to the data's actions, averaged.

    L = E[ |v(s, (1 - t) z + t a, t) - (a - z)|^2 ], arXiv:2210.02747, equation 23 without the smallest sigma;
    the square is a mean over action dimensions.

    Args:
        field: The field.
        obs: Observations [B, D].
        action: Actions [B, A] of the data.
        noise: Starting points z [B, A], from N(0, 1).
        time: Times t [B, 1], uniform in [0, 1].
        weight: Weights of the squares [B, A]; None: all 1.
    """
    point = torch.lerp(noise, action, time)
    error = (field(obs, point, time) - (action - noise)).square()
    return (error if weight is None else weight * error).mean()


def anchor(field: Velocity, obs: Tensor, action: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """Return how far [B, A] the straight path from noise to actions is from the field at one point of it.

    d = a - z - v(s, (1 - t) z + t a, t): flow anchoring, Lee et al., ICML 2026, arXiv:2605.01663.

    Args:
        field: The field.
        obs: Observations [B, D].
        action: Actions [B, A].
        noise: Starting points z [B, A].
        time: Times t [B, 1].
    """
    return action - noise - field(obs, torch.lerp(noise, action, time), time)
