"""Random numbers as a function of where a run is, so that a resumed run draws what comes next."""

import numpy as np

UPDATES, POSITIONS, ROLLOUTS, MASKS, RESETS, EPISODES = range(6)
"""What random numbers are for: noise in losses, rows drawn, steps in environments, bootstrap masks,
fresh weights, episodes of environments."""


def seed_of(use: int, *parts: int) -> int:
    """One 63-bit seed made of several numbers, such as (UPDATES, seed, learner, updates done)."""
    parts = (use, *parts)
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
