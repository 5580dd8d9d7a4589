"""FQE: the policy's action values, fitted to the data, at the states in which episodes begin.

Paper: Le, Voloshin & Yue, "Batch Policy Learning under Constraints", ICML 2019, arXiv:1903.08738.

    y(s, a) = r + gamma (1 - terminated) E_{a'~pi(s')} Q'(s', a')
    L(Q)    = E_D (Q(s, a) - y)^2,    Q' <- Q every `sync` updates
    J       = E_{s0} E_{a0~pi(s0)} Q(s0, a0)

An ensemble: each member weighs the episodes by how often it drew them with replacement, the bootstrap of
Hao et al., ICML 2021, arXiv:2102.03607, so that the members' spread is a standard error. What it leaves out
is the networks' own error where the policy acts unlike the data. J is the discounted return without an end:
a time limit ends the recording, not the task.

Rewards stay the world's. For the networks they are divided by the spread of the recorded returns to go, and
values multiplied by it again; the last bias begins at those returns' mean, which moves no fixed point. Values
of next states are kept within `bounds`, which holds a divergence without the paper's bounded function class.
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
from off2on.ope.candidates import Candidate, choices, scaled
from off2on.ope.fitting import Fitting
from off2on.ope.recorded import Array, Recorded
from off2on.recipe.discrete import ActionValues, value_of_action
from off2on.recipe.networks import Critic

LOOKS = 10
"""How often the estimate is looked at on the way."""


@dataclass(frozen=True)
class Budget(Fitting):
    """How long the networks are fitted, and how large they are; see `Fitting`.

    Attributes:
        sync: Updates between two copies to the target.
    """

    sync: int = 100


@dataclass(frozen=True, eq=False)
class Fitted:
    """Action values, and what became of the estimate while they were fitted.

    Attributes:
        members: Each member's estimate [M], in the world's units.
        history: The mean over the members at equal steps of the way [LOOKS].
        value: From rows of the data to E_{a~pi} Q(s, a) [rows].
        next_value: The same of the observations after them.
        action_value: The same of Q(s, a) with the recorded action.
    """

    members: Array
    history: Array
    value: Callable[[Array], Array]
    next_value: Callable[[Array], Array]
    action_value: Callable[[Array], Array]


class Inputs:
    """Observations, actions and rewards as networks take them, of all rows of the data.

    Args:
        data: What was recorded.
        policy: What is judged.
        samples: Actions drawn for an expectation.
    """

    def __init__(self, data: Recorded, policy: Candidate, samples: int) -> None:
        self.data, self.policy, self.samples = data, policy, samples
        self.mean, self.std = data.obs.mean(0), data.obs.std(0) + 1e-3
        self.obs, self.next_obs = self.seen(data.obs), self.seen(data.next_obs)
        self.action = scaled(data, data.action)
        self.mask = torch.from_numpy(1 - data.terminated.astype(np.float32))
        self.fixed = not policy.random or bool(data.choices and policy.has_density)
        """Whether an expectation over the policy's actions needs no fresh draws."""
        self.next_choice = choices(policy, data, data.next_obs, 1) if self.fixed else None
        self.first_choice = choices(policy, data, data.obs[data.starts], 8 * samples)

    def seen(self, obs: Array) -> Tensor:
        """Observations, standardised."""
        return torch.from_numpy(np.asarray((obs - self.mean) / self.std, np.float32))

    def next_choices(self, rows: Tensor) -> Tensor:
        """What the policy does after some rows [B]; see `choices`."""
        if self.next_choice is None:
            return choices(self.policy, self.data, self.data.next_obs[rows.numpy()], self.samples)
        return self.next_choice[rows] if self.data.choices else self.next_choice[:, rows]

    def network(self, hidden: tuple[int, ...], members: int) -> Any:
        """A new ensemble over observations and actions."""
        width = self.obs.shape[1]
        if self.data.choices:
            return ActionValues(width, self.data.choices, hidden, members)
        return Critic(width, self.action.shape[1], hidden, members)

    def at(self, network: Any, rows: Tensor) -> Tensor:
        """What a network says of the recorded rows [B]: [M, B]."""
        obs, action = self.obs[rows], self.action[rows]
        return value_of_action(network(obs), action) if self.data.choices else network(obs, action)

    def expected(self, network: Any, obs: Tensor, choice: Tensor) -> Tensor:
        """The mean over the policy's actions of what a network says of them at [B, D]: [M, B]."""
        if self.data.choices:
            return (network(obs) * choice).sum(-1)  # type: ignore[no-any-return]
        return network(obs, choice).mean(1)  # type: ignore[no-any-return]


