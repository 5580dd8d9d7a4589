"""Policy expansion: the policy of the handover is kept and goes on acting wherever the critics prefer it.

Zhang, Xu & Yu, "Policy Expansion for Bridging Offline-to-Online Reinforcement Learning", ICLR 2023,
arXiv:2302.00935: batches half and half, after 5,000 steps of collecting alone. The choice is
`explorations.Expansion`; the algorithm `pex` is the paper's, whose second policy starts from random weights.
"""

from collections.abc import Mapping
from typing import ClassVar

from off2on.strategies.symmetric import Symmetric


class PolicyExpansionStrategy(Symmetric):
    """Half and half, with the old policy beside the new one."""

    online_settings: ClassVar[Mapping[str, object]] = {"warm_up": 5000, "exploration": "expansion"}
