"""SAC-N: SAC that believes the most pessimistic of N critics.

An, Moon, Kim & Song, "Uncertainty-Based Offline Reinforcement Learning with Diversified Q-Ensemble",
NeurIPS 2021, arXiv:2110.01548.

    actor   L_pi = E[ alpha log pi(a~|s) - min_i Q_i(s, a~) ],  a~ ~ pi(s),  i = 1 … N
    critic  L_Q  = sum_i E[ (r + gamma (min_j Q'_j(s', a') - alpha log pi(a'|s')) - Q_i(s, a))^2 ]

Both losses, the temperature's and the order are SAC's. What differs is N, three hidden layers, a
narrower range of sigma, and how the networks start: hidden biases at 0.1, last layers so small that
at first no action looks better than another.

Differences: every loss sees the networks as the one before it left them, as in CORL; the authors
compute all three and step afterwards. The policy's hidden weights start as `torch.nn.Linear`'s (CORL),
not within 1 / sqrt(width of the layer). ``backup_actions``, which the authors need for pen-cloned,
asks the targets as CQL does, not the critics themselves. Presets have CORL's N.
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
    """The authors' configuration, and CORL's."""

    critics: int = hp(10, "N: the more, the more pessimistic; 10 to 500 by data set", least=1)
    backup_actions: int = hp(
        1, "actions drawn at s'; of several the target takes the best, and then no entropy", least=1
    )
    hidden: tuple[int, ...] = hp((256, 256, 256), "widths of the hidden layers", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "halfcheetah": {"critics": 10},
        "walker2d": {"critics": 20},
        "hopper": {"critics": 200},
        "hopper-medium": {"critics": 500},
        "adroit": {"critics": 100, **ADROIT},
    }


class SACN(SAC):
    """SAC that believes the most pessimistic of N critics."""

    Hyperparameters = SACNHyperparameters

    @classmethod
    def new_actor(cls, obs: int, action: int, hp: Any) -> SquashedGaussianActor:
        """A policy that starts at tanh(N(0, 1)), nearly, everywhere."""
        actor = SquashedGaussianActor(obs, action, hp.hidden, log_std=(-5.0, 2.0))
        start_small(actor, 1e-3)
        return actor

    @classmethod
    def new_critic(cls, obs: int, action: int, hp: Any) -> Critic:
        """Critics that start near 0."""
        critic = super().new_critic(obs, action, hp)
        start_small(critic, 3e-3)
        return critic

    @classmethod
    def soft_target(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor, log_prob: Tensor) -> Tensor:
        """SAC's, or with the best of several actions: r + gamma min_j max_n Q'_j(s', a'_n)."""
        if hp.backup_actions == 1:
            return super().soft_target(nets, batch, hp, action, log_prob)
        actions, _ = nets.actor(batch.next_obs).sample(hp.backup_actions)
        future = nets.target.critic(batch.next_obs, actions).amax(1).amin(0)
        return batch.reward + hp.discount * batch.mask * future  # type: ignore[no-any-return]
