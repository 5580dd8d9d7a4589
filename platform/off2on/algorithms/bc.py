"""BC: behaviour cloning, regression on the data's actions.

Pomerleau, "Efficient Training of Artificial Neural Networks for Autonomous Navigation", Neural
Computation 3(1), 1991; the baseline of offline reinforcement learning.

    actor   L_pi = E[ |pi(s) - a|^2 ]      mean over batch and action dimensions (deterministic)
    actor   L_pi = -E[ log pi(a|s) ]       pi(s) = N(tanh f(s), g(s))            (gaussian)

Differences: the network squashes its output, or its mean, by tanh, because actions lie in [-1, 1].
d3rlpy's stochastic BC minimises the squared distance of a sample; here it is the likelihood.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from off2on.recipe.actors import DeterministicActor, StateGaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.distributions import Normal
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import Hyperparameters, hp
from off2on.recipe.networks import Nets
from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class BCHyperparameters(Hyperparameters):
    """Hyperparameters of BC."""

    policy: str = hp(
        "deterministic",
        "one action per state, fitted by regression, or a Gaussian, fitted by likelihood",
        choices=("deterministic", "gaussian"),
        built=True,
    )


class BC(OfflineToOnline):
    """Behaviour cloning."""

    Hyperparameters = BCHyperparameters
    columns = ("obs", "action")
    objectives = ("actor",)

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: BCHyperparameters) -> Nets:
        """Build the policy."""
        actor = DeterministicActor if hp.policy == "deterministic" else StateGaussianActor
        return Nets(actor=actor(obs_space.shape[0], action_space.shape[0], hp.hidden))

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: BCHyperparameters) -> Loss:
        """Compute the squared distance to the data's actions, or their negative log-likelihood."""
        policy = nets.actor(batch.obs)
        if hp.policy == "deterministic":
            return F.mse_loss(policy, batch.action), {}
        return -policy.log_prob(batch.action).mean(), {"actor/sigma": policy.std.detach().mean()}

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: BCHyperparameters) -> Normal | None:
        """Return the Gaussian of a Gaussian policy, None of a deterministic one."""
        return None if hp.policy == "deterministic" else nets.actor(obs)

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: BCHyperparameters, explore: bool) -> Tensor:
        """Return the policy's action; of a Gaussian the mean, or a sample if exploring."""
        if hp.policy == "deterministic":
            return nets.actor(obs)  # type: ignore[no-any-return]
        return super().act(nets, obs, hp, explore)
