"""COMBO: CQL on recorded and synthetic transitions; values decrease on the model's, increase on the data's.

Yu et al., "COMBO: Conservative Offline Model-Based Policy Optimization", NeurIPS 2021,
arXiv:2102.08363.

    critic  L_Q = sum_i E_f[ (y - Q_i(s, a))^2 ] + m w sum_i (E_rho[ LSE_i(s) ] - E_data[ Q_i(s, a) ] - tau)
            y, LSE_i, m and tau as in CQL

E_f is over the whole batch, a share f of which is recorded; E_rho over all of its states or the
synthetic ones only (``rho=model``); E_data over the recorded ones. The dynamics, the rollouts and
their termination are MOPO's, without a penalty. Presets: w, h and learning rates by data set
as AI-Optimizer has them (``hopper-medium``), and OfflineRL-Kit's, tuned again for version 2 of the
data (``hopper-medium-v2``).

Differences: the paper's regulariser takes actions of pi or uniform ones, one choice per data set; here, as in
the code of others (the authors published none), both, weighted as in CQL. Without synthetic rows,
``real_ratio=1`` or before the first round, it is CQL bit for bit. OfflineRL-Kit's log-sum-exp runs over three
values at a time instead of 3n, and its policy's learning rate decreases along a cosine; not here.
``gap_floor`` bounds the difference of the two means, because they are of different rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.cql import CQL, CQLHyperparameters
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import Prediction, values_of
from off2on.recipe.hyperparameters import hp
from off2on.recipe.model_based import ModelBased, ModelHyperparameters
from off2on.recipe.networks import Nets

SLOW, STEPS = (1e-4, 1e-5, 1e-5), (3e-4, 1e-4, 1e-4)
"""Learning rates of critics, policy and temperature."""

ORIGIN = {
    "halfcheetah": (5, 0.5, STEPS),
    "hopper-random": (5, 1.0, STEPS),
    "hopper-medium": (5, 5.0, STEPS),
    "hopper-medium-replay": (5, 1.0, STEPS),
    "hopper-medium-expert": (5, 5.0, STEPS),
    "walker2d-random": (1, 0.5, SLOW),
    "walker2d-medium": (1, 5.0, SLOW),
    "walker2d-medium-replay": (1, 0.5, SLOW),
    "walker2d-medium-expert": (1, 5.0, SLOW),
}
KIT = {
    "halfcheetah-medium-v2": (5, 0.5, STEPS),
    "halfcheetah-medium-replay-v2": (5, 0.5, STEPS),
    "halfcheetah-medium-expert-v2": (5, 5.0, STEPS),
    "hopper-medium-v2": (5, 5.0, STEPS),
    "hopper-medium-replay-v2": (5, 0.5, STEPS),
    "hopper-medium-expert-v2": (5, 5.0, STEPS),
    "walker2d-medium-v2": (1, 5.0, STEPS),
    "walker2d-medium-replay-v2": (1, 0.5, STEPS),
    "walker2d-medium-expert-v2": (1, 5.0, STEPS),
}
NAMES = ("horizon", "conservative_weight", "critic_lr", "actor_lr", "temperature_lr")


@dataclass(frozen=True)
class COMBOHyperparameters(ModelHyperparameters, CQLHyperparameters):
    """Hyperparameters of the paper, where OfflineRL-Kit and AI-Optimizer agree on them."""

    real_ratio: float = hp(0.5, "f, share of recorded transitions in every batch; 1 is CQL", above=0, most=1)
    rho: str = hp(
        "mixed", "states of the conservative term: those of the model, or all", choices=("model", "mixed")
    )

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        name: dict(zip(NAMES, (h, w, *steps), strict=True)) for name, (h, w, steps) in (ORIGIN | KIT).items()
    }


class COMBO(ModelBased, CQL):
    """CQL with the conservative term on states of model rollouts."""

    Hyperparameters = COMBOHyperparameters

    @classmethod
    def conservatism(cls, nets: Nets, batch: Batch, hp: Any) -> tuple[Tensor | Prediction, Tensor, Tensor]:
        """Return Q_i of the batch's actions [E, B], the gaps of the means [E], and m w (gap - tau) [E]."""
        if batch.real == len(batch.obs):
            return super().conservatism(nets, batch, hp)
        actions, log_probs = batch.proposals
        pushed = slice(batch.real if hp.rho == "model" else 0, None)
        others = nets.critic(batch.obs[pushed], actions[:, pushed])
        down = torch.logsumexp(cls.proposal_values(others, batch, hp) - log_probs[:, pushed], 1).mean(1)
        q = nets.critic.predict(batch.obs, batch.action)
        gap = down - values_of(q)[:, : batch.real].mean(1)
        counted = gap if hp.gap_floor is None else gap.clamp(min=hp.gap_floor)
        weight = nets.multiplier().exp().clamp(max=1e6) * hp.conservative_weight
        return q, gap, weight * (counted - (hp.threshold or 0.0))
