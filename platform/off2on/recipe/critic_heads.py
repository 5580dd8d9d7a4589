"""Critic heads: what a critic puts out for a value, and the error that it learns by.

A critic without a head puts out the value itself, and learns by the squared error. With a head it has M
outputs for each value, of which the value is the mean:

    hl_gauss   a histogram of M bins over [v_min, v_max]; cross-entropy against a Gaussian around the target
               value (Farebrother et al., "Stop Regressing", ICML 2024, arXiv:2403.03950)
    quantile   M quantiles of the return; quantile Huber loss (Dabney et al., "Distributional Reinforcement
               Learning with Quantile Regression", AAAI 2018, arXiv:1710.10044)
    c51        probabilities of M returns from v_min to v_max; cross-entropy against the projected target
               (Bellemare et al., "A Distributional Perspective on Reinforcement Learning", ICML 2017,
               arXiv:1707.06887)

`quantile` and `c51` learn the distribution of the return. Their target is a `ReturnDistribution` where it is
made from the target critics, and a number where it is made from another network (the V of IQL). Of several
critics, the minimum is the distribution of the smallest mean, for each transition; the mean is the mixture.

Shapes: ``B`` transitions, ``E`` members, ``M`` outputs of a value, ``N`` returns of a target, always last.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from off2on.recipe.hyperparameters import Hyperparameters, Rule, hp
from off2on.recipe.return_distribution import ReturnDistribution, select_action


@dataclass(frozen=True)
class HLGauss:
    """A histogram of the value, learned by cross-entropy.

    Attributes:
        outputs: Number of bins M.
        low: Lower end of the first bin.
        high: Upper end of the last bin.
    """

    outputs: int
    low: float
    high: float

    @property
    def width(self) -> float:
        """Return the width of a bin."""
        return (self.high - self.low) / self.outputs

    def value(self, logits: Tensor) -> Tensor:
        """Compute the means [...] of histograms with logits [..., M]."""
        half = self.width / 2
        centres = _points(self.low + half, self.high - half, self.outputs, logits)
        return (logits.softmax(-1) * centres).sum(-1)

    def future(self, logits: Tensor) -> Tensor:
        """Return what targets are made of: the values [...]."""
        return self.value(logits)

    def error(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the cross-entropy [E, B] of logits [E, B, M] to the histograms of targets [B] or [E, B]."""
        return _cross_entropy(logits, self.histogram(target))

    def histogram(self, value: Tensor) -> Tensor:
        """Return the probabilities [..., M] of Gaussians around values [...], cut off at both ends.

        The standard deviation is 0.75 bins. A value outside the range is moved to its end first.
        """
        value = value.clamp(self.low, self.high).unsqueeze(-1)
        edges = _points(self.low, self.high, self.outputs + 1, value)
        below = torch.erf((edges - value) / (math.sqrt(2) * 0.75 * self.width))
        return (below[..., 1:] - below[..., :-1]) / (below[..., -1:] - below[..., :1])


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of the return at the levels (2 i - 1) / (2 M), i = 1 … M.

    Attributes:
        outputs: Number of quantiles M.
    """

    outputs: int

    def value(self, quantiles: Tensor) -> Tensor:
        """Compute the means [...] of quantiles [..., M]."""
        return quantiles.mean(-1)

    def future(self, quantiles: Tensor) -> ReturnDistribution:
        """Return what targets are made of: the distributions, with equal probabilities."""
        return ReturnDistribution(quantiles, torch.full_like(quantiles, 1 / self.outputs))

    def error(self, quantiles: Tensor, target: Tensor | ReturnDistribution) -> Tensor:
        """Compute the quantile Huber loss [E, B] of quantiles [E, B, M]: the sum over them, as in the paper.

        The bound of Huber's error is 1.
        """
        target = _distribution(target)
        gap = target.returns.unsqueeze(-2) - quantiles.unsqueeze(-1)
        size = gap.abs()
        huber = torch.where(size <= 1, 0.5 * gap.square(), size - 0.5)
        end = 0.5 / self.outputs
        level = _points(end, 1 - end, self.outputs, quantiles).unsqueeze(-1)
        weight = torch.where(gap < 0, 1 - level, level)
        return (weight * huber * target.probabilities.unsqueeze(-2)).sum((-2, -1))


@dataclass(frozen=True)
class C51:
    """Probabilities of fixed returns, the atoms.

    Attributes:
        outputs: Number of atoms M, at equal distances.
        low: Smallest atom.
        high: Largest atom.
    """

    outputs: int
    low: float
    high: float

    def value(self, logits: Tensor) -> Tensor:
        """Compute the means [...] of distributions with logits [..., M]."""
        return (logits.softmax(-1) * _points(self.low, self.high, self.outputs, logits)).sum(-1)

    def future(self, logits: Tensor) -> ReturnDistribution:
        """Return what targets are made of: the distributions."""
        atoms = _points(self.low, self.high, self.outputs, logits)
        return ReturnDistribution(atoms.expand_as(logits), logits.softmax(-1))

    def error(self, logits: Tensor, target: Tensor | ReturnDistribution) -> Tensor:
        """Compute the cross-entropy [E, B] of logits [E, B, M] to the projected targets."""
        return _cross_entropy(logits, self.project(_distribution(target)))

    def project(self, target: ReturnDistribution) -> Tensor:
        """Divide the probability of each return between its two neighbouring atoms: [..., M].

        The nearer one gets more, so that the mean stays. A return outside the range is moved to its end.
        """
        atoms = _points(self.low, self.high, self.outputs, target.returns).unsqueeze(-1)
        distance = (target.returns.clamp(self.low, self.high).unsqueeze(-2) - atoms).abs()
        share = (1 - distance * ((self.outputs - 1) / (self.high - self.low))).clamp(min=0)
        return (share * target.probabilities.unsqueeze(-2)).sum(-1)


Head = HLGauss | Quantiles | C51


@dataclass(frozen=True)
class Prediction:
    """Outputs of a critic with a head, for `off2on.recipe.losses.td`.

    Attributes:
        outputs: Outputs [E, …, M].
        head: The head.
    """

    outputs: Tensor
    head: Head

    @property
    def value(self) -> Tensor:
        """Return the values [E, …]."""
        return self.head.value(self.outputs)

    @property
    def shape(self) -> torch.Size:
        """Return the shape of the values."""
        return self.outputs.shape[:-1]

    def __getitem__(self, index: Any) -> Self:
        return type(self)(self.outputs[index], self.head)

    def detach(self) -> Tensor:
        """Return the values without gradient."""
        return self.value.detach()

    def at_action(self, action: Tensor) -> Self:
        """Select the outputs [E, B, M] of discrete actions [B], of those [E, B, n, M] of all actions."""
        return type(self)(select_action(self.outputs, action), self.head)

    def error(self, target: Tensor | ReturnDistribution) -> Tensor:
        """Compute the head's error [E, B] against targets [B] or [E, B]."""
        return self.head.error(self.outputs, target)  # type: ignore[arg-type]