def bootstrap(data: Recorded, members: int, generator: torch.Generator) -> Tensor:
    """How often each member drew each episode, with replacement: [M, E], 1 in the mean."""
    drawn = torch.randint(data.episodes, (members, data.episodes), generator=generator)
    return torch.zeros(members, data.episodes).scatter_add_(
        1, drawn, torch.ones_like(drawn, dtype=torch.float)
    )


def fit(data: Recorded, policy: Candidate, discount: float, budget: Budget, seed: int = 0) -> Fitted:
    """Fit the action values of a policy.

    Args:
        data: What was recorded.
        policy: What is judged.
        discount: Gamma; below 1 unless every episode terminates.
        budget: How long, and how large.
        seed: Of all draws.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _fit(data, policy, discount, budget, torch.Generator().manual_seed(seed))


def interval(members: Array) -> tuple[float, float, float]:
    """The mean of the members' estimates [M], and the ends of its 95 % interval by Student's t."""
    mean, spread = float(members.mean()), float(members.std(ddof=1)) if len(members) > 1 else float("nan")
    half = spread * float(stdtrit(len(members) - 1, 0.975))
    return mean, mean - half, mean + half


def bounds(reward: Array, discount: float) -> tuple[float, float]:
    """Between what a value lies if rewards are as recorded, however an episode ends.

    A target outside of it is extrapolation, which would feed itself.
    """
    horizon = 1 / (1 - discount) if discount < 1 else np.inf
    least, most = min(0.0, float(reward.min())), max(0.0, float(reward.max()))
    return (least * horizon if least else 0.0, most * horizon if most else 0.0)


def _fit(
    data: Recorded, policy: Candidate, discount: float, budget: Budget, generator: torch.Generator
) -> Fitted:
    inputs = Inputs(data, policy, budget.samples)
    to_go = returns_to_go(data.reward, data.last, discount)
    unit = float(to_go.std()) or 1.0
    reward = torch.from_numpy(np.asarray(data.reward / unit, np.float32))
    low, high = bounds(data.reward / unit, discount)
    weight = bootstrap(data, budget.members, generator)
    episode = torch.from_numpy(data.episode)
    net = inputs.network(budget.hidden, budget.members)
    torch.nn.init.constant_(net.layers[-1].bias, float(to_go.mean()) / unit)
    target = deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=budget.lr)
    first = inputs.obs[torch.from_numpy(data.starts)]

    @torch.no_grad()
    def estimate() -> Tensor:
        values = inputs.expected(net, first, inputs.first_choice)
        return unit * (weight * values).sum(1) / weight.sum(1)

    history: list[float] = []
    for update in range(budget.updates):
        place = update % budget.sync
        if place == 0:  # draws and the policy's actions of a whole stretch at once
            target.load_state_dict(net.state_dict())
            count = min(budget.sync, budget.updates - update)
            rows = torch.randint(len(reward), (count * budget.batch_size,), generator=generator)
            choice = inputs.next_choices(rows)
        here = slice(place * budget.batch_size, (place + 1) * budget.batch_size)
        row, what = rows[here], choice[here] if data.choices else choice[:, here]
        with torch.no_grad():
            following = inputs.expected(target, inputs.next_obs[row], what)
            goal = reward[row] + discount * inputs.mask[row] * following.clamp(low, high)
        error = inputs.at(net, row) - goal
        loss = (weight[:, episode[row]] * error.square()).mean(1).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if (update + 1) * LOOKS // budget.updates > update * LOOKS // budget.updates:
            history.append(float(estimate().mean()))
    return Fitted(estimate().numpy(), np.array(history), *_values(inputs, net, unit))


def _values(inputs: Inputs, net: Any, unit: float) -> tuple[Callable[[Array], Array], ...]:
    """The three functions of rows of a `Fitted`: means over the members, in the world's units."""
    data, policy = inputs.data, inputs.policy

    @torch.no_grad()
    def value(rows: Array) -> Array:
        choice = choices(policy, data, data.obs[rows], inputs.samples)
        return unit * inputs.expected(net, inputs.obs[rows], choice).mean(0).numpy()

    @torch.no_grad()
    def next_value(rows: Array) -> Array:
        choice = inputs.next_choices(torch.from_numpy(rows))
        return unit * inputs.expected(net, inputs.next_obs[rows], choice).mean(0).numpy()

    @torch.no_grad()
    def action_value(rows: Array) -> Array:
        return unit * inputs.at(net, torch.from_numpy(rows)).mean(0).numpy()

    return value, next_value, action_value
