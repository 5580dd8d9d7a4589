"""Networks for discrete actions, and choices among the values of all actions.

Shapes: ``B`` observations, ``E`` members (always first), ``D`` observation width, ``n`` actions, ``H``
hidden width. Everything is float32; actions in batches are float32 [B], chosen actions int64 [B].
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from off2on.recipe.critic_heads import Head, Prediction, values_of
from off2on.recipe.distributions import Categorical
from off2on.recipe.ensembles import EnsembleLinear
from off2on.recipe.networks import MLP
from off2on.recipe.return_distribution import ReturnDistribution


class ActionValues(nn.Module):
    """An ensemble of values Q_i(s, ·) of every action.

    Args:
        obs: Observation width D.
        actions: Number of actions n.
        hidden: Widths of the hidden layers.
        members: Ensemble size E.
        head: What the critics put out for a value; None: the value itself.
    """

    def __init__(
        self, obs: int, actions: int, hidden: Sequence[int], members: int = 1, head: Head | None = None
    ) -> None:
        super().__init__()
        self.members, self.actions, self.head = members, actions, head
        width = actions if head is None else actions * head.outputs
        self.layers = nn.ModuleList(
            EnsembleLinear(members, *pair) for pair in pairwise((obs, *hidden, width))
        )

    def features(self, obs: Tensor) -> Tensor:
        """Return the last hidden layer [E, B, H] at [B, D]."""
        x = obs.expand(self.members, *obs.shape)
        for layer in self.layers[:-1]:
            x = F.relu_(layer(x))
        return x

    def forward(self, obs: Tensor) -> Tensor:
        """Map observations [B, D] to values [E, B, n]."""
        return values_of(self._prediction(self.features(obs)))

    def predict(self, obs: Tensor) -> Tensor | Prediction:
        """Return what `losses.td` compares with a target, for every action at [B, D]."""
        return self(obs) if self.head is None else self._prediction(self.features(obs))

    def future(self, obs: Tensor) -> Tensor | ReturnDistribution:
        """Return what targets are made of, for every action at [B, D]."""
        found = self.predict(obs)
        return found.head.future(found.outputs) if isinstance(found, Prediction) else found

    def _prediction(self, features: Tensor) -> Tensor | Prediction:
        """Return the values, or the outputs of the head, of features [E, B, H]."""
        outputs: Tensor = self.layers[-1](features)
        if self.head is None:
            return outputs
        return Prediction(outputs.view(*outputs.shape[:-1], self.actions, -1), self.head)


class ValuesAndPolicy(ActionValues):
    """Action values, and an estimate of the behaviour policy that recorded the data.

    Args:
        obs: Observation width D.
        actions: Number of actions n.
        hidden: Widths of the hidden layers.
        members: Ensemble size E.
        shared: True if the policy is a layer on the first member's features; False for a separate network.
        head: What the critics put out for a value; None: the value itself.
    """

    def __init__(
        self,
        obs: int,
        actions: int,
        hidden: Sequence[int],
        members: int = 1,
        shared: bool = True,
        head: Head | None = None,
    ) -> None:
        super().__init__(obs, actions, hidden, members, head)
        self.shared = shared
        self.imitator = MLP((hidden[-1], actions) if shared else (obs, *hidden, actions))

    def predictions_and_logits(self, obs: Tensor) -> tuple[Tensor | Prediction, Tensor]:
        """Return `predict` and the policy's logits [B, n] at [B, D]."""
        features = self.features(obs)
        return self._prediction(features), self.imitator(features[0] if self.shared else obs)

    def values_and_logits(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, D] to the values [E, B, n] and the policy's logits [B, n]."""
        q, logits = self.predictions_and_logits(obs)
        return values_of(q), logits


class CategoricalActor(nn.Module):
    """A policy of action probabilities."""

    def __init__(self, obs: int, actions: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.mlp = MLP((obs, *hidden, actions))

    def forward(self, obs: Tensor) -> Categorical:
        """Return the distribution of actions at [B, D]."""
        return Categorical(self.mlp(obs))


Q = TypeVar("Q", Tensor, Prediction, ReturnDistribution)


def value_of_action(values: Q, action: Tensor) -> Q:
    """Return the values [E, B] of actions [B], given the values [E, B, n] of all actions.

    For `Prediction` and `ReturnDistribution` likewise.
    """
    if not isinstance(values, Tensor):
        return values.at_action(action)
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