def values_of(q: Tensor | Prediction | ReturnDistribution) -> Tensor:
    """Return the values, whether a critic has a head or not."""
    return q if isinstance(q, Tensor) else q.value


HEADS: dict[str, Callable[[Any], Head | None]] = {
    "plain": lambda hp: None,
    "hl_gauss": lambda hp: HLGauss(hp.atoms, hp.v_min, hp.v_max),
    "quantile": lambda hp: Quantiles(hp.atoms),
    "c51": lambda hp: C51(hp.atoms, hp.v_min, hp.v_max),
}
"""The head of hyperparameters by its name."""

VALUE_HEADS = ("plain", "hl_gauss")
"""Heads that learn from target values, for algorithms whose targets are no distributions."""

RANGED_HEADS = ("hl_gauss", "c51")
"""Heads that need a range of values."""

CRITIC_HEAD = (
    "what the critics learn: the value; a histogram of it by cross-entropy; quantiles of the return; "
    "probabilities of fixed returns"
)


@dataclass(frozen=True)
class CriticHeadHyperparameters(Hyperparameters):
    """Hyperparameters of algorithms whose critics may have a head."""

    critic_head: str = hp("plain", CRITIC_HEAD, choices=tuple(HEADS), built=True)
    atoms: int = hp(101, "bins, quantiles or atoms of a head", least=2, built=True)
    v_min: float | None = hp(
        None,
        "smallest value of hl_gauss and c51; none: smallest reward of the data / (1 - gamma)",
        built=True,
    )
    v_max: float | None = hp(
        None, "largest value of hl_gauss and c51; none: largest reward of the data / (1 - gamma)", built=True
    )

    @classmethod
    def rules(cls) -> dict[str, Rule]:
        """Return the rules by name: the algorithm's own, the head's, those of every algorithm."""
        shared = {field.name for field in fields(Hyperparameters)}
        heads = {field.name for field in fields(CriticHeadHyperparameters)} - shared
        return dict(sorted(super().rules().items(), key=lambda item: (item[0] in shared, item[0] in heads)))


def head_of(hp: Any) -> Head | None:
    """Return the head that the hyperparameters select; None: the value itself, also if they have none."""
    return HEADS[getattr(hp, "critic_head", "plain")](hp)


def _points(first: float, last: float, count: int, like: Tensor) -> Tensor:
    """Return numbers [count] at equal distances."""
    return torch.linspace(first, last, count, dtype=like.dtype, device=like.device)


def _cross_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    return -(probabilities * F.log_softmax(logits, -1)).sum(-1)


def _distribution(target: Tensor | ReturnDistribution) -> ReturnDistribution:
    """Return the target as a distribution, a value as a single return."""
    if isinstance(target, ReturnDistribution):
        return target
    return ReturnDistribution(target.unsqueeze(-1), torch.ones_like(target).unsqueeze(-1))
