"""ReBRAC: TD3 with a penalty on the distance to the data's actions, in actor and critic.

Tarasov, Kurenkov, Nikulin & Kolesnikov, "Revisiting the Minimalist Approach to Offline Reinforcement
Learning", NeurIPS 2023, arXiv:2305.09836.

    critic  L_Q  = sum_i E[ (r + gamma (min_j Q'_j(s', a') - beta_2 |a' - b'|^2) - Q_i(s, a))^2 ]
            a' as in TD3,  b' the data's action at s'
    actor   L_pi = E[ beta_1 |pi(s) - a|^2 - lambda min_i Q_i(s, pi(s)) ],  lambda = 1 / E|min_i Q_i|

Distances are sums over action dimensions. Critics have layer normalisation after every ReLU, and the last
layers start small. Order as in TD3. Online, beta_1 decreases linearly to half, at half of the online
updates, and beta_2 is 0, as in the authors' code.

Differences: at the end of an episode the data has no b'. A terminated episode has no next value; where an
episode was truncated, the next value has no penalty (the authors drop such rows). The actor's target network
is updated towards the actor after its step; the authors' towards that before. AntMaze's rewards are not
scaled; the authors multiply them by 100. OGBench's presets have its widths, GELU, weights, which stay
the same online, and exploration noise, but this paper's initialisation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from off2on.algorithms.td3 import TD3, TD3Hyperparameters
from off2on.recipe.actors import DeterministicActor
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import head_of
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import ACTIVATION, ACTIVATIONS, NORM_PLACE, NORMS, Critic, Nets, start_small

SMALL = {"batch_size": 256, "actor_lr": 3e-4, "critic_lr": 3e-4}
MAZE = SMALL | {"critic_lr": 5e-5, "discount": 0.999}

# beta_1 and beta_2 by data set.
LOCOMOTION = ("random", "medium", "medium-replay", "medium-expert", "full-replay", "expert")
HALFCHEETAH = (0.001, 0.1), (0.001, 0.01), (0.01, 0.001), (0.01, 0.1), (0.001, 0.1), (0.01, 0.01)
HOPPER = (0.001, 0.01), (0.01, 0.01), (0.05, 0.5), (0.1, 0.01), (0.01, 0.01), (0.1, 0.1)
WALKER2D = (0.01, 0.0), (0.05, 0.1), (0.05, 0.01), (0.01, 0.01), (0.01, 0.01), (0.01, 0.5)
ADROIT = ("human", "cloned", "expert")
PEN, DOOR = ((0.1, 0.5), (0.05, 0.5), (0.01, 0.01)), ((0.1, 0.1), (0.01, 0.1), (0.05, 0.01))
HAMMER, RELOCATE = ((0.01, 0.5), (0.1, 0.5), (0.01, 0.01)), ((0.1, 0.01), (0.1, 0.01), (0.05, 0.01))
ANTMAZE = ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")
ANT = (0.003, 0.002), (0.003, 0.001), (0.001, 0.0005), (0.001, 0.0), (0.002, 0.001), (0.002, 0.002)

# OGBench (Park et al., arXiv:2502.02538), with its discount.
WIDE = SMALL | {
    "hidden": (512,) * 4, "activation": "gelu", "online_floor": 1.0, "online_critic": 1.0,
    "exploration_noise": 0.2,
}  # fmt: skip
OGBENCH = {
    "antmaze-large-navigate": (0.003, 0.01), "antmaze-giant-navigate": (0.003, 0.01),
    "humanoidmaze": (0.01, 0.01), "cube-single": (1.0, 0.0), "cube-double": (0.1, 0.0), "scene": (0.1, 0.01),
    "puzzle": (0.3, 0.01),
}  # fmt: skip
FAR = {"antmaze-giant-navigate": {"discount": 0.995}, "humanoidmaze": {"discount": 0.995}}


def _presets() -> dict[str, dict[str, object]]:
    """Return the presets by data set; those of a family have the middle values of its data sets."""

    def betas(pair: tuple[float, float]) -> dict[str, object]:
        return {"actor_beta": pair[0], "critic_beta": pair[1]}

    presets = {"antmaze": MAZE | betas((0.002, 0.001)), "adroit": SMALL | betas((0.1, 0.1))}
    for name, kinds, table, common in (
        ("halfcheetah", LOCOMOTION, HALFCHEETAH, {}),
        ("hopper", LOCOMOTION, HOPPER, {}),
        ("walker2d", LOCOMOTION, WALKER2D, {}),
        ("pen", ADROIT, PEN, SMALL),
        ("door", ADROIT, DOOR, SMALL),
        ("hammer", ADROIT, HAMMER, SMALL),
        ("relocate", ADROIT, RELOCATE, SMALL),
        ("antmaze", ANTMAZE, ANT, MAZE),
    ):
        for kind, pair in zip(kinds, table, strict=True):
            presets[f"{name}-{kind}"] = {**common, **betas(pair)}
    for name, pair in OGBENCH.items():
        presets[name] = {**WIDE, **betas(pair), **FAR.get(name, {})}
    return presets


@dataclass(frozen=True)
class ReBRACHyperparameters(TD3Hyperparameters):
    """Hyperparameters of the paper's appendix and the authors' configurations."""

    actor_beta: float = hp(
        0.01, "beta_1, weight of the actor's penalty", least=0, search=("choice", 0.001, 0.01, 0.05, 0.1)
    )
    critic_beta: float = hp(
        0.01, "beta_2, weight of the target's penalty", least=0, search=("choice", 0.0, 0.001, 0.01, 0.1, 0.5)
    )
    online_floor: float = hp(0.5, "final share of beta_1 online", least=0, most=1)
    online_critic: float = hp(0.0, "share of beta_2 online", least=0, most=1)
    exploration_noise: float = hp(0.0, "sigma of the noise on exploring actions", least=0)
    critic_lr: float = hp(1e-3, "learning rate of the critics (Adam)", above=0, search=("log", 1e-4, 1e-3))
    actor_lr: float = hp(1e-3, "learning rate of the policy (Adam)", above=0, search=("log", 1e-4, 1e-3))
    batch_size: int = hp(1024, "transitions per gradient update, over all learners", least=1)
    hidden: tuple[int, ...] = hp((256, 256, 256), "widths of the hidden layers", least=1)
    norm_place: str = hp("after", NORM_PLACE, choices=NORMS, built=True)
    activation: str = hp("relu", ACTIVATION, choices=tuple(ACTIVATIONS), built=True)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = _presets()


class ReBRAC(TD3):
    """TD3 with a penalty on the distance to the data's actions."""

    Hyperparameters = ReBRACHyperparameters
    columns = (*TD3.columns, "next_action", "last")
    regularisation = ("actor_beta", "critic_beta")

    @classmethod
    def new_critic(cls, obs: int, action: int, hp: Any) -> Critic:
        """Build critics with layer normalisation and values near 0."""
        critic = Critic(obs, action, hp.hidden, hp.critics, hp.norm_place, hp.activation, head_of(hp))
        start_small(critic, 3e-3)
        return critic

    @classmethod
    def new_actor(cls, obs: int, action: int, hp: Any) -> DeterministicActor:
        """Build a policy with actions near 0."""
        actor = DeterministicActor(obs, action, hp.hidden, hp.activation)
        start_small(actor, 1e-3)
        return actor

    @classmethod
    def next_value(cls, nets: Nets, batch: Batch, hp: Any, action: Tensor) -> Tensor:
        """Return TD3's value minus the penalty, where the data has a next action."""
        penalty = (1 - batch.last) * (action - batch.next_action).square().sum(-1)
        beta = hp.critic_beta * (1 if batch.progress < 1 else hp.online_critic)
        value: Tensor = super().next_value(nets, batch, hp, action) - beta * penalty
        return value

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the penalty minus the minimum Q of the policy's action, scaled to size 1."""
        action = nets.actor(batch.obs)
        q = nets.critic(batch.obs, action).amin(0)
        scale = 1 / q.detach().abs().mean()
        beta = hp.actor_beta * (1 if batch.progress < 1 else max(hp.online_floor, 2 - batch.progress))
        penalty = (action - batch.action).square().sum(-1)
        return (beta * penalty - scale * q).mean(), {"actor/penalty": penalty.detach().mean()}
