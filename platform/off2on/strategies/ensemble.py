"""E2O's way: many critics believe each other in pairs, and exploring goes where they differ.

Zhao et al., "ENOTO: Improving Offline-to-Online Reinforcement Learning with Q-Ensembles", IJCAI 2024,
arXiv:2306.06871: online rows alone after the first 1,000 steps, no conservative term, targets by
WeightedMinPair, actions by SUNRISE. It wants a recipe with several critics (`sac_n`, `edac`, `cql` with
``critics=10``); the algorithm `e2o` has its own.
"""

from collections.abc import Mapping
from typing import ClassVar

from off2on.strategies.online_only import OnlineOnly


class Ensemble(OnlineOnly):
    """Online rows alone, optimism and pairs of critics."""

    online_settings: ClassVar[Mapping[str, object]] = {
        "warm_up": 1000,
        "regularisation": 0.0,
        "targets": "weighted_pair",
        "exploration": "optimistic",
    }
