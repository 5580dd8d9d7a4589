"""Compute seeds from the position in a run, so that a resumed run draws the same random numbers."""

import numpy as np

UPDATES, POSITIONS, ROLLOUTS, MASKS, RESETS, EPISODES, EVALUATIONS = range(7)
"""Uses of random numbers: noise in losses, positions of rows, steps in environments, bootstrap masks, new
weights at resets, episodes of environments, episodes of evaluations."""


def seed_of(use: int, *parts: int) -> int:
    """Return a 63-bit seed made from several numbers, such as (UPDATES, seed, rank, number of updates)."""
    parts = (use, *parts)
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
