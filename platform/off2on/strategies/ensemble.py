"""Ensemble: online settings of E2O for algorithms with several critics.

Zhao et al., "ENOTO: Improving Offline-to-Online Reinforcement Learning with Q-Ensembles", IJCAI 2024,
arXiv:2306.06871: online transitions only, after the first 1,000 steps; no conservative term, targets by
WeightedMinPair, actions by SUNRISE. The strategy is a preset of online settings for algorithms with several
critics (`sac_n`, `edac`, `cql` with ``critics=10``). The algorithm `e2o` contains the targets and the
exploration itself: for it, the paper is ``--strategy online_only online.warm_up=1000``.
"""

from collections.abc import Mapping
from typing import ClassVar

from off2on.strategies.online_only import OnlineOnly


class Ensemble(OnlineOnly):
    """Online transitions only, optimistic exploration and pairwise minimum targets."""

    online_settings: ClassVar[Mapping[str, object]] = {
        "warm_up": 1000,
        "regularisation": 0.0,
        "targets": "weighted_pair",
        "exploration": "optimistic",
    }
