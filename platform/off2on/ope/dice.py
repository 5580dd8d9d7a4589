"""DICE: how much oftener the policy would visit each recorded step, without anybody's action probabilities.

Paper: Yang, Nachum, Dai, Li & Schuurmans, "Off-Policy Evaluation via the Regularized Lagrangian", NeurIPS
2020, arXiv:2007.03438; of its choices those it finds best: the dual estimate, a dual regulariser, the reward
in the Lagrangian, zeta >= 0 (a square) and a normalisation:

    min_{nu, lambda} max_{zeta >= 0}
    L   = (1 - gamma) E_{s0, a0~pi} nu(s0, a0) + lambda
          + E_D[zeta(s, a) (r + gamma (1 - d) nu(s', a') - nu(s, a) - lambda c)] - alpha E_D[zeta^2 / 2]
    J   = E_D[zeta r] / ((1 - gamma) E_D[zeta c]),    a' ~ pi(s'),  d = terminated

At the saddle zeta is the ratio of the policy's discounted visits to the data's, whatever alpha is. The
paper's worlds have no end and c = 1. A task that terminates spends the rest in a state of its own, without
reward; the visits there are gamma / (1 - gamma) for every visit that terminates, hence
c = 1 + d gamma / (1 - gamma), and no such state has to be made up. E_D[zeta c] is 1 at the saddle; J is
divided by it, unlike in the paper, so that what is left of that constraint costs nothing. J is the discounted
return without an end: a time limit ends the recording, not the task. An ensemble over resampled episodes, as
in FQE. The two sides circle around the saddle, so that zeta is the mean over the second half of the updates,
which the paper's code does not take. Rewards are divided by their spread, and the estimate multiplied by
it again.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from off2on.ope.candidates import ROWS, Candidate
from off2on.ope.fitting import Fitting
from off2on.ope.fqe import Inputs, bootstrap
from off2on.ope.recorded import Array, Recorded

LOOKS = 50
"""Moments of the second half of the updates over which zeta is averaged."""


@dataclass(frozen=True)
class Budget(Fitting):
    """How long the networks are fitted, and how large they are; see `Fitting`.

    Attributes:
        alpha: Weight of the dual regulariser.
    """

    hidden: tuple[int, ...] = (64, 64)
    batch_size: int = 512
    alpha: float = 1.0


@dataclass(frozen=True, eq=False)
class Ratios:
    """The ratios of visits, and what became of the estimate while they were fitted.

    Attributes:
        zeta: Of every recorded step, the mean over the members [N].
        members: Each member's estimate [M], in the world's units.
        history: The mean over the members as more is averaged [LOOKS].
        mass: E_D[zeta c], 1 at the saddle.
        unbalanced: What of the observations' moments comes from nowhere for each episode that begins, in
            standard deviations; 0 at the saddle.
    """

    zeta: Array
    members: Array
    history: Array
    mass: float
    unbalanced: float


def fit(data: Recorded, policy: Candidate, discount: float, budget: Budget, seed: int = 0) -> Ratios:
    """Fit the ratios of a policy's visits to the data's.

    Args:
        data: What was recorded.
        policy: What is judged.
        discount: Gamma, below 1.
        budget: How long, and how large.
        seed: Of all draws.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _fit(data, policy, discount, budget, torch.Generator().manual_seed(seed))


def _fit(
    data: Recorded, policy: Candidate, discount: float, budget: Budget, generator: torch.Generator
) -> Ratios:
    inputs = Inputs(data, policy, budget.samples)
    unit = float(data.reward.std()) or 1.0
    reward = torch.from_numpy(np.asarray(data.reward / unit, np.float32))
    visits = 1 + (1 - inputs.mask) * discount / (1 - discount)  # c
    weight = bootstrap(data, budget.members, generator)
    episode, starts = torch.from_numpy(data.episode), torch.from_numpy(data.starts)
    nu, root = (inputs.network(budget.hidden, budget.members) for _ in range(2))
    torch.nn.init.ones_(root.layers[-1].bias)  # zeta begins near 1, the data's own visits
    level = torch.zeros(budget.members, 1, requires_grad=True)  # lambda
    primal, dual = [*nu.parameters(), level], list(root.parameters())
    down, up = torch.optim.Adam(primal, lr=budget.lr), torch.optim.Adam(dual, lr=budget.lr, maximize=True)
    per_row = weight[:, episode]

    @torch.no_grad()
    def ratios() -> Tensor:
        parts = torch.split(torch.arange(len(reward)), ROWS)
        return torch.cat([inputs.at(root, part).square() for part in parts], 1)

    def dual_estimate(zeta: Tensor) -> Tensor:
        share = per_row * zeta
        return (share * reward).sum(1) * unit / ((1 - discount) * (share * visits).sum(1))

    history: list[float] = []
    every = max(1, budget.updates // (2 * LOOKS))
    total, looks = torch.zeros_like(per_row), 0
    for update in range(budget.updates):
        row = torch.randint(len(reward), (budget.batch_size,), generator=generator)
        first = torch.randint(data.episodes, (budget.batch_size,), generator=generator)
        begin = inputs.first_choice[first] if data.choices else inputs.first_choice[:, first]
        start = weight[:, first] * inputs.expected(nu, inputs.obs[starts[first]], begin)
        following = inputs.expected(nu, inputs.next_obs[row], inputs.next_choices(row))
        residual = (
            reward[row] + discount * inputs.mask[row] * following - inputs.at(nu, row) - level * visits[row]
        )
        zeta = inputs.at(root, row).square()
        inside = per_row[:, row] * (zeta * residual - budget.alpha / 2 * zeta.square())
        saddle = ((1 - discount) * start + level + inside).mean(1).sum()
        slopes = torch.autograd.grad(saddle, [*primal, *dual])
        for parameter, slope in zip([*primal, *dual], slopes, strict=True):
            parameter.grad = slope.contiguous().clamp_(-1, 1)
        down.step()
        up.step()
        if 2 * update >= budget.updates and update % every == every - 1:
            total, looks = total + ratios(), looks + 1
            history.append(float(dual_estimate(total / looks).mean()))
    zeta = total / looks
    mass = float((per_row * zeta * visits).mean())
    mean = zeta.mean(0)
    return Ratios(
        mean.numpy(),
        dual_estimate(zeta).numpy(),
        np.array(history),
        mass,
        _unbalanced(inputs, mean, discount),
    )


def _unbalanced(inputs: Inputs, zeta: Tensor, discount: float) -> float:
    """How far the visits are from flowing as the world moves, by the first two moments of the observations.

    At the saddle (1 - gamma) E f(s0) + E_D[zeta (gamma (1 - d) f(s') - f(s))] is 0 for every f; what is left
    is measured by what an episode begins with, 1 - gamma.
    """
    here, after = (torch.cat((obs, obs.square()), 1) for obs in (inputs.obs, inputs.next_obs))
    moved = zeta.unsqueeze(1) * (discount * inputs.mask.unsqueeze(1) * after - here)
    left = (1 - discount) * here[torch.from_numpy(inputs.data.starts)].mean(0) + moved.mean(0)
    return float((left / (here.std(0) + 1e-6)).square().mean().sqrt()) / (1 - discount)
