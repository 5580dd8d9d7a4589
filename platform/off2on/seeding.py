"""Random numbers as a function of where a run is, so that a resumed run draws what comes next."""

import numpy as np


def seed_of(*parts: int) -> int:
    """One 63-bit seed made of several numbers, such as (seed, learner, updates done)."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
