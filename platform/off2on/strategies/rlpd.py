"""RLPD's way: half of every batch is recorded, many updates per step, a random pair of critics as target.

Ball, Smith, Kostrikov & Levine, "Efficient Online Reinforcement Learning with Offline Data", ICML 2023,
arXiv:2302.02948, algorithm 1: 20 updates of the critics per environment step, of the policy one.

The paper begins with fresh networks, normalised ones: the algorithm `rlpd` with ``--updates 0``. Here any
recipe with such targets crosses like that.
"""

from collections.abc import Mapping
from typing import ClassVar

from off2on.strategies.symmetric import Symmetric


class RLPDStrategy(Symmetric):
    """Half and half, with many updates per step."""

    online_settings: ClassVar[Mapping[str, object]] = {
        "utd": 20.0,
        "policy_delay": 20,
        "targets": "random_pair",
    }
