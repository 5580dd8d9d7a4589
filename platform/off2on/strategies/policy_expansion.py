"""Policy expansion: the policy of the handover is kept, and acts where the critics prefer it.

Zhang, Xu & Yu, "Policy Expansion for Bridging Offline-to-Online Reinforcement Learning", ICLR 2023,
arXiv:2302.00935: half of every batch is offline, and the first 5,000 steps are collected without updates. The
strategy is a preset of online settings for any algorithm with critics; the choice between the policies is
`off2on.online.exploration.PolicyExpansion`. In the paper the second policy starts from random weights: that
is the algorithm `pex` with ``--strategy symmetric online.warm_up=5000``.
"""

from collections.abc import Mapping
from typing import ClassVar

from off2on.strategies.symmetric import Symmetric


class PolicyExpansionStrategy(Symmetric):
    """Symmetric sampling with the policy of the handover and the learning one."""

    online_settings: ClassVar[Mapping[str, object]] = {"warm_up": 5000, "exploration": "expansion"}
