"""Warm start: a warm-up with the policy of the handover, then online transitions only.

Zhou, Peng, Li, Levine & Kumar, "Efficient Online Reinforcement Learning: Fine-Tuning Need Not Retain
Offline Data" (WSRL), ICLR 2025, arXiv:2412.07762. The first 5,000 steps are collected with the frozen policy
and without updates; then there are four updates per step, without a conservative term, on all collected
transitions. Optimisers and target networks continue from the handover.

The paper uses ten normalised critics, a normalised policy, and the minimum of two random critics as target.
With `cql` and `cal_ql` that is ``preset=wsrl``, from the offline phase on; with `sac` and its like
``critics=10 layer_norm=true actor_layer_norm=true entropy_backup=false online.targets=random_pair``. The
authors' policy step uses the rows of all four updates.
"""

from collections.abc import Mapping
from typing import ClassVar

from off2on.strategies.online_only import OnlineOnly


class WarmStart(OnlineOnly):
    """Online transitions only, after a warm-up with the frozen policy."""

    online_settings: ClassVar[Mapping[str, object]] = {
        "warm_up": 5000,
        "utd": 4.0,
        "policy_delay": 4,
        "regularisation": 0.0,
    }
