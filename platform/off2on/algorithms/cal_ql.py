"""Cal-QL: CQL that does not push values below what the data's own policy was seen to get.

Nakamoto, Zhai, Singh, Mark, Ma, Finn, Kumar & Levine, "Cal-QL: Calibrated Offline RL Pre-Training for
Efficient Online Fine-Tuning", NeurIPS 2023, arXiv:2303.05479.

    critic  L_Q = CQL's, in whose log-sum-exp max(Q_i(s, a), G(s)) stands for Q_i(s, a)
            for the policy's samples, a ~ pi(s) and a ~ pi(s'), not for the uniform ones
    G(s)    the return to go of the recorded episode at s, discounted, of the transformed rewards

Where a policy's sample is worth less than G(s) it is not pushed down any further, so that values
stay on the scale of returns and the first online steps need not correct them. Order, the other losses
and the multiplier are CQL's. Online goes on in the same way, calibrated by the episodes as they end;
half of every batch is recorded data: ``--strategy symmetric``.

Differences: CORL switches the calibration off when going online, the paper and the authors do not.
In sparse tasks the authors give an episode that only failed G = r / (1 - gamma), as if it failed for
ever, which is no bound at all; here G is the sum over what was recorded, so that the last rows of an
episode cut off in failure are bounded too high. An online episode that is not over yet is not learned
from. The authors initialise orthogonally, and scale log sigma by two learned numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from off2on.algorithms.cql import CQL, CQLHyperparameters
from off2on.recipe.batch import Batch
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets


@dataclass(frozen=True)
class CalQLHyperparameters(CQLHyperparameters):
    """The authors' configuration."""

    online_weight: float | None = hp(None, "w of the conservative term online; none: as offline", least=0)
    backup_actions: int = hp(10, "actions drawn at s', of which the target takes the best", least=1)
    hidden: tuple[int, ...] = hp((256, 256), "widths of the hidden layers", least=1)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "antmaze": {"threshold": 0.8, "hidden": (256,) * 4, "actor_hidden": (256, 256)}
        | {"reward": "ten_minus_five"},
        "adroit": {"conservative_weight": 1.0, "hidden": (512,) * 3, "actor_hidden": (512, 512)}
        | {"reward": "ten_plus_five"},
    }


class CalQL(CQL):
    """CQL, bounded from below by recorded returns."""

    Hyperparameters = CalQLHyperparameters
    columns = (*CQL.columns, "ret")
    regularisation = (*CQL.regularisation, "online_weight")

    @classmethod
    def conservatism(cls, nets: Nets, batch: Batch, hp: Any) -> tuple[Tensor, Tensor, Tensor]:
        """CQL's; online with its own weight."""
        return super().conservatism(nets, batch, hp if batch.progress < 1 else online(hp))

    @classmethod
    def proposal_values(cls, q: Tensor, batch: Batch, hp: Any) -> Tensor:
        """The critics' values [E, 3n, B] of the proposals, the policy's at least the return to go [B]."""
        uniform, own = q.tensor_split([hp.samples], 1)
        return torch.cat((uniform, torch.maximum(own, batch.ret)), 1)


@cache
def online(hp: Any) -> Any:
    """The hyperparameters of the online side."""
    return hp if hp.online_weight is None else replace(hp, conservative_weight=hp.online_weight)
