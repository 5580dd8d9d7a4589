"""Learning rates that change over the offline updates."""

import math
from typing import Any


def actor_decay(objective: str, hp: Any, progress: float) -> float:
    """Return the factor of a learning rate: for the policy, if ``hp.actor_decay``, it falls along a cosine.

    It is 0.5 (1 + cos(pi progress)): 1 at first, 0 at the end of the offline phase, and 1 again online.
    """
    decays = objective == "actor" and hp.actor_decay and progress < 1
    return 0.5 * (1 + math.cos(math.pi * progress)) if decays else 1.0
