"""RLPD: SAC with normalised critics, trained online from scratch with offline data in every batch.

Ball, Smith, Kostrikov & Levine, "Efficient Online Reinforcement Learning with Offline Data", ICML 2023,
arXiv:2302.02948, algorithm 1.

    critic       L_Q     = sum_i E[ (y - Q_i(s, a))^2 ]
                 y       = r + gamma (min_{j in M} Q'_j(s', a') - alpha log pi(a'|s')),  |M| members of N
    temperature  L_alpha = -E[ log alpha (log pi(a~|s) + H) ],  H = -(action dimensions) / 2
    actor        L_pi    = E[ alpha log pi(a~|s) - mean_i Q_i(s, a~) ]

These are REDQ's losses, with its order and its 20 updates of the critics per update of the policy. New are
layer normalisation of the critics, which bounds their values (section 4.2), half the target entropy, and
batches that are half offline: ``--updates 0 --strategy rlpd``. The strategy `rlpd` is a preset of online
settings, which can be used with other algorithms.

Differences: the authors average the critics' losses where here they are summed, which makes no difference
with Adam. They collect the first 5,000 steps with uniform actions and without updates
(``online.warm_up=5000`` takes the policy's), and step the policy before the temperature. Their temperature's
loss has alpha in place of log alpha (``temperature_form=alpha``, as OGBench's presets have it). No entropy in
the target on AntMaze and Adroit: ``preset=antmaze``, ``preset=adroit``, with the authors' depths and M.
OGBench's presets have two critics and one update per step: ``--updates 0 --strategy symmetric``;
initialisation and order of updates are REDQ's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

from off2on.algorithms.redq import REDQ, REDQHyperparameters
from off2on.recipe.batch import Batch
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import hp
from off2on.recipe.networks import Nets

# OGBench (Park et al., arXiv:2502.02538): as their SAC with half of every batch offline.
OGBENCH = {"critics": 2, "subset": 2, "policy_every": 1, "entropy_backup": False, "norm_place": "after"}
OGBENCH |= {"activation": "gelu", "hidden": (512,) * 4, "temperature_form": "alpha"}
NAMES = ("antmaze-large-navigate", "cube", "scene", "puzzle")
FAR = ("antmaze-giant-navigate", "humanoidmaze", "antsoccer")


@dataclass(frozen=True)
class RLPDHyperparameters(REDQHyperparameters):
    """Hyperparameters of table 2 and the authors' configurations."""

    layer_norm: bool = hp(True, "layer normalisation of the critics")
    target_entropy: float | None = hp(None, "H, target entropy; none: minus half the action dimensions")

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "antmaze": {"hidden": (256,) * 3, "subset": 1, "entropy_backup": False, "reward": "minus_one"},
        "adroit": {"hidden": (256,) * 3, "entropy_backup": False},
        **dict.fromkeys(NAMES, OGBENCH),
        **{name: {**OGBENCH, "discount": 0.995} for name in FAR},
    }


class RLPD(REDQ):
    """REDQ with normalised critics, for online training with offline data."""

    Hyperparameters = RLPDHyperparameters

    @classmethod
    def compute_temperature_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute SAC's loss, with half the target entropy."""
        return super().compute_temperature_loss(nets, batch, with_target_entropy(hp, batch.action.shape[-1]))


@cache
def with_target_entropy(hp: Any, width: int) -> Any:
    """Return the hyperparameters with the target entropy filled in, for actions of this width."""
    return hp if hp.target_entropy is not None else replace(hp, target_entropy=-width / 2)
