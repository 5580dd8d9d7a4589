"""The interface of a policy under evaluation, and adapters for functions and for the policy of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from off2on.errors import UnknownName, UserError
from off2on.ope.recorded_data import Array, RecordedData

CHUNK_ROWS = 65_536
"""Largest number of observations in one call of a policy."""


class EvaluatedPolicy(Protocol):
    """A policy under evaluation.

    Attributes:
        random: True if the policy draws its actions.
        has_density: True if `log_prob` is available.
    """

    random: bool
    has_density: bool

    def act(self, obs: Array) -> Array:
        """Return actions [B, A], or integers [B], in raw units at observations [B, D]."""

    def log_prob(self, obs: Array, action: Array) -> Array:
        """Return the log density, or log probability, of each action [B]; needs `has_density`."""


class DeterministicPolicy:
    """A deterministic policy, given as a function of the observation.

    Args:
        function: Function from observations [B, D] to actions.
        discrete: True if actions are discrete: then one action has probability 1.
    """

    random = False

    def __init__(self, function: Callable[[Array], Array], discrete: bool) -> None:
        self.act, self.has_density = function, discrete

    def log_prob(self, obs: Array, action: Array) -> Array:
        """Return 0 for the action that the policy takes, minus infinity for all others."""
        return np.where(self.act(obs) == action, 0.0, -np.inf)


class ExplorationPolicy:
    """The stochastic policy that a run collects data with.

    Args:
        policy: A `Policy` with `sampled` and `log_prob`, both of tensors.
    """

    random = has_density = True

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    @torch.no_grad()
    def act(self, obs: Array) -> Array:
        """Draw one action for each observation."""
        action: Array = self.policy.sampled(torch.from_numpy(obs))[0].numpy()
        return action

    @torch.no_grad()
    def log_prob(self, obs: Array, action: Array) -> Array:
        """Return the log density of each action [B]."""
        density: Array = self.policy.log_prob(torch.from_numpy(obs), torch.from_numpy(action)).numpy()
        return density


def as_evaluated_policy(
    policy: EvaluatedPolicy | Callable[[Array], Array], data: RecordedData
) -> EvaluatedPolicy:
    """Wrap a function of observations [B, D] as a policy; return a policy as it is.

    Raises:
        UserError: The policy's actions have another shape than the recorded ones, or it takes histories.
    """
    evaluated = DeterministicPolicy(policy, bool(data.n_actions)) if callable(policy) else policy
    if history := getattr(evaluated.act, "history", None):
        raise UserError(
            f"the policy decides by a history of {history[0]} steps.",
            "The estimators need a policy that decides by the last observation.",
        )
    shape, expected = np.shape(evaluated.act(data.obs[:2])), data.action[:2].shape
    if len(shape) == 3 and shape[2:] == expected[1:]:
        raise UserError(
            f"the policy decides about chunks of {shape[1]} actions.",
            "The estimators need a policy that decides about one action at every observation.",
        )
    if shape != expected:
        raise UserError(
            f"the policy returns actions of shape {shape} for two observations.",
            f"The recorded actions have shape {expected}.",
        )
    return evaluated


def load_evaluated_policy(folder: Path, checkpoint: str = "last", explore: bool = False) -> EvaluatedPolicy:
    """Load the policy of a run.

    Args:
        folder: Folder of the run.
        checkpoint: `handover`, `last`, or, without `explore`, the name of a kept policy.
        explore: Load the policy that collects data, instead of the deterministic one.

    Raises:
        UnknownName: The run has no such checkpoint; a density needs the checkpoint itself.
    """
    from off2on.policy import load_policy
    from off2on.runs.folder import policy_file
    from off2on.runs.metadata import read_metadata
    from off2on.training.evaluate import numpy_policy

    file = policy_file(folder, checkpoint, explore)
    if explore:
        from off2on.rllib.module import policy_from_checkpoint
        from off2on.runs.checkpoints import check_checkpoint

        path = folder / "checkpoints" / checkpoint
        if not path.is_dir():
            raise UnknownName(
                f"{folder} has no checkpoint called '{checkpoint}'.",
                f"Looked for {path}: the exported policy draws actions, but only the checkpoint's policy"
                " computes the log probability of recorded actions.",
                given=checkpoint,
            )
        return ExplorationPolicy(policy_from_checkpoint(check_checkpoint(folder, checkpoint)))
    space = read_metadata(folder).training_data().action_space
    return DeterministicPolicy(numpy_policy(load_policy(file)), hasattr(space, "n"))


def log_probs(policy: EvaluatedPolicy, data: RecordedData) -> Array:
    """Return the log probability of the recorded actions under the policy [N], float64."""
    chunks = [slice(start, start + CHUNK_ROWS) for start in range(0, len(data.obs), CHUNK_ROWS)]
    parts = [policy.log_prob(data.obs[chunk], data.action[chunk]) for chunk in chunks]
    return np.concatenate(parts).astype(np.float64)


def policy_actions(policy: EvaluatedPolicy, data: RecordedData, obs: Array, samples: int) -> Tensor:
    """Return the policy's actions at observations [B, D], in the form that `NetworkInputs.expected` takes.

    Returns:
        The probability of every action [B, n_actions] if actions are discrete; otherwise actions [k, B, A]
        in [-1, 1], with k = 1 for a deterministic policy and k = `samples` for a stochastic one.
    """
    if data.n_actions and policy.has_density:
        every_action = [np.full(len(obs), number) for number in range(data.n_actions)]
        return torch.from_numpy(np.exp([policy.log_prob(obs, action) for action in every_action]).T).float()
    drawn = np.stack([_act_in_chunks(policy, obs) for _ in range(samples if policy.random else 1)])
    if data.n_actions:
        return torch.from_numpy(np.eye(data.n_actions, dtype=np.float32)[drawn].mean(0))
    return to_network_actions(data, drawn)


def to_network_actions(data: RecordedData, action: Array) -> Tensor:
    """Scale continuous actions to [-1, 1] for the networks; leave discrete actions as they are.

    Raises:
        UserError: An action of the data has no range, or no finite one.
    """
    if not data.n_actions:
        width = data.high - data.low
        wrong = np.flatnonzero(~np.isfinite(width) | (width <= 0))
        if len(wrong):
            number = wrong[0]
            raise UserError(
                f"action {number} of the data is between {data.low[number]:g} and {data.high[number]:g}.",
                "fqe, dr and dice scale actions to [-1, 1]: leave out a column that never varies, or give "
                "the data an action space with its range.",
            )
        action = np.clip(2 * (action - data.low) / width - 1, -1, 1)
    return torch.from_numpy(np.asarray(action, np.float32))


def _act_in_chunks(policy: EvaluatedPolicy, obs: Array) -> Array:
    return np.concatenate(
        [policy.act(obs[start : start + CHUNK_ROWS]) for start in range(0, len(obs), CHUNK_ROWS)]
    )
