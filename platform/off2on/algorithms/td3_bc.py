"""TD3+BC: TD3 with a behaviour cloning term in the policy's loss.

Fujimoto & Gu, "A Minimalist Approach to Offline Reinforcement Learning", NeurIPS 2021,
arXiv:2106.06860.

    critic  L_Q  = TD3's
    actor   L_pi = -lambda E[ Q_1(s, pi(s)) ] + E[ |pi(s) - a|^2 ],  lambda = alpha / E|Q_1|

Order as in TD3. Observations are normalised (section 4.2).

Differences: none from the authors' code, where the second term is a mean over action dimensions and
no gradient flows through lambda.
"""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from off2on.algorithms.td3 import TD3, TD3Hyperparameters
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import NORMALISE, hp
from off2on.recipe.networks import Nets


@dataclass(frozen=True)
class TD3BCHyperparameters(TD3Hyperparameters):
    """Hyperparameters of table 3."""

    alpha: float = hp(
        2.5, "weight of Q relative to cloning; 0 is behaviour cloning", least=0, search=("log", 0.5, 10)
    )
    normalise_obs: bool = hp(True, NORMALISE)


class TD3BC(TD3):
    """TD3 with a behaviour cloning term in the policy's loss."""

    Hyperparameters = TD3BCHyperparameters
    regularisation = ("alpha",)

    @classmethod
    def scale_regularisation(cls, hp: Any, share: float) -> Any:
        """Increase the weight of Q: with Adam, only the ratio of the two terms matters."""
        return replace(hp, alpha=hp.alpha / max(share, 1e-6))

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the cloning loss minus the Q of the policy's action, scaled to size alpha."""
        action = nets.actor(batch.obs)
        q = nets.critic.first(batch.obs, action)
        clone = cls.distance(nets, batch, hp, action, q.detach())
        scale = hp.alpha / q.detach().abs().mean()
        return clone - scale * q.mean(), {"actor/clone": clone.detach()}

    @classmethod
    def distance(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor, q: Tensor) -> Tensor:
        """Compute the distance of the policy's actions [B, A], with values q [B], to the data's actions."""
        return F.mse_loss(action, batch.action)
