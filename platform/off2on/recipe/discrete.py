"""Networks for discrete actions, and choices among the values of all actions.

Shapes: ``B`` observations, ``E`` members (always first), ``D`` observation width, ``n`` actions, ``H``
hidden width. Everything is float32; actions in batches are float32 [B], chosen actions int64 [B].
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from off2on.recipe.distributions import Categorical
from off2on.recipe.networks import MLP, EnsembleLinear


class ActionValues(nn.Module):
    """An ensemble of values Q_i(s, ·) of every action.

    Args:
        obs: Observation width D.
        actions: Number of actions n.
        hidden: Widths of the hidden layers.
        members: Ensemble size E.
    """

    def __init__(self, obs: int, actions: int, hidden: Sequence[int], members: int = 1) -> None:
        super().__init__()
        self.members, self.actions = members, actions
        self.layers = nn.ModuleList(
            EnsembleLinear(members, *pair) for pair in pairwise((obs, *hidden, actions))
        )

    def features(self, obs: Tensor) -> Tensor:
        """Return the last hidden layer [E, B, H] at [B, D]."""
        x = obs.expand(self.members, *obs.shape)
        for layer in self.layers[:-1]:
            x = F.relu_(layer(x))
        return x

    def forward(self, obs: Tensor) -> Tensor:
        """Map observations [B, D] to values [E, B, n]."""
        return self.layers[-1](self.features(obs))  # type: ignore[no-any-return]


class ValuesAndPolicy(ActionValues):
    """Action values, and an estimate of the behaviour policy that recorded the data.

    Args:
        obs: Observation width D.
        actions: Number of actions n.
        hidden: Widths of the hidden layers.
        members: Ensemble size E.
        shared: True if the policy is a layer on the first member's features; False for a separate network.
    """

    def __init__(
        self, obs: int, actions: int, hidden: Sequence[int], members: int = 1, shared: bool = True
    ) -> None:
        super().__init__(obs, actions, hidden, members)
        self.shared = shared
        self.imitator = MLP((hidden[-1], actions) if shared else (obs, *hidden, actions))

    def values_and_logits(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, D] to the values [E, B, n] and the policy's logits [B, n]."""
        features = self.features(obs)
        return self.layers[-1](features), self.imitator(features[0] if self.shared else obs)


class CategoricalActor(nn.Module):
    """A policy of action probabilities."""

    def __init__(self, obs: int, actions: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.mlp = MLP((obs, *hidden, actions))

    def forward(self, obs: Tensor) -> Categorical:
        """Return the distribution of actions at [B, D]."""
        return Categorical(self.mlp(obs))


def value_of_action(values: Tensor, action: Tensor) -> Tensor:
    """Return the values [E, B] of actions [B], given the values [E, B, n] of all actions."""
    index = action.long().expand(values.shape[:-1])
    return values.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def greedy(values: Tensor) -> Tensor:
    """Return the actions [B] of the highest mean value over the members [E, B, n]."""
    return values.mean(0).argmax(-1)


def greedy_within(values: Tensor, logits: Tensor, threshold: float) -> Tensor:
    """Return the actions [B] of the highest mean value among sufficiently probable actions.

    Args:
        values: Values [E, B, n].
        logits: Logits [B, n] of the policy that gives the probabilities.
        threshold: Smallest allowed probability, relative to that of the most probable action: 0 allows
            every action, 1 only the most probable.
    """
    least = math.log(threshold) if threshold > 0 else -math.inf
    allowed = logits - logits.amax(-1, keepdim=True) >= least
    return torch.where(allowed, values.mean(0), -1e8).argmax(-1)


def epsilon_greedy(action: Tensor, actions: int, epsilon: float) -> Tensor:
    """Replace each of the actions [B], with probability `epsilon`, by one of `actions` at random."""
    anything = torch.randint(actions, action.shape, device=action.device)
    return torch.where(torch.rand(action.shape, device=action.device) < epsilon, anything, action)


def epsilon_greedy_distribution(action: Tensor, actions: int, epsilon: float) -> Categorical:
    """Return the distribution that `epsilon_greedy` draws from."""
    best = F.one_hot(action, actions)
    return Categorical((epsilon / actions + (1 - epsilon) * best).log())
