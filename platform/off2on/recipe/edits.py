"""Edits of actions: a small Gaussian policy that moves the actions of another policy to higher values.

Dong, Li, Sadigh & Finn, "EXPO: Stable Reinforcement Learning with Expressive Policies", ICLR 2026,
arXiv:2507.07986; the losses are those of FEdit in Li & Levine, "Q-learning with Adjoint Matching", ICLR 2026,
arXiv:2601.14234. A policy pi(e|s, b) edits an action b to clip(b + beta e); e is in (-1, 1).
"""

from dataclasses import dataclass

from torch import Tensor, nn

from off2on.recipe import losses
from off2on.recipe.actors import SquashedGaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.distributions import TanhNormal
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import Settings, hp
from off2on.recipe.networks import Nets, Scalar, concatenate, glorot


@dataclass(frozen=True)
class EditHyperparameters(Settings):
    """Hyperparameters of the edits."""

    edit_scale: float = hp(
        0.2,
        "beta, the largest edit of an action: 0.05 refines, 0.7 explores",
        least=0,
        most=2,
        search=("choice", 0.05, 0.1, 0.2, 0.3, 0.5, 0.8),
    )
    target_entropy: float | None = hp(None, "H, target entropy; none: minus half the action dimensions")
    temperature_lr: float = hp(3e-4, "learning rate of the log temperature (Adam)", above=0)


class Edits:
    """Adds the objectives ``actor``, a policy of edits, and ``temperature`` to a recipe.

    The recipe builds `edit_networks` and a ``critic``, and its `prepare` calls `draw_edit`.
    """

    @classmethod
    def edit_networks(cls, obs: int, action: int, hidden: tuple[int, ...]) -> dict[str, nn.Module]:
        """Build the policy of the edits and the log temperature."""
        actor = SquashedGaussianActor(obs + action, action, hidden, activation="gelu")
        glorot(actor)
        return {"actor": actor, "temperature": Scalar(0.0)}

    @classmethod
    def edited(cls, nets: Nets, obs: Tensor, base: Tensor, hp: EditHyperparameters, draw: bool) -> Tensor:
        """Return actions [B, A] or [n, B, A] with an edit each: drawn, or the mode of the policy."""
        policy: TanhNormal = nets.actor(concatenate(obs, base))
        return (base + hp.edit_scale * (policy.draw() if draw else policy.mode)).clamp(-1, 1)

    @classmethod
    def draw_edit(cls, nets: Nets, batch: Batch, base: Tensor) -> None:
        """Add ``base`` [B, A], actions at s, and differentiable draws of ``edit`` and ``edit_log_prob``.

        The shapes are [B, A] and [B].
        """
        batch.base = base.detach()
        batch.edit, batch.edit_log_prob = nets.actor(concatenate(batch.obs, batch.base)).sample()

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: EditHyperparameters) -> Loss:
        """Compute alpha log pi of the edit minus the mean value of the edited action."""
        action = (batch.base + hp.edit_scale * batch.edit).clamp(-1, 1)
        alpha, q = nets.temperature().detach().exp(), nets.critic(batch.obs, action).mean(0)
        loss: Tensor = (alpha * batch.edit_log_prob - q).mean()
        return loss, {"actor/edit": batch.edit.detach().abs().mean()}

    @classmethod
    def compute_temperature_loss(cls, nets: Nets, batch: Batch, hp: EditHyperparameters) -> Loss:
        """Compute the loss that moves alpha towards the target entropy of the edits."""
        entropy = -0.5 * batch.action.shape[-1] if hp.target_entropy is None else hp.target_entropy
        return losses.learned_temperature(nets.temperature(), batch.edit_log_prob, entropy)
