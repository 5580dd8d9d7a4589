"""The policy that is judged: what an estimator asks of it, and a run's policy as one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from off2on.errors import UnknownName, UserError
from off2on.ope.recorded import Array, Recorded

ROWS = 65_536
"""Observations a policy is asked about at once."""


class Candidate(Protocol):
    """A policy that is judged.

    Attributes:
        random: Whether it draws its actions.
        has_density: Whether it can say how likely an action is.
    """

    random: bool
    has_density: bool

    def act(self, obs: Array) -> Array:
        """Actions [B, A], or whole numbers [B], in the world's units at observations [B, D]."""

    def log_prob(self, obs: Array, action: Array) -> Array:
        """The log density, or log probability, of each action [B]; only asked if it `has_density`."""


class Deterministic:
    """A function of the observation.

    Args:
        function: From observations [B, D] to actions.
        discrete: Whether actions are whole numbers: then all of the probability is on one.
    """

    random = False

    def __init__(self, function: Callable[[Array], Array], discrete: bool) -> None:
        self.act, self.has_density = function, discrete

    def log_prob(self, obs: Array, action: Array) -> Array:
        """Nothing for the action it takes, minus infinity for all others."""
        return np.where(self.act(obs) == action, 0.0, -np.inf)


class Exploring:
    """What a run collects with: a `Policy` whose exploring actions have a density.

    Args:
        policy: Has `sampled` and `log_prob`, of tensors.
    """

    random = has_density = True

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    @torch.no_grad()
    def act(self, obs: Array) -> Array:
        """Drawn actions."""
        action: Array = self.policy.sampled(torch.from_numpy(obs))[0].numpy()
        return action

    @torch.no_grad()
    def log_prob(self, obs: Array, action: Array) -> Array:
        """Of given actions."""
        density: Array = self.policy.log_prob(torch.from_numpy(obs), torch.from_numpy(action)).numpy()
        return density


def as_candidate(policy: Candidate | Callable[[Array], Array], data: Recorded) -> Candidate:
    """What is asked of a policy, of one that may be a mere function of observations [B, D].

    Raises:
        UserError: Its actions have another shape than the recorded ones.
    """
    judged = Deterministic(policy, bool(data.choices)) if callable(policy) else policy
    acted, recorded = np.shape(judged.act(data.obs[:2])), data.action[:2].shape
    if acted != recorded:
        raise UserError(
            f"the policy's actions have shape {acted}, recorded ones {recorded}, of two observations."
        )
    return judged


def candidate_of(folder: Path, checkpoint: str = "last", explore: bool = False) -> Candidate:
    """The policy of a run.

    Args:
        folder: The run's.
        checkpoint: Of its `handover`, or the `last`.
        explore: The policy that it collects with, instead of the deterministic one.

    Raises:
        UnknownName: It was not kept, or what it explores with has no density.
    """
    from off2on.policy import load_policy
    from off2on.runs.folder import policy_file
    from off2on.runs.record import read_metadata
    from off2on.training.evaluate import numpy_policy

    file = policy_file(folder, checkpoint, explore)
    if explore:
        from off2on.rllib.module import kept_policy

        place = folder / "checkpoints" / checkpoint
        if not place.is_dir():
            raise UnknownName(
                f"{folder} has no checkpoint called '{checkpoint}'.",
                f"Looked for {place}: the exported policy draws actions, but only the checkpoint's can say"
                " how likely recorded ones are.",
            )
        return Exploring(kept_policy(place))
    from datasets_io.shards.reading import open_shards

    space = open_shards(read_metadata(folder)["data"]["pinned"]).action_space
    return Deterministic(numpy_policy(load_policy(file)), hasattr(space, "n"))


def log_probs(policy: Candidate, data: Recorded) -> Array:
    """Of the recorded actions under the policy [N], float64."""
    pieces = [slice(start, start + ROWS) for start in range(0, len(data.obs), ROWS)]
    said = [policy.log_prob(data.obs[piece], data.action[piece]) for piece in pieces]
    return np.concatenate(said).astype(np.float64)


def choices(policy: Candidate, data: Recorded, obs: Array, samples: int) -> Tensor:
    """What a policy does at observations [B, D], as `expected` takes it.

    Returns:
        The probability of every action [B, n] if they are whole numbers; otherwise actions [k, B, A] in
        [-1, 1], one for a policy that does not draw them and `samples` for one that does.
    """
    if data.choices and policy.has_density:
        every = [np.full(len(obs), number) for number in range(data.choices)]
        return torch.from_numpy(np.exp([policy.log_prob(obs, number) for number in every]).T).float()
    drawn = np.stack([_asked(policy, obs) for _ in range(samples if policy.random else 1)])
    if data.choices:
        return torch.from_numpy(np.eye(data.choices, dtype=np.float32)[drawn].mean(0))
    return scaled(data, drawn)


def scaled(data: Recorded, action: Array) -> Tensor:
    """Actions as networks take them: boxes as [-1, 1], whole numbers as they are."""
    if not data.choices:
        action = np.clip(2 * (action - data.low) / (data.high - data.low) - 1, -1, 1)
    return torch.from_numpy(np.asarray(action, np.float32))


def _asked(policy: Candidate, obs: Array) -> Array:
    return np.concatenate([policy.act(obs[start : start + ROWS]) for start in range(0, len(obs), ROWS)])
