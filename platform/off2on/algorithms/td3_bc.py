"""TD3+BC: TD3, pulled towards the data's actions.

Fujimoto & Gu, "A Minimalist Approach to Offline Reinforcement Learning", NeurIPS 2021,
arXiv:2106.06860; TD3 is Fujimoto, van Hoof & Meger, arXiv:1802.09477.

    critic  L_Q  = sum_i E[ (r + gamma min_j Q'_j(s', a') - Q_i(s, a))^2 ]
            a'   = clip(pi'(s') + clip(noise, -c, c), -1, 1),  noise ~ N(0, sigma^2)
    actor   L_pi = -lambda E[ Q_1(s, pi(s)) ] + E[ |pi(s) - a|^2 ],  lambda = alpha / E|Q_1|

The second term is a mean over action dimensions (equation 3 and the authors' code). Actor and
targets move on every second update. Observations are normalised (section 4.2).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from off2on import losses
from off2on.algorithm import OfflineToOnline
from off2on.batches import Batch
from off2on.hyperparameters import NORMALISE, Hyperparameters, hp
from off2on.nets import Critic, DeterministicActor, Nets
from off2on.recipe import Loss, Objective


@dataclass(frozen=True)
class TD3BCHyperparameters(Hyperparameters):
    """Table 3 of the paper."""

    alpha: float = hp(
        2.5, "weight of Q against cloning; 0 is behaviour cloning", least=0, search=("log", 0.5, 10)
    )
    critic_lr: float = hp(3e-4, "Adam's step size for the critics", above=0, search=("log", 1e-4, 1e-3))
    target_noise: float = hp(0.2, "sigma of the noise on the target's action", least=0)
    noise_clip: float = hp(0.5, "bound c on that noise", least=0)
    exploration_noise: float = hp(0.1, "sigma of the noise on actions when collecting online", least=0)
    normalise_obs: bool = hp(True, NORMALISE)


class TD3BC(OfflineToOnline):
    """TD3, pulled towards the data's actions."""

    Hyperparameters = TD3BCHyperparameters
    objectives = ("critic", Objective("actor", every=2))
    targets_every = 2

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: TD3BCHyperparameters) -> Nets:
        """Twin critics and a tanh policy, both followed by targets."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        return Nets(
            critic=Critic(obs, action, hp.hidden),
            actor=DeterministicActor(obs, action, hp.hidden),
            targets=("critic", "actor"),
        )

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: TD3BCHyperparameters) -> Loss:
        """Clipped double Q-learning with a smoothed target action."""
        with torch.no_grad():
            noise = (torch.randn_like(batch.action) * hp.target_noise).clamp(-hp.noise_clip, hp.noise_clip)
            action = (nets.target.actor(batch.next_obs) + noise).clamp(-1, 1)
            future = nets.target.critic(batch.next_obs, action).amin(0)
            target = batch.reward + hp.discount * batch.mask * future
        q = nets.critic(batch.obs, batch.action)
        return losses.td(q, target), {"q": q.detach().mean()}

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: TD3BCHyperparameters) -> Loss:
        """Q of the policy's action, scaled to size alpha, plus cloning."""
        action = nets.actor(batch.obs)
        q = nets.critic.first(batch.obs, action)
        clone = F.mse_loss(action, batch.action)
        scale = hp.alpha / q.detach().abs().mean()
        return clone - scale * q.mean(), {"actor/clone": clone.detach()}

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: TD3BCHyperparameters, explore: bool) -> Tensor:
        """The policy's action, with Gaussian noise when exploring."""
        action: Tensor = nets.actor(obs)
        return action + hp.exploration_noise * torch.randn_like(action) if explore else action
