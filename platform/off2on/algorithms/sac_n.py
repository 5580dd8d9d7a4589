"""SAC-N: SAC that uses the minimum over N critics.

An, Moon, Kim & Song, "Uncertainty-Based Offline Reinforcement Learning with Diversified Q-Ensemble",
NeurIPS 2021, arXiv:2110.01548.

    actor   L_pi = E[ alpha log pi(a~|s) - min_i Q_i(s, a~) ],  a~ ~ pi(s),  i = 1 … N
    critic  L_Q  = sum_i E[ (r + gamma (min_j Q'_j(s', a') - alpha log pi(a'|s')) - Q_i(s, a))^2 ]

Both losses, the temperature's and the order are SAC's. Different are N, three hidden layers, a narrower
range of sigma, and the initialisation: hidden biases of 0.1, last layers so small that at first all actions
have nearly the same value.

Differences: every loss uses the networks after the update before it, as in CORL; the authors
compute all three losses first. The policy's hidden weights are initialised as in `torch.nn.Linear` (CORL),
not within 1 / sqrt(width of the layer). ``backup_actions``, which the authors need for pen-cloned, uses the
targets as in CQL, not the critics. Presets have CORL's N.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from off2on.algorithms.sac import SAC, SACHyperparameters
from off2on.recipe.actors import SquashedGaussianActor
from off2on.recipe.batch import Batch
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Critic, Nets, start_small

ADROIT = {"actor_lr": 3e-5, "temperature_lr": 3e-5, "reward": "standardise"}


@dataclass(frozen=True)
class SACNHyperparameters(SACHyperparameters):
    """Hyperparameters of the authors' configuration and of CORL."""

    critics: int = hp(10, "N, number of critics: more are more pessimistic; 10 to 500 by data set", least=1)
    backup_actions: int = hp(
        1, "number of actions at s' that the target maximises over; without entropy if several", least=1
    )
    hidden: tuple[int, ...] = hp((256, 256, 256), "widths of the hidden layers", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "halfcheetah": {"critics": 10},
        "walker2d": {"critics": 20},
        "hopper": {"critics": 200},
        "hopper-medium": {"critics": 500},
        "adroit": {"critics": 100, **ADROIT},
    }


class BackupSAC(SAC):
    """SAC whose target may maximise over several actions at s', see ``backup_actions``."""

    @classmethod
    def soft_target(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor, log_prob: Tensor) -> Tensor:
        """Return SAC's target, or for several actions r + gamma min_j max_n Q'_j(s', a'_n)."""
        if hp.backup_actions == 1:
            return super().soft_target(nets, batch, hp, action, log_prob)
        actions, _ = nets.actor(batch.next_obs).sample(hp.backup_actions)
        future = cls.target_value(nets, batch, hp, actions).amax(0)
        return batch.reward + hp.discount * batch.mask * future  # type: ignore[no-any-return]

    @classmethod
    def target_value(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """Return SAC's value [B], or for actions [n, B, A] the minimum [1, B] of the critics' largest values.

        A combination of the online phase returns [n, B] instead, of which the target is the maximum.
        """
        if action.dim() == 2:
            return super().target_value(nets, batch, hp, action)
        return cls.target_values(nets, batch, hp, action).amax(1).amin(0)[None]  # type: ignore[no-any-return]


class SACN(BackupSAC):
    """SAC that uses the minimum over N critics."""

    Hyperparameters = SACNHyperparameters

    @classmethod
    def new_actor(cls, obs: int, action: int, hp: Any) -> SquashedGaussianActor:
        """Build a policy that starts near tanh(N(0, 1)) in every state."""
        actor = SquashedGaussianActor(obs, action, log_std=(-5.0, 2.0), **hp.actor_layers)
        start_small(actor, 1e-3)
        return actor

    @classmethod
    def new_critic(cls, obs: int, action: int, hp: Any) -> Critic:
        """Build critics that start near 0."""
        critic = super().new_critic(obs, action, hp)
        start_small(critic, 3e-3)
        return critic
