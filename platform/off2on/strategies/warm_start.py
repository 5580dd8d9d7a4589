"""Warm start: a while with the policy as it was handed over, then online rows alone.

Zhou, Peng, Li, Levine & Kumar, "Efficient Online Reinforcement Learning: Fine-Tuning Need Not Retain
Offline Data" (WSRL), ICLR 2025, arXiv:2412.07762. The first 5,000 steps are collected with the frozen policy
and nothing is learned; then four updates per step, without a conservative term, on what was collected.
Optimisers and targets go on as they were.

The paper learns online with ten critics, normalised, and the smaller of two of them as target: with `cql`
and `cal_ql` that is ``critics=10 layer_norm=true online.targets=random_pair``, from the offline side on.
"""

from collections.abc import Mapping
from typing import ClassVar

from off2on.strategies.online_only import OnlineOnly


class WarmStart(OnlineOnly):
    """Online rows alone, after a warm-up with the frozen policy."""

    online_settings: ClassVar[Mapping[str, object]] = {
        "warm_up": 5000,
        "utd": 4.0,
        "policy_delay": 4,
        "regularisation": 0.0,
    }
