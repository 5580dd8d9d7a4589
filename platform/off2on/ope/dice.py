"""DICE: ratio of the policy's visits to the data's visits of each step, without action probabilities.

Paper: Yang, Nachum, Dai, Li & Schuurmans, "Off-Policy Evaluation via the Regularized Lagrangian", NeurIPS
2020, arXiv:2007.03438, with the choices that it recommends: the dual estimate, a dual regulariser, the reward
in the Lagrangian, zeta >= 0 (a square) and a normalisation:

    min_{nu, lambda} max_{zeta >= 0}
    L   = (1 - gamma) E_{s0, a0~pi} nu(s0, a0) + lambda
          + E_D[zeta(s, a) (r + gamma (1 - d) nu(s', a') - nu(s, a) - lambda c)] - alpha E_D[zeta^2 / 2]
    J   = E_D[zeta r] / ((1 - gamma) E_D[zeta c]),    a' ~ pi(s'),  d = terminated

At the saddle point zeta is the ratio of the policy's discounted visits to the data's, whatever alpha is. The
paper's tasks never terminate and c = 1. A task that terminates stays in an absorbing state without reward;
the visits there are gamma / (1 - gamma) for every visit that terminates, hence
c = 1 + d gamma / (1 - gamma), and no absorbing state has to be added. E_D[zeta c] is 1 at the saddle point; J
is divided by it, unlike in the paper, so that a remaining error of that constraint does not bias J. J is the
discounted return without an end: a time limit ends the recording, not the task. An ensemble over resampled
episodes, as in FQE. The primal and dual variables circle around the saddle point, so that zeta is the mean
over the second half of the updates, unlike in the paper's code. Rewards are divided by their standard
deviation, and the estimate is multiplied by it again.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from off2on.ope.evaluated_policy import CHUNK_ROWS, EvaluatedPolicy
from off2on.ope.fit_settings import FitSettings
from off2on.ope.fqe import NetworkInputs, bootstrap_weights
from off2on.ope.recorded_data import Array, RecordedData

SNAPSHOTS = 50
"""Number of snapshots of zeta, in the second half of the updates, that are averaged."""


@dataclass(frozen=True)
class DICESettings(FitSettings):
    """Settings of DICE; see `FitSettings`.

    Attributes:
        alpha: Weight of the dual regulariser.
    """

    hidden: tuple[int, ...] = (64, 64)
    batch_size: int = 512
    alpha: float = 1.0


@dataclass(frozen=True, eq=False)
class VisitationRatios:
    """Ratios of the policy's visits to the data's, and the estimate during the fit.

    Attributes:
        zeta: Ratio of every recorded step, mean over the members [N].
        members: Estimate of each member [M], in raw units of the reward.
        history: Mean over the members after each snapshot [SNAPSHOTS].
        mass: E_D[zeta c], 1 at the saddle point.
        imbalance: Error of the visits' flow balance, by moments of the observations, per episode that
            starts, in standard deviations; 0 at the saddle point.
    """

    zeta: Array
    members: Array
    history: Array
    mass: float
    imbalance: float


def fit(
    data: RecordedData, policy: EvaluatedPolicy, discount: float, settings: DICESettings, seed: int = 0
) -> VisitationRatios:
    """Fit the ratios of a policy's visits to the data's.

    Args:
        data: Recorded data.
        policy: Policy under evaluation.
        discount: Gamma, below 1.
        settings: Settings of the fit.
        seed: Seed of all random draws.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _fit(data, policy, discount, settings, torch.Generator().manual_seed(seed))


