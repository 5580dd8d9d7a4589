"""RLPD: half of every batch is offline, many updates per step, a random pair of critics as target.

Ball, Smith, Kostrikov & Levine, "Efficient Online Reinforcement Learning with Offline Data", ICML 2023,
arXiv:2302.02948, algorithm 1: 20 updates of the critics and one of the policy per environment step.

The strategy is a preset of online settings for any algorithm with such targets. The paper starts from random
weights and normalised critics: that is the algorithm `rlpd` with ``--updates 0 --strategy rlpd``.
"""

from collections.abc import Mapping
from typing import ClassVar

from off2on.strategies.symmetric import Symmetric


class RLPDStrategy(Symmetric):
    """Symmetric sampling with many updates per step."""

    online_settings: ClassVar[Mapping[str, object]] = {
        "utd": 20.0,
        "policy_delay": 20,
        "targets": "random_pair",
    }
