"""Action distributions, without the checks and wrappers of `torch.distributions`.

Shapes: ``B`` observations, ``A`` action width; everything float32.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
END = 1 - 1e-6
"""Absolute value from which on an action is taken to be at an end of the box [-1, 1], despite rounding."""


class Distribution(Protocol):
    """Distribution of the exploring actions of a policy."""

    @property
    def mode(self) -> Tensor:
        """Return the actions without exploration: [B, A] in [-1, 1], or integers [B]."""

    def draw(self) -> Tensor:
        """Draw actions of the same shape, not yet clipped to the box [-1, 1]."""

    def log_density(self, action: Tensor) -> Tensor:
        """Return the log density of clipped actions: [B, A], one for each dimension; [B] if discrete.

        Inside the box it is a density. At an end of the box it is the log probability of being clipped to it.
        """


class Normal:
    """A diagonal Gaussian over actions, without the checks of `torch.distributions`.

    Args:
        mean: [B, A].
        std: [A] or [B, A], positive.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log density [B] of actions [B, A], summed over dimensions."""
        z = (action - self.mean) / self.std
        return (-0.5 * z.square() - self.std.log() - LOG_SQRT_2PI).sum(-1)

    def sample(self, count: int | None = None) -> Tensor:
        """Draw differentiable actions: [B, A], or [count, B, A] for `count` per observation."""
        shape = self.mean.shape if count is None else (count, *self.mean.shape)
        return self.mean + self.std * torch.randn(shape, device=self.mean.device)

    @property
    def mode(self) -> Tensor:
        """The mean, clipped to the box."""
        return self.mean.clamp(-1, 1)

    def draw(self) -> Tensor:
        """Draw actions [B, A]."""
        return self.sample()

    def log_density(self, action: Tensor) -> Tensor:
        """Return the log density of each dimension of actions [B, A] in the box."""
        z = (action - self.mean) / self.std
        inside = -0.5 * z.square() - self.std.log() - LOG_SQRT_2PI
        beyond = torch.special.log_ndtr((self.mean * action.sign() - 1) / self.std)
        return torch.where(action.abs() < END, inside, beyond)


class TanhNormal:
    """A diagonal Gaussian squashed by tanh into (-1, 1).

    Args:
        mean: Mean before squashing: [B, A], or [E, B, A] of E policies.
        log_std: Log sigma before squashing, of the same shape.
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.location, self.log_std = mean, log_std

    @property
    def mean(self) -> Tensor:
        """The squashed mean [B, A], the action without exploration."""
        return self.location.tanh()

    def sample(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """Draw differentiable actions and compute their log densities.

        Args:
            count: Number of actions per observation; None for one, without the leading dimension.

        Returns:
            Actions [B, A] or [count, B, A], log densities [B] or [count, B].
        """
        shape = self.location.shape if count is None else (count, *self.location.shape)
        noise = torch.randn(shape, device=self.location.device)
        raw = self.location + self.log_std.exp() * noise
        log_prob = (-0.5 * noise.square() - self.log_std - LOG_SQRT_2PI).sum(-1) - _log_slope(raw)
        return raw.tanh(), log_prob

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log density [B] of actions [B, A], clamped away from the ends where it is infinite."""
        raw = action.clamp(-END, END).atanh()
        z = (raw - self.location) * (-self.log_std).exp()
        return (-0.5 * z.square() - self.log_std - LOG_SQRT_2PI).sum(-1) - _log_slope(raw)

    @property
    def mode(self) -> Tensor:
        """The squashed mean."""
        return self.mean

    def draw(self) -> Tensor:
        """Draw the actions [B, A] that `sample` draws, without their densities."""
        noise = torch.randn(self.location.shape, device=self.location.device)
        return (self.location + self.log_std.exp() * noise).tanh()

    def log_density(self, action: Tensor) -> Tensor:
        """Return the log density of each dimension of actions [B, A], clamped away from the ends."""
        raw = action.clamp(-END, END).atanh()
        z = (raw - self.location) * (-self.log_std).exp()
        return -0.5 * z.square() - self.log_std - LOG_SQRT_2PI - _log_slopes(raw)

    def merged(self) -> "TanhNormal":
        """Merge E policies [E, B, A] into one [B, A] with the moments of their mixture before squashing."""
        variance = (2 * self.log_std).exp().mean(0) + self.location.var(0, correction=0)
        return TanhNormal(self.location.mean(0), (0.5 * variance.log()).clamp(-20, 2))

    def rows(self, start: int, stop: int) -> "TanhNormal":
        """Return the distribution of the observations `start` to `stop` - 1."""
        return TanhNormal(self.location[..., start:stop, :], self.log_std[..., start:stop, :])


def draw_proposals(here: TanhNormal, there: TanhNormal, count: int) -> tuple[Tensor, Tensor]:
    """Draw actions [3 count, B, A] with their log densities: uniform ones, from pi(s), and from pi(s')."""
    uniform = here.location.new_empty(count, *here.location.shape).uniform_(-1, 1)
    density = uniform.new_full(uniform.shape[:-1], uniform.shape[-1] * math.log(0.5))
    actions, densities = zip((uniform, density), here.sample(count), there.sample(count), strict=True)
    return torch.cat(actions), torch.cat(densities)


class Categorical:
    """Distribution over n discrete actions.

    Args:
        logits: [B, n] log probabilities up to a constant.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits, self.log_probs = logits, F.log_softmax(logits, -1)

    @property
    def probs(self) -> Tensor:
        """Probabilities [B, n]."""
        return self.log_probs.exp()

    @property
    def mode(self) -> Tensor:
        """The most probable actions [B], int64."""
        return self.logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log probabilities [B] of actions [B]."""
        return self.log_probs.gather(-1, action.long().unsqueeze(-1)).squeeze(-1)

    def log_density(self, action: Tensor) -> Tensor:
        """Return the log probabilities [B] of actions [B]."""
        return self.log_prob(action)

    def expect(self, values: Tensor) -> Tensor:
        """Return the expectation [B] of the values [B, n] of all actions."""
        return (self.probs * values).sum(-1)

    def draw(self) -> Tensor:
        """Draw actions [B], int64."""
        return torch.multinomial(self.probs, 1).squeeze(-1)


def _log_slope(raw: Tensor) -> Tensor:
    """Return log(1 - tanh(u)^2), summed over dimensions."""
    return _log_slopes(raw).sum(-1)


def _log_slopes(raw: Tensor) -> Tensor:
    """Return log(1 - tanh(u)^2), in a form without cancellation."""
    return 2 * (math.log(2) - raw - F.softplus(-2 * raw))


def gaussian_around(action: Tensor, sigma: float) -> Normal | None:
    """Return the distribution of actions [B, A] with Gaussian noise; None if `sigma` is 0."""
    return Normal(action, torch.full_like(action, sigma)) if sigma > 0 else None
