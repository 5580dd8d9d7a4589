"""Distributions of actions, without the checks and wrappers of `torch.distributions`.

Shapes: ``B`` observations, ``A`` action width; everything float32.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


class Normal:
    """A diagonal Gaussian over actions, without the checks of `torch.distributions`.

    Args:
        mean: [B, A].
        std: [A] or [B, A], positive.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std

    def log_prob(self, action: Tensor) -> Tensor:
        """Density of [B, A] actions, summed over dimensions: [B]."""
        z = (action - self.mean) / self.std
        return (-0.5 * z.square() - self.std.log() - LOG_SQRT_2PI).sum(-1)

    def sample(self) -> Tensor:
        """Differentiable [B, A] actions."""
        return self.mean + self.std * torch.randn_like(self.mean)


class TanhNormal:
    """A diagonal Gaussian squashed by tanh into (-1, 1).

    Args:
        mean: [B, A] before squashing.
        log_std: [B, A] before squashing.
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.location, self.log_std = mean, log_std

    @property
    def mean(self) -> Tensor:
        """The squashed mean [B, A], which is what acts when nothing is explored."""
        return self.location.tanh()

    def sample(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Differentiable actions and their log densities.

        Args:
            count: How many per observation; None for one, without the leading dimension.

        Returns:
            Actions [B, A] or [count, B, A], log densities [B] or [count, B].
        """
        shape = self.location.shape if count is None else (count, *self.location.shape)
        noise = torch.randn(shape, device=self.location.device)
        raw = self.location + self.log_std.exp() * noise
        log_prob = (-0.5 * noise.square() - self.log_std - LOG_SQRT_2PI).sum(-1) - _log_slope(raw)
        return raw.tanh(), log_prob

    def log_prob(self, action: Tensor) -> Tensor:
        """Density [B] of given [B, A] actions, kept away from the ends where it is infinite."""
        raw = action.clamp(-1 + 1e-6, 1 - 1e-6).atanh()
        z = (raw - self.location) * (-self.log_std).exp()
        return (-0.5 * z.square() - self.log_std - LOG_SQRT_2PI).sum(-1) - _log_slope(raw)

    def rows(self, start: int, stop: int) -> "TanhNormal":
        """The distribution of some of the observations."""
        return TanhNormal(self.location[start:stop], self.log_std[start:stop])


def _log_slope(raw: Tensor) -> Tensor:
    """The sum over dimensions of log(1 - tanh(u)^2), in the form that does not cancel."""
    return (2 * (math.log(2) - raw - F.softplus(-2 * raw))).sum(-1)