def _fit(
    data: RecordedData,
    policy: EvaluatedPolicy,
    discount: float,
    settings: DICESettings,
    generator: torch.Generator,
) -> VisitationRatios:
    inputs = NetworkInputs(data, policy, settings.samples)
    unit = float(data.reward.std()) or 1.0
    reward = torch.from_numpy(np.asarray(data.reward / unit, np.float32))
    visits = 1 + (1 - inputs.mask) * discount / (1 - discount)  # c
    weight = bootstrap_weights(data, settings.members, generator)
    episode, starts = torch.from_numpy(data.episode), torch.from_numpy(data.starts)
    nu, root = (inputs.network(settings.hidden, settings.members) for _ in range(2))
    torch.nn.init.ones_(root.layers[-1].bias)  # zeta starts near 1, the ratio of the data to themselves
    level = torch.zeros(settings.members, 1, requires_grad=True)  # lambda
    primal, dual = [*nu.parameters(), level], list(root.parameters())
    primal_optimizer = torch.optim.Adam(primal, lr=settings.lr)
    dual_optimizer = torch.optim.Adam(dual, lr=settings.lr, maximize=True)
    per_row = weight[:, episode]

    @torch.no_grad()
    def current_zeta() -> Tensor:
        parts = torch.split(torch.arange(len(reward)), CHUNK_ROWS)
        return torch.cat([inputs.at_recorded(root, part).square() for part in parts], 1)

    def dual_estimate(zeta: Tensor) -> Tensor:
        share = per_row * zeta
        return (share * reward).sum(1) * unit / ((1 - discount) * (share * visits).sum(1))

    history: list[float] = []
    every = max(1, settings.updates // (2 * SNAPSHOTS))
    total, snapshots = torch.zeros_like(per_row), 0
    for update in range(settings.updates):
        row = torch.randint(len(reward), (settings.batch_size,), generator=generator)
        first = torch.randint(data.episodes, (settings.batch_size,), generator=generator)
        initial = inputs.initial_actions[first] if data.n_actions else inputs.initial_actions[:, first]
        start = weight[:, first] * inputs.expected(nu, inputs.obs[starts[first]], initial)
        next_value = inputs.expected(nu, inputs.next_obs[row], inputs.next_actions(row))
        residual = (
            reward[row]
            + discount * inputs.mask[row] * next_value
            - inputs.at_recorded(nu, row)
            - level * visits[row]
        )
        zeta = inputs.at_recorded(root, row).square()
        inside = per_row[:, row] * (zeta * residual - settings.alpha / 2 * zeta.square())
        saddle = ((1 - discount) * start + level + inside).mean(1).sum()
        gradients = torch.autograd.grad(saddle, [*primal, *dual])
        for parameter, gradient in zip([*primal, *dual], gradients, strict=True):
            parameter.grad = gradient.contiguous().clamp_(-1, 1)
        primal_optimizer.step()
        dual_optimizer.step()
        if 2 * update >= settings.updates and update % every == every - 1:
            total, snapshots = total + current_zeta(), snapshots + 1
            history.append(float(dual_estimate(total / snapshots).mean()))
    zeta = total / snapshots
    mass = float((per_row * zeta * visits).mean())
    mean = zeta.mean(0)
    return VisitationRatios(
        mean.numpy(),
        dual_estimate(zeta).numpy(),
        np.array(history),
        mass,
        _imbalance(inputs, mean, discount),
    )


def _imbalance(inputs: NetworkInputs, zeta: Tensor, discount: float) -> float:
    """Compute the error of the visits' flow balance, by the first two moments of the observations.

    At the saddle point (1 - gamma) E f(s0) + E_D[zeta (gamma (1 - d) f(s') - f(s))] is 0 for every f; the
    remaining error is divided by the weight of an initial state, 1 - gamma.
    """
    current, following = (torch.cat((obs, obs.square()), 1) for obs in (inputs.obs, inputs.next_obs))
    moved = zeta.unsqueeze(1) * (discount * inputs.mask.unsqueeze(1) * following - current)
    error = (1 - discount) * current[torch.from_numpy(inputs.data.starts)].mean(0) + moved.mean(0)
    return float((error / (current.std(0) + 1e-6)).square().mean().sqrt()) / (1 - discount)
