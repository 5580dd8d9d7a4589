"""FQE: fit the policy's action values to the data and average them over the initial states.

Paper: Le, Voloshin & Yue, "Batch Policy Learning under Constraints", ICML 2019, arXiv:1903.08738.

    y(s, a) = r + gamma (1 - terminated) E_{a'~pi(s')} Q'(s', a')
    L(Q)    = E_D (Q(s, a) - y)^2,    Q' <- Q every `sync` updates
    J       = E_{s0} E_{a0~pi(s0)} Q(s0, a0)

An ensemble: each member weights the episodes by how often it drew them with replacement, the bootstrap of
Hao et al., ICML 2021, arXiv:2102.03607, so that the standard deviation of the members is a standard error.
It does not include the networks' own error where the policy acts unlike the data. J is the discounted return
without an end: a time limit ends the recording, not the task.

Rewards are in raw units. For the networks they are divided by the standard deviation of the recorded returns
to go, and values are multiplied by it again; the last bias starts at the mean of those returns, which
moves no fixed point. Values of next states are clipped to `value_bounds`, which stops a divergence without
the paper's bounded function class.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from datasets_io.shards.returns import returns_to_go
from off2on.ope.evaluated_policy import EvaluatedPolicy, policy_actions, to_network_actions
from off2on.ope.fit_settings import FitSettings
from off2on.ope.recorded_data import Array, RecordedData
from off2on.recipe.discrete import ActionValues, value_of_action
from off2on.recipe.networks import Critic

HISTORY_POINTS = 10
"""Number of times that the estimate is computed during the fit."""


@dataclass(frozen=True)
class FQESettings(FitSettings):
    """Settings of FQE; see `FitSettings`.

    Attributes:
        sync: Updates between two copies to the target network.
    """

    sync: int = 100


@dataclass(frozen=True, eq=False)
class FittedValues:
    """Fitted action values, and the estimate during the fit.

    Attributes:
        members: Estimate of each member [M], in raw units of the reward.
        history: Mean over the members after equal numbers of updates [HISTORY_POINTS].
        value: Function from rows of the data to E_{a~pi} Q(s, a) [rows].
        next_value: The same at the next observations.
        action_value: The same for Q(s, a) of the recorded action.
    """

    members: Array
    history: Array
    value: Callable[[Array], Array]
    next_value: Callable[[Array], Array]
    action_value: Callable[[Array], Array]


class NetworkInputs:
    """Standardised observations and scaled actions of all rows of the data, as tensors for the networks.

    Args:
        data: Recorded data.
        policy: Policy under evaluation.
        samples: Number of actions drawn to estimate an expectation.
    """

    def __init__(self, data: RecordedData, policy: EvaluatedPolicy, samples: int) -> None:
        self.data, self.policy, self.samples = data, policy, samples
        self.mean, self.std = data.obs.mean(0), data.obs.std(0) + 1e-3
        self.obs, self.next_obs = self.standardise(data.obs), self.standardise(data.next_obs)
        self.action = to_network_actions(data, data.action)
        self.mask = torch.from_numpy(1 - data.terminated.astype(np.float32))
        self.exact = not policy.random or bool(data.n_actions and policy.has_density)
        """True if an expectation over the policy's actions is exact: it needs no new draws."""
        self.fixed_next_actions = policy_actions(policy, data, data.next_obs, 1) if self.exact else None
        self.initial_actions = policy_actions(policy, data, data.obs[data.starts], 8 * samples)

    def standardise(self, obs: Array) -> Tensor:
        """Return standardised observations."""
        return torch.from_numpy(np.asarray((obs - self.mean) / self.std, np.float32))

    def next_actions(self, rows: Tensor) -> Tensor:
        """Return the policy's actions at the next observations of rows [B]; see `policy_actions`."""
        if self.fixed_next_actions is None:
            return policy_actions(self.policy, self.data, self.data.next_obs[rows.numpy()], self.samples)
        return self.fixed_next_actions[rows] if self.data.n_actions else self.fixed_next_actions[:, rows]

    def network(self, hidden: tuple[int, ...], members: int) -> Any:
        """Build an ensemble of networks over observations and actions."""
        width = self.obs.shape[1]
        if self.data.n_actions:
            return ActionValues(width, self.data.n_actions, hidden, members)
        return Critic(width, self.action.shape[1], hidden, members)

    def at_recorded(self, network: Any, rows: Tensor) -> Tensor:
        """Evaluate a network at the recorded observations and actions of rows [B]: [M, B]."""
        obs, action = self.obs[rows], self.action[rows]
        values: Tensor = network(obs) if self.data.n_actions else network(obs, action)
        return value_of_action(values, action) if self.data.n_actions else values

    def expected(self, network: Any, obs: Tensor, actions: Tensor) -> Tensor:
        """Compute the mean of a network over the policy's actions at observations [B, D]: [M, B]."""
        if self.data.n_actions:
            return (network(obs) * actions).sum(-1)  # type: ignore[no-any-return]
        return network(obs, actions).mean(1)  # type: ignore[no-any-return]


