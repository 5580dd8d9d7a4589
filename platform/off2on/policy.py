"""Policy for use without Ray: the networks that act, and the conversion between raw and normalised units."""

import copy
import io
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from off2on.errors import UserError
from off2on.policy_files.loaded import LoadedPolicy
from off2on.policy_files.program import load_program
from off2on.recipe.chunks import chunk_of, in_steps
from off2on.recipe.distributions import END, Distribution
from off2on.recipe.histories import EXTRA, HistorySteps, context_of, join, split
from off2on.recipe.networks import Nets
from off2on.replay.transforms import Transforms

UNITS = ("obs_mean", "obs_std", "action_low", "action_high")
"""Attributes of `Transforms` that convert observations and actions."""
TARGET = "target_return"
"""Name of the buffer with the return that a policy with a history is asked for, raw."""


class Acts(Protocol):
    """Hooks of an algorithm that a policy uses, see `off2on.recipe.hooks.Recipe`."""

    def act(self, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return actions at transformed observations [B, D]: [B, A] in [-1, 1], or integers [B]."""

    def q(self, nets: Nets, obs: Tensor, action: Tensor) -> Tensor | None:
        """Return each critic's value [E, B] of actions at transformed observations; None without a critic."""

    def known_distribution(self, nets: Nets, obs: Tensor, hp: Any) -> Distribution | None:
        """Return the distribution of exploring actions, or None if it has no density."""


class Policy(nn.Module):
    """Map raw observations to actions in the units of the environment.

    Args:
        recipe: Algorithm, which computes actions with the networks.
        nets: Networks.
        hp: Hyperparameters of the algorithm.
        transforms: Transforms of observations and actions.
    """

    def __init__(self, recipe: Acts, nets: Nets, hp: Any, transforms: Transforms) -> None:
        super().__init__()
        self.recipe, self.nets, self.hp = recipe, nets, hp
        self.discrete, self.chunk, self.context = transforms.discrete, chunk_of(hp), context_of(hp)
        for name in UNITS:
            value = torch.tensor(getattr(transforms, name))
            self.register_buffer(name, value, persistent=False)
        if self.context:
            self.register_buffer(TARGET, torch.tensor(float(hp.target_return)), persistent=False)

    def forward(self, obs: Tensor, explore: bool = False) -> Tensor:
        """Return actions in the environment's units at raw observations [B, D].

        A policy with a history takes the last K steps, [B, K, D + A + 2], in place of the last observation;
        see `off2on.recipe.histories` and `off2on.recipe.acting_memory.History`, which keeps them.

        Returns:
            [B, A] float32, or [B] int64 if actions are discrete; [B, h, A] of a policy of chunks, whose h
            actions are executed one after another (see `off2on.recipe.acting_memory`).
        """
        action = self.recipe.act(self.nets, self._normalise(obs), self.hp, explore)
        return self._to_environment(in_steps(action, self.chunk))

    @property
    def history(self) -> tuple[int, int] | None:
        """Shape (K, D + A + 2) of the histories that it takes; None: it takes observations."""
        return (
            (self.context, self._width + len(self.get_buffer("action_low")) + EXTRA) if self.context else None
        )

    @property
    def has_density(self) -> bool:
        """True if the distribution of exploring actions has a density."""
        return self._distribution(self._two_rows()) is not None

    def sampled(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Draw exploring actions at raw observations [B, D], and return them with their `log_prob` [B].

        Raises:
            ValueError: The policy has no density.
        """
        policy = self._require_density(obs)
        action = policy.draw()
        return self._to_environment(action), self._log_prob(
            policy, action if self.discrete else action.clamp(-1, 1)
        )

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return the log probability [B] of actions, in the environment's units, under exploration.

        For continuous actions it is a log density in those units; a dimension at an end of the action box has
        the probability of the end, as everything beyond is clipped to it.

        Args:
            obs: Raw observations [B, D].
            action: Actions [B, A], or [B].

        Raises:
            ValueError: The policy has no density.
        """
        return self._log_prob(self._require_density(obs), self._from_environment(action))

    def q(self, obs: Tensor, action: Tensor) -> Tensor | None:
        """Return each critic's value [E, B] of raw actions at raw observations [B, D]; None without a critic.

        Args:
            obs: Observations.
            action: Actions [B, A], chunks [B, h, A], or choices [B].
        """
        scaled = self._from_environment(action)
        return self.recipe.q(self.nets, self._normalise(obs), scaled if self.discrete else scaled.flatten(1))

    def _log_prob(self, policy: Distribution, action: Tensor) -> Tensor:
        density = policy.log_density(action)
        if self.discrete:
            return density
        half = (self.get_buffer("action_high") - self.get_buffer("action_low")) / 2
        return (density - torch.where(action.abs() < END, half.log(), 0.0)).sum(-1)

    def _distribution(self, obs: Tensor) -> Distribution | None:
        if self.chunk > 1 or self.context:  # a density of chunks is not one of the actions in the data
            return None
        return self.recipe.known_distribution(self.nets, self._normalise(obs), self.hp)

    def _require_density(self, obs: Tensor) -> Distribution:
        policy = self._distribution(obs)
        if policy is None:
            raise ValueError("the exploring actions of this policy have no density")
        return policy

    def _normalise(self, obs: Tensor) -> Tensor:
        if self.context:
            return self._normalise_history(obs)
        return (obs - self.get_buffer("obs_mean")) / self.get_buffer("obs_std")

    def _normalise_history(self, history: Tensor) -> Tensor:
        """Return histories [B, K, D + A + 2] in raw units as those of the losses, [B, K (D + A + 2)]."""
        steps = split(history.flatten(1), self.context, self._width)
        inside = steps.inside.unsqueeze(-1)
        acted = torch.cat((inside[:, :-1], torch.zeros_like(inside[:, :1])), 1)
        obs = (steps.obs - self.get_buffer("obs_mean")) / self.get_buffer("obs_std")
        ret = self.get_buffer(TARGET) - steps.ret
        return join(
            HistorySteps(
                inside * obs, acted * self._from_environment(steps.action), inside * ret, steps.number
            )
        )

    def _from_environment(self, action: Tensor) -> Tensor:
        if self.discrete:
            return action
        low, high = self.get_buffer("action_low"), self.get_buffer("action_high")
        return (2 * (action - low) / (high - low) - 1).clamp(-1, 1)

    def _to_environment(self, action: Tensor) -> Tensor:
        if self.discrete:
            return action
        # lerp ends exactly on the bounds; low + share * (high - low) may round to just outside.
        share = (action.clamp(-1, 1) + 1) / 2
        return torch.lerp(self.get_buffer("action_low"), self.get_buffer("action_high"), share)

    def _two_rows(self) -> Tensor:
        return self.get_buffer("obs_mean").new_zeros(2, *(self.history or (self._width,)))

    @property
    def _width(self) -> int:
        return len(self.get_buffer("obs_mean"))

    def export(self, explore: bool = False) -> bytes:
        """Return the content of a file that `load_policy` reads, without pickle.

        Args:
            explore: True to export `sampled` instead of the deterministic actions.
        """
        on_cpu = copy.deepcopy(self).cpu().eval()
        module = Sampling(on_cpu) if explore else on_cpu
        rows = {"obs": {0: torch.export.Dim("rows")}}
        program = torch.export.export(module, (on_cpu._two_rows(),), dynamic_shapes=rows)
        _drop_unused(program)
        content = io.BytesIO()
        torch.export.save(program, content)
        return content.getvalue()


def _drop_unused(program: torch.export.ExportedProgram) -> None:
    """Remove the parameters on which the actions do not depend, such as the spread of a mean policy."""
    program.graph.eliminate_dead_code()
    signature = program.graph_signature
    for node in list(program.graph.nodes):
        name = signature.inputs_to_parameters.get(node.name)
        if name is not None and not node.users:
            program.graph.erase_node(node)
            signature.input_specs = [spec for spec in signature.input_specs if spec.arg.name != node.name]
            del program.state_dict[name]


class Sampling(nn.Module):
    """Map raw observations [B, D] to exploring actions and their log probabilities [B].

    Args:
        policy: Policy to sample from.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Return `Policy.sampled` at raw observations [B, D]."""
        return self.policy.sampled(obs)


def history_of(policy: nn.Module) -> tuple[int, int] | None:
    """Return the shape (K, D + A + 2) of the histories that a policy takes; None: it takes observations.

    Args:
        policy: `Policy`, or module of `load_policy`.
    """
    return policy.history if isinstance(policy, Policy | LoadedPolicy) else None


def load_policy(path: str | Path, target_return: float | None = None) -> LoadedPolicy:
    """Load a file written by `Policy.export`, without Ray or the class of an algorithm; runs no code in it.

    Args:
        path: The file.
        target_return: Return that a policy with a history is asked for, in raw units, finite in float32;
            None: that of its run.

    Returns:
        A module that maps raw observations [B, D] to actions [B, A], float32, in the environment's units; to
        [B] int64 if actions are discrete, and to [B, h, A] if the policy decides about chunks of h actions.
        A policy with a history takes [B, K, D + A + 2], see `off2on.recipe.acting_memory.History`.
        Observations are a torch tensor or a NumPy array, float32 or converted to it, and actions of the same
        kind; one observation is ``obs[None]``. Another shape or type, NaN and infinite numbers are a
        `UserError`, see `off2on.policy_files.loaded.LoadedPolicy`.

    Raises:
        UserError: The file is not a policy, or has content that a policy does not need, see
            `off2on.policy_files.program`; or `target_return` is not finite, or the policy has none.
    """
    if target_return is not None and not abs(target_return) <= torch.finfo(torch.float32).max:
        raise UserError(f"the target return is {target_return}.", "Expected a finite number of float32.")
    module = load_program(path)
    if target_return is not None:
        if TARGET not in dict(module.named_buffers()):
            raise UserError(
                f"the policy {path} is asked for no return.", "Expected one of a Decision Transformer."
            )
        module.get_buffer(TARGET).fill_(target_return)
    return LoadedPolicy(module)
