"""MOPO: SAC on model rollouts with a reward penalty for the model's uncertainty.

Yu et al., "MOPO: Model-based Offline Policy Optimization", NeurIPS 2020, arXiv:2005.13239.

    dynamics  L_M = sum_e E[ -log N(s' - s, r; mu_e(s, a), sigma_e(s, a)) ]   once, before the updates
              a_k ~ pi(s_k);  s_k+1, r_k ~ N(mu_e, sigma_e)(s_k, a_k),  e a random elite;  k < h
              r~ = r - lambda max_e |sigma_e(s, a)|,  over all members, reward included
    then SAC's losses on batches of 5 % recorded rows and 95 % synthetic ones with r~

Rollouts start from recorded states every 1,000 updates; the last five rounds are kept. They end as the
environment's episodes, by its termination function (`off2on.recipe.terminations`). Presets: the
original h and lambda by data set (``hopper-medium``), and OfflineRL-Kit's, tuned again for version 2
of the data (``hopper-medium-v2``).

Differences: fitting stops after five epochs in which no member improves (OfflineRL-Kit); the authors'
code waits for a sixth. For halfcheetah-medium-expert their configuration has lambda = 5, the table
that other papers quote has 1, which is used. H = -3 for every environment is their code's. OfflineRL-Kit's
presets are without its cosine decay of the policy's learning rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.sac import SAC, SACHyperparameters
from off2on.recipe.hyperparameters import hp
from off2on.recipe.model_based import ModelBased, ModelHyperparameters

ORIGINAL = {
    "halfcheetah-random": (5, 0.5),
    "halfcheetah-medium": (1, 1.0),
    "halfcheetah-medium-replay": (5, 1.0),
    "halfcheetah-medium-expert": (5, 1.0),
    "hopper-random": (5, 1.0),
    "hopper-medium": (5, 5.0),
    "hopper-medium-replay": (5, 1.0),
    "hopper-medium-expert": (5, 1.0),
    "walker2d-random": (1, 1.0),
    "walker2d-medium": (5, 5.0),
    "walker2d-medium-replay": (1, 1.0),
    "walker2d-medium-expert": (1, 2.0),
}
KIT = {
    "halfcheetah-medium-v2": (5, 0.5),
    "halfcheetah-medium-replay-v2": (5, 0.5),
    "halfcheetah-medium-expert-v2": (5, 2.5),
    "hopper-medium-v2": (5, 5.0),
    "hopper-medium-replay-v2": (5, 2.5),
    "hopper-medium-expert-v2": (5, 5.0),
    "walker2d-medium-v2": (5, 0.5),
    "walker2d-medium-replay-v2": (1, 2.5),
    "walker2d-medium-expert-v2": (1, 2.5),
}
KIT_SAC = {"actor_lr": 1e-4, "temperature_lr": 1e-4, "target_entropy": None}


@dataclass(frozen=True)
class MOPOHyperparameters(ModelHyperparameters, SACHyperparameters):
    """Hyperparameters of the authors' configuration."""

    penalty: float = hp(
        1.0, "lambda, penalty on the model's sigma; 0: no penalty", least=0, search=("log", 0.5, 5)
    )
    target_entropy: float | None = hp(-3.0, "H, target entropy; none: minus the number of action dimensions")

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        **{name: {"horizon": h, "penalty": price} for name, (h, price) in ORIGINAL.items()},
        **{name: {"horizon": h, "penalty": price, **KIT_SAC} for name, (h, price) in KIT.items()},
    }


class MOPO(ModelBased, SAC):
    """SAC on model rollouts with a reward penalty for the model's uncertainty."""

    Hyperparameters = MOPOHyperparameters

    @classmethod
    def rollout_reward(cls, reward: Tensor, std: Tensor, hp: Any) -> Tensor:
        """Return the predicted reward minus lambda times the largest norm of sigma among the members."""
        return reward - hp.penalty * torch.linalg.vector_norm(std, dim=-1).amax(0)  # type: ignore[no-any-return]