def bootstrap_weights(data: RecordedData, members: int, generator: torch.Generator) -> Tensor:
    """Draw episodes with replacement for each member; return the counts [M, E], with mean 1."""
    drawn = torch.randint(data.episodes, (members, data.episodes), generator=generator)
    return torch.zeros(members, data.episodes).scatter_add_(
        1, drawn, torch.ones_like(drawn, dtype=torch.float)
    )


def fit(
    data: RecordedData, policy: EvaluatedPolicy, discount: float, settings: FQESettings, seed: int = 0
) -> FittedValues:
    """Fit the action values of a policy.

    Args:
        data: Recorded data.
        policy: Policy under evaluation.
        discount: Gamma; below 1 unless every episode terminates.
        settings: Settings of the fit.
        seed: Seed of all random draws.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _fit(data, policy, discount, settings, torch.Generator().manual_seed(seed))


def interval(members: Array) -> tuple[float, float, float]:
    """Return the mean of the members' estimates [M], and the ends of its 95 % interval by Student's t."""
    mean, spread = float(members.mean()), float(members.std(ddof=1)) if len(members) > 1 else float("nan")
    half = spread * float(stdtrit(len(members) - 1, 0.975))
    return mean, mean - half, mean + half


def value_bounds(reward: Array, discount: float) -> tuple[float, float]:
    """Compute the lowest and highest possible value with the recorded rewards, however an episode ends.

    A target outside these bounds is an extrapolation, which would reinforce itself.
    """
    horizon = 1 / (1 - discount) if discount < 1 else np.inf
    lowest, highest = min(0.0, float(reward.min())), max(0.0, float(reward.max()))
    return (lowest * horizon if lowest else 0.0, highest * horizon if highest else 0.0)


def _fit(
    data: RecordedData,
    policy: EvaluatedPolicy,
    discount: float,
    settings: FQESettings,
    generator: torch.Generator,
) -> FittedValues:
    inputs = NetworkInputs(data, policy, settings.samples)
    to_go = returns_to_go(data.reward, data.last, discount)
    unit = float(to_go.std()) or 1.0
    reward = torch.from_numpy(np.asarray(data.reward / unit, np.float32))
    low, high = value_bounds(data.reward / unit, discount)
    weight = bootstrap_weights(data, settings.members, generator)
    episode = torch.from_numpy(data.episode)
    net = inputs.network(settings.hidden, settings.members)
    torch.nn.init.constant_(net.layers[-1].bias, float(to_go.mean()) / unit)
    target = deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=settings.lr)
    first = inputs.obs[torch.from_numpy(data.starts)]

    @torch.no_grad()
    def estimate() -> Tensor:
        values = inputs.expected(net, first, inputs.initial_actions)
        return unit * (weight * values).sum(1) / weight.sum(1)

    history: list[float] = []
    for update in range(settings.updates):
        position = update % settings.sync
        if position == 0:  # draw the rows and actions up to the next target update at once
            target.load_state_dict(net.state_dict())
            count = min(settings.sync, settings.updates - update)
            rows = torch.randint(len(reward), (count * settings.batch_size,), generator=generator)
            actions = inputs.next_actions(rows)
        batch = slice(position * settings.batch_size, (position + 1) * settings.batch_size)
        row, next_action = rows[batch], actions[batch] if data.n_actions else actions[:, batch]
        with torch.no_grad():
            next_value = inputs.expected(target, inputs.next_obs[row], next_action)
            target_value = reward[row] + discount * inputs.mask[row] * next_value.clamp(low, high)
        error = inputs.at_recorded(net, row) - target_value
        loss = (weight[:, episode[row]] * error.square()).mean(1).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if (update + 1) * HISTORY_POINTS // settings.updates > update * HISTORY_POINTS // settings.updates:
            history.append(float(estimate().mean()))
    return FittedValues(estimate().numpy(), np.array(history), *_values(inputs, net, unit))


def _values(inputs: NetworkInputs, net: Any, unit: float) -> tuple[Callable[[Array], Array], ...]:
    """Return the three functions of rows of `FittedValues`: means over the members, in raw units."""
    data, policy = inputs.data, inputs.policy

    @torch.no_grad()
    def value(rows: Array) -> Array:
        actions = policy_actions(policy, data, data.obs[rows], inputs.samples)
        return unit * inputs.expected(net, inputs.obs[rows], actions).mean(0).numpy()

    @torch.no_grad()
    def next_value(rows: Array) -> Array:
        actions = inputs.next_actions(torch.from_numpy(rows))
        return unit * inputs.expected(net, inputs.next_obs[rows], actions).mean(0).numpy()

    @torch.no_grad()
    def action_value(rows: Array) -> Array:
        return unit * inputs.at_recorded(net, torch.from_numpy(rows)).mean(0).numpy()

    return value, next_value, action_value
