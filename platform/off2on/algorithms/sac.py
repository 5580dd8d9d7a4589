"""SAC: an entropy-regularised off-policy actor-critic.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", arXiv:1812.05905.

    temperature  L_alpha = -E[ log alpha (log pi(a~|s) + H) ],  H = -(action dimensions)       (18)
    actor        L_pi    = E[ alpha log pi(a~|s) - min_i Q_i(s, a~) ],  a~ ~ pi(s)              (7)
    critic       L_Q     = sum_i E[ (r + gamma (min_j Q'_j(s', a') - alpha log pi(a'|s')) - Q_i(s, a))^2 ]
                 a' ~ pi(s')                                                                    (5)

Order as in rlkit and the ensemble papers: temperature, actor, critic, targets. The temperature's
loss is in its logarithm (rlkit, CORL); ``temperature_form=alpha`` is the paper's equation. It is the
backbone of CQL and the ensembles; by itself, offline, it overestimates actions that are not in the data.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.recipe import losses
from off2on.recipe.actors import SquashedGaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import CriticHeadHyperparameters, head_of
from off2on.recipe.distributions import TanhNormal
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import ACTIVATION, ACTIVATIONS, NORM_PLACE, NORMS, Critic, Nets, Scalar
from off2on.rllib.algorithm import OfflineToOnline


@dataclass(frozen=True)
class SACHyperparameters(CriticHeadHyperparameters):
    """Hyperparameters of table 1."""

    critic_lr: float = hp(3e-4, "learning rate of the critics (Adam)", above=0, search=("log", 1e-4, 1e-3))
    temperature_lr: float = hp(3e-4, "learning rate of the log temperature (Adam)", above=0)
    critics: int = hp(2, "number of critics", least=1, built=True)
    initial_temperature: float = hp(1.0, "initial alpha", above=0, built=True)
    target_entropy: float | None = hp(None, "H, target entropy; none: minus the number of action dimensions")
    temperature_form: str = hp(
        "log", "loss in log alpha (rlkit, CORL) or in alpha (paper)", choices=("log", "alpha")
    )
    entropy_backup: bool = hp(True, "subtract alpha log pi from the critics' target")
    layer_norm: bool = hp(False, "layer normalisation of the critics (RLPD, WSRL)", built=True)
    actor_layer_norm: bool = hp(False, "layer normalisation of the policy (WSRL)", built=True)
    norm_place: str = hp("before", NORM_PLACE, choices=NORMS, built=True)
    activation: str = hp("relu", ACTIVATION, choices=tuple(ACTIVATIONS), built=True)
    actor_hidden: tuple[int, ...] = hp(
        (), "widths of the policy's hidden layers, if others", least=1, built=True
    )

    @property
    def actor_layers(self) -> dict[str, Any]:
        """Arguments of a policy's network: widths, activation and place of layer normalisation."""
        norm = self.norm_place if self.actor_layer_norm else None
        return {"hidden": self.actor_hidden or self.hidden, "activation": self.activation, "layer_norm": norm}


class SAC(OfflineToOnline):
    """Entropy-regularised actor-critic."""

    Hyperparameters = SACHyperparameters
    objectives: ClassVar[tuple[str | Objective, ...]] = ("temperature", "actor", "critic")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: SACHyperparameters) -> Nets:
        """Build critics with targets, a squashed Gaussian policy and the log temperature."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        return Nets(
            temperature=Scalar(torch.tensor(hp.initial_temperature).log().item()),
            actor=cls.new_actor(obs, action, hp),
            critic=cls.new_critic(obs, action, hp),
            targets=("critic",),
        )

    @classmethod
    def new_actor(cls, obs: int, action: int, hp: Any) -> SquashedGaussianActor:
        """Build the policy."""
        return SquashedGaussianActor(obs, action, **hp.actor_layers)

    @classmethod
    def new_critic(cls, obs: int, action: int, hp: Any) -> Critic:
        """Build the critics."""
        norm = hp.norm_place if hp.layer_norm else None
        return Critic(obs, action, hp.hidden, hp.critics, norm, hp.activation, head_of(hp))

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: SACHyperparameters) -> Batch:
        """Draw ``own_action`` [B, A] ~ pi(s) with its ``own_log_prob`` [B], both with gradient."""
        batch.own_action, batch.own_log_prob = nets.actor(batch.obs).sample()
        return batch

    @classmethod
    def compute_temperature_loss(cls, nets: Nets, batch: Batch, hp: SACHyperparameters) -> Loss:
        """Compute the loss that moves alpha towards the target entropy."""
        target_entropy = -float(batch.action.shape[-1]) if hp.target_entropy is None else hp.target_entropy
        log_alpha, form = nets.temperature(), hp.temperature_form
        return losses.learned_temperature(log_alpha, batch.own_log_prob, target_entropy, form)

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: SACHyperparameters) -> Loss:
        """Compute alpha log pi minus the value of the reparameterised sample."""
        alpha = nets.temperature().detach().exp()
        q = cls.actor_value(nets.critic(batch.obs, batch.own_action))
        return (alpha * batch.own_log_prob - q).mean(), {}

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: SACHyperparameters) -> Loss:
        """Compute the soft Bellman error of every critic against the minimum target."""
        with torch.no_grad():
            action, log_prob = nets.actor(batch.next_obs).sample()
            target = cls.soft_target(nets, batch, hp, action, log_prob)
        q = nets.critic.predict(batch.obs, batch.action)
        return losses.td(q, target, batch.weight), {"q": q.detach().mean()}

    @classmethod
    def soft_target(
        cls, nets: Nets, batch: Batch, hp: SACHyperparameters, action: Tensor, log_prob: Tensor
    ) -> Tensor:
        """Return the target [B]: r + gamma (min_j Q'_j(s', a') - alpha log pi(a'|s'))."""
        future = cls.target_value(nets, batch, hp, action)
        if hp.entropy_backup:
            future = future - nets.temperature().exp() * log_prob
        return batch.reward + hp.discount * batch.mask * future  # type: ignore[no-any-return]

    @classmethod
    def actor_value(cls, q: Tensor) -> Tensor:
        """Return the value [B] that the actor maximises, the minimum of the critics' values [E, B]."""
        return q.amin(0)

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """Return the minimum over the target critics [B] at s' and an action there."""
        return cls.target_values(nets, batch, hp, action).amin(0)  # type: ignore[no-any-return]

    @classmethod
    def distribution(cls, nets: Nets, obs: Tensor, hp: Any) -> TanhNormal:
        """Return the squashed Gaussian distribution of actions at [B, D]."""
        return nets.actor(obs)  # type: ignore[no-any-return]
