"""Cal-QL: CQL with values bounded from below by the recorded return to go.

Nakamoto, Zhai, Singh, Mark, Ma, Finn, Kumar & Levine, "Cal-QL: Calibrated Offline RL Pre-Training for
Efficient Online Fine-Tuning", NeurIPS 2023, arXiv:2303.05479.

    critic  L_Q = CQL's, with max(Q_i(s, a), G(s)) in place of Q_i(s, a) in the log-sum-exp
            for the policy's samples, a ~ pi(s) and a ~ pi(s'), not for the uniform ones
    G(s)    the return to go of the recorded episode at s, discounted, of the transformed rewards

The value of a policy's sample is not decreased below G(s), so that values stay on the scale of returns
and the first online updates need not correct them. Order, the other losses and the multiplier are CQL's.
Online the same losses hold, on the episodes that have ended; half of every batch is offline:
``--strategy symmetric``.

Differences: CORL switches the calibration off at the handover, the paper and the authors do not.
In sparse tasks the authors give an episode without success G = r / (1 - gamma), as if it continued for
ever, which is no bound; here G is the sum over the recorded rewards, so that the bound of the last rows of
a truncated failure is too high. The authors clip recorded actions to 0.99999, initialise orthogonally, and
scale log sigma by two learned numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.cql import CQL, CQLHyperparameters
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import Prediction
from off2on.recipe.hooks import Loss, Objective
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets

# OGBench (Park et al., arXiv:2502.02538): w by data set.
OGBENCH = {"layer_norm": True, "norm_place": "after", "activation": "gelu", "hidden": (512,) * 4}
OGBENCH |= {"reward": "times_ten"}
MANIPULATION = {"cube-double": 0.01, "scene": 0.01, "puzzle-4x4": 0.003}


@dataclass(frozen=True)
class CalQLHyperparameters(CQLHyperparameters):
    """The authors' configuration."""

    online_weight: float | None = hp(None, "w of the conservative term online; none: as offline", least=0)
    backup_actions: int = hp(10, "number of actions at s' that the target maximises over", least=1)
    hidden: tuple[int, ...] = hp((256, 256), "widths of the hidden layers", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "antmaze": {"threshold": 0.8, "hidden": (256,) * 4, "actor_hidden": (256, 256)}
        | {"reward": "ten_minus_five"},
        "adroit": {"conservative_weight": 1.0, "hidden": (512,) * 3, "actor_hidden": (512, 512)}
        | {"reward": "ten_plus_five"},
        "wsrl": CQLHyperparameters.presets["wsrl"],
        **{name: {**OGBENCH, "conservative_weight": weight} for name, weight in MANIPULATION.items()},
    }


class CalQL(CQL):
    """CQL with values bounded from below by recorded returns."""

    Hyperparameters = CalQLHyperparameters
    columns = (*CQL.columns, "ret")
    regularisation = (*CQL.regularisation, "online_weight")

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Return CQL's schedule, online with `online_weight`."""
        return super().is_due(objective, in_phase(hp, progress), update, progress)

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Add the samples of CQL, online with `online_weight`."""
        return super().prepare(nets, batch, in_phase(hp, batch.progress))

    @classmethod
    def compute_critic_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute CQL's loss, online with `online_weight`."""
        return super().compute_critic_loss(nets, batch, in_phase(hp, batch.progress))

    @classmethod
    def conservatism(cls, nets: Nets, batch: Batch, hp: Any) -> tuple[Tensor | Prediction, Tensor, Tensor]:
        """Compute the terms of CQL, online with `online_weight`."""
        return super().conservatism(nets, batch, in_phase(hp, batch.progress))

    @classmethod
    def proposal_values(cls, q: Tensor, batch: Batch, hp: Any) -> Tensor:
        """Return the values [E, 3n, B] of the proposals, of the policy's at least the return to go [B]."""
        uniform, own = q.tensor_split([hp.samples], 1)
        return torch.cat((uniform, torch.maximum(own, batch.ret)), 1)


def in_phase(hp: Any, progress: float) -> Any:
    """Return the hyperparameters of CQL: online with `online_weight` in place of `conservative_weight`."""
    return hp if progress < 1 or hp.online_weight is None else with_online_weight(hp)


@cache
def with_online_weight(hp: Any) -> Any:
    """Return the hyperparameters with `online_weight` in place of `conservative_weight`."""
    return replace(hp, conservative_weight=hp.online_weight)
