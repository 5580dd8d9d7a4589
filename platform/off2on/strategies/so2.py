"""SO2: targets at actions with noise, and frequent updates of the values.

Zhang et al., "A Perspective of Q-value Estimation on Offline-to-Online Reinforcement Learning", AAAI 2024,
arXiv:2312.07685: ten updates per step, noise N(0, 0.3^2) clipped at 0.6 on the targets' actions. As in the
authors' code, a tenth of every batch is online; the first 5,000 steps are collected without updates, and the
first hundred updates are of the critics only.

Differences: the authors' batches are ten times as large, so that 256 rows are online; their other rows are
drawn from offline and online ones together; each of their critics has its own target, without a minimum.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from off2on.recipe.hyperparameters import Settings, hp
from off2on.strategies.symmetric import Symmetric, SymmetricOptions


@dataclass(frozen=True)
class SO2Options(SymmetricOptions):
    """Options; the default is the authors' share."""

    offline_share: float = hp(0.9, "offline share of each batch", least=0, most=1)


class SO2(Symmetric):
    """Targets at actions with noise, and many updates per step."""

    Options: ClassVar[type[Settings]] = SO2Options
    online_settings: ClassVar[Mapping[str, object]] = {
        "warm_up": 5000,
        "utd": 10.0,
        "head_start": 100,
        "target_jitter": 0.3,
    }
