"""EXPO: small edits of a flow's actions maximise Q, and the critics choose among the actions and their edits.

Dong, Li, Sadigh & Finn, "EXPO: Stable Reinforcement Learning with Expressive Policies", ICLR 2026,
arXiv:2507.07986; with one sample and without unedited actions it is FEdit of Li & Levine, "Q-learning with
Adjoint Matching", ICLR 2026, arXiv:2601.14234.

    actor        L_e     = E[ alpha log pi(e|s, b) - mean_i Q_i(s, clip(b + beta e)) ],  e ~ pi(s, b)
                 b         an action of the flow at s, without gradient
    temperature  L_alpha = -E[ alpha (log pi(e|s, b) + H) ],  H = -(action dimensions) / 2
    flow         L_v     = E[ |v(s, x_t, t) - (a - z)|^2 ],  x_t = (1 - t) z + t a,  z ~ N(0, 1),  t ~ U[0, 1]
    critic       L_Q     = sum_i E[ (r + gamma agg_j Q'_j(s', a*) - Q_i(s, a))^2 ]
    act          a*      = argmax of mean_i Q_i(s, .) over N edited actions, and over the N unedited ones

The flow only imitates the data; an edit is a local problem, which a Gaussian policy can solve. All losses use
the old networks, as in FEdit's code: the actor is updated before what it reads.

Differences from EXPO: the base is a flow, the paper's a diffusion model; the target is the mean minus half
the standard deviation, as in FEdit (REDQ's random pair is the online setting ``targets=random_pair``). As in
FEdit's code, edits are learned at the flow's actions, the paper's at the data's, and log pi is that of e, not
of beta e. The paper imitates offline, and trains critics and edits online only; here all learn offline, too.

Differences from FEdit: squares are sums over critics, its code takes a mean. Layer normalisation has epsilon
1e-5, its code 1e-6. Its presets are for chunks of actions on cubes, scenes and puzzles, and for sparse
rewards on scenes and puzzles. The deterministic action takes N fixed noises, of which the first is 0, and the
mode of pi; the authors evaluate with new noise and edits. Online they collect 5,000 steps before the first
update (``--strategy append online.warm_up=5000``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.bfn import BFN, BFNHyperparameters
from off2on.recipe import losses
from off2on.recipe.action_choice import best_proposal
from off2on.recipe.batch import Batch
from off2on.recipe.edits import EditHyperparameters, Edits
from off2on.recipe.flows import Field, euler, fixed_noise
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Critic, Nets, glorot
from off2on.recipe.ogbench import common_preset

# beta of FEdit.
SCALES = {
    "cube-double": 0.2, "cube-triple": 0.3, "cube-quadruple": 0.4, "scene": 0.2, "puzzle-3x3": 0.2,
    "puzzle-4x4": 0.8, "antmaze-large-navigate": 0.2, "antmaze-giant-navigate": 0.3,
    "humanoidmaze-medium-navigate": 0.5, "humanoidmaze-large-navigate": 0.1,
}  # fmt: skip


@dataclass(frozen=True)
class EXPOHyperparameters(EditHyperparameters, BFNHyperparameters):
    """Hyperparameters of the code of both papers."""

    samples: int = hp(8, "N, actions of the flow, all of which are edited", least=1, built=True)
    keep_unedited: bool = hp(True, "choose among the unedited actions, too")
    critics: int = hp(10, "number of critics", least=1, built=True)
    aggregate: str = hp("pessimistic", "combination of the critics in the target", choices=losses.AGGREGATES)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        domain: common_preset(domain, edit_scale=scale, samples=1, keep_unedited=False)
        for domain, scale in SCALES.items()
    }


class EXPO(Edits, BFN):
    """Small edits of a flow's actions, and the best of actions and edits; flow and critics are BFN's."""

    Hyperparameters = EXPOHyperparameters
    objectives = ("actor", "temperature", "flow", "critic")
    acting_networks = ("flow", "actor", "critic")

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build the policy of the edits, the log temperature, the flow, and critics with targets."""
        obs, action = obs_space.shape[0], action_space.shape[0]
        critic = Critic(obs, action, hp.hidden, hp.critics, layer_norm="after", activation="gelu")
        glorot(critic)
        flow = Field(obs, action, hp.hidden)
        flow.register_buffer("draws", fixed_noise(hp.samples, action))
        edits = cls.edit_networks(obs, action, hp.hidden)
        return Nets(**edits, flow=flow, critic=critic, targets=("critic",))

    @classmethod
    def best_action(cls, nets: Nets, obs: Tensor, noise: Tensor, hp: Any, draw: bool = True) -> Tensor:
        """Return the best action [B, A] of those from noise [n, B, A] and their edits, drawn or the mode."""
        base = euler(nets.flow, obs, noise, hp.flow_steps)
        proposals = cls.edited(nets, obs, base, hp, draw)
        if hp.keep_unedited:
            proposals = torch.cat((base, proposals))
        if len(proposals) == 1:
            return proposals[0]
        return best_proposal(nets.critic(obs, proposals).mean(0), proposals)

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add an action of the flow with an edit, see `draw_edit`, to what BFN adds."""
        batch = super().prepare(nets, batch, hp)
        with torch.no_grad():
            base = euler(nets.flow, batch.obs, torch.randn_like(batch.action), hp.flow_steps)
        cls.draw_edit(nets, batch, base)
        return batch

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: Any, explore: bool) -> Tensor:
        """Return the best action, from new noise and edits if exploring and always the same otherwise."""
        noise = nets.flow.draws.expand(-1, obs.shape[0], -1)
        return cls.best_action(nets, obs, torch.randn_like(noise) if explore else noise, hp, explore)
