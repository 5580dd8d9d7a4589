"""Distributions of actions, without the checks and wrappers of `torch.distributions`.

Shapes: ``B`` observations, ``A`` action width; everything float32.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
END = 1 - 1e-6
"""From here on an action of the box [-1, 1] is at its end, whatever it was rounded to on its way."""


class Distribution(Protocol):
    """What a policy draws its exploring actions from."""

    @property
    def mode(self) -> Tensor:
        """What it does when it does not explore: [B, A] in [-1, 1], or whole numbers [B]."""

    def draw(self) -> Tensor:
        """Actions of the same shape, which the box [-1, 1] may still clip."""

    def log_density(self, action: Tensor) -> Tensor:
        """Of actions as the box has clipped them: [B, A], one for each dimension; [B] if whole numbers.

        Inside the box it is a density. An end of it holds the probability of all that was clipped to it.
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
        """Density of [B, A] actions, summed over dimensions: [B]."""
        z = (action - self.mean) / self.std
        return (-0.5 * z.square() - self.std.log() - LOG_SQRT_2PI).sum(-1)

    def sample(self, count: int | None = None) -> Tensor:
        """Differentiable actions: [B, A], or [count, B, A] for so many per observation."""
        shape = self.mean.shape if count is None else (count, *self.mean.shape)
        return self.mean + self.std * torch.randn(shape, device=self.mean.device)

    @property
    def mode(self) -> Tensor:
        """The mean, kept in the box."""
        return self.mean.clamp(-1, 1)

    def draw(self) -> Tensor:
        """Actions [B, A]."""
        return self.sample()

    def log_density(self, action: Tensor) -> Tensor:
        """Of each dimension of actions [B, A] in the box."""
        z = (action - self.mean) / self.std
        inside = -0.5 * z.square() - self.std.log() - LOG_SQRT_2PI
        beyond = torch.special.log_ndtr((self.mean * action.sign() - 1) / self.std)
        return torch.where(action.abs() < END, inside, beyond)


class TanhNormal:
    """A diagonal Gaussian squashed by tanh into (-1, 1).

    Args:
        mean: [B, A] before squashing, or [E, B, A] of E policies.
        log_std: The same of log sigma.
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
        raw = action.clamp(-END, END).atanh()
        z = (raw - self.location) * (-self.log_std).exp()
        return (-0.5 * z.square() - self.log_std - LOG_SQRT_2PI).sum(-1) - _log_slope(raw)

    @property
    def mode(self) -> Tensor:
        """The squashed mean."""
        return self.mean

    def draw(self) -> Tensor:
        """Actions [B, A]."""
        return self.sample()[0]

    def log_density(self, action: Tensor) -> Tensor:
        """Of each dimension of actions [B, A], kept away from the ends, which it never reaches."""
        raw = action.clamp(-END, END).atanh()
        z = (raw - self.location) * (-self.log_std).exp()
        return -0.5 * z.square() - self.log_std - LOG_SQRT_2PI - _log_slopes(raw)

    def merged(self) -> "TanhNormal":
        """Of E policies [E, B, A], before squashing, the Gaussian [B, A] with their mixture's moments."""
        variance = (2 * self.log_std).exp().mean(0) + self.location.var(0, correction=0)
        return TanhNormal(self.location.mean(0), (0.5 * variance.log()).clamp(-20, 2))

    def rows(self, start: int, stop: int) -> "TanhNormal":
        """The distribution of some of the observations."""
        return TanhNormal(self.location[..., start:stop, :], self.log_std[..., start:stop, :])


class Categorical:
    """Probabilities of n actions.

    Args:
        logits: [B, n] log probabilities up to a constant.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits, self.log_probs = logits, F.log_softmax(logits, -1)

    @property
    def probs(self) -> Tensor:
        """Their probabilities [B, n]."""
        return self.log_probs.exp()

    @property
    def mode(self) -> Tensor:
        """The most probable actions [B], int64."""
        return self.logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log probabilities [B] of actions [B]."""
        return self.log_probs.gather(-1, action.long().unsqueeze(-1)).squeeze(-1)

    def log_density(self, action: Tensor) -> Tensor:
        """Log probabilities [B] of actions [B]."""
        return self.log_prob(action)

    def expect(self, values: Tensor) -> Tensor:
        """The mean [B] of what [B, n] says of every action."""
        return (self.probs * values).sum(-1)

    def draw(self) -> Tensor:
        """Actions [B], int64."""
        return torch.multinomial(self.probs, 1).squeeze(-1)


def _log_slope(raw: Tensor) -> Tensor:
    """The sum over dimensions of log(1 - tanh(u)^2)."""
    return _log_slopes(raw).sum(-1)


def _log_slopes(raw: Tensor) -> Tensor:
    """log(1 - tanh(u)^2), in the form that does not cancel."""
    return 2 * (math.log(2) - raw - F.softplus(-2 * raw))


def gaussian_around(action: Tensor, sigma: float) -> Normal | None:
    """Actions [B, A] with Gaussian noise; None if there is none."""
    return Normal(action, torch.full_like(action, sigma)) if sigma > 0 else None
