"""Variation of the actions in similar states, which limits how far a policy can improve on the behaviour."""

from collections.abc import Iterator

import numpy as np

from datasets_io.diagnosis.finding import Fact, Finding
from datasets_io.diagnosis.neighbours import Projection, tree
from datasets_io.diagnosis.summary import DataSummary
from datasets_io.episode import Array

MAX_QUERIES, NEAREST = 1000, 64
"""Number of states at which the variation is measured, and of neighbours of each state."""
DETERMINISTIC_NOISE = 5e-3
"""Noise, as a share of the half box, below which the behaviour is reported as deterministic."""


def check_behaviour(summary: DataSummary) -> Iterator[Finding | Fact]:
    """Report the entropy of the actions among nearest neighbours, using only the sample."""
    windows = summary.windows
    project = None if windows is None else Projection.of(windows.obs[:, 1])
    if windows is None or project is None or len(windows) < 4 * NEAREST:
        return
    points = project(windows.obs[:, 1])
    rng = np.random.default_rng(5)
    queries = rng.permutation(len(points))[:MAX_QUERIES]
    _, near = tree(points).query(points[queries], NEAREST)
    if summary.discrete:
        yield from _discrete(windows.actions[:, 1, 0][near].astype(int), summary.actions.choices or 1)
    else:
        yield from _continuous(points[near], windows.actions[:, 1].astype(np.float64)[near], summary)


def _continuous(states: Array, actions: Array, summary: DataSummary) -> Iterator[Finding | Fact]:
    """Report the Gaussian entropy of the residuals of a local linear model of the actions.

    Args:
        states: States of the neighbours [q, k, s].
        actions: Actions of the neighbours [q, k, a].
        summary: Summary of the data, for the action space.
    """
    inputs = states - states.mean(1, keepdims=True)
    target = actions - actions.mean(1, keepdims=True)
    gram = np.swapaxes(inputs, 1, 2) @ inputs
    size = np.trace(gram, axis1=1, axis2=2)[:, None, None] + 1e-12
    weights = np.linalg.solve(gram + 1e-3 * size * np.eye(gram.shape[1]), np.swapaxes(inputs, 1, 2) @ target)
    left = target - inputs @ weights
    freedom = max(1, inputs.shape[1] - inputs.shape[2] - 1)
    noise = np.sqrt(np.square(left).sum(1) / freedom)
    low, high = summary.actions.low, summary.actions.high
    if low is None or high is None or len(low) != noise.shape[1] or not np.isfinite(high - low).all():
        low, high = actions.min((0, 1)), actions.max((0, 1))
    half = np.maximum(high - low, 1e-9) / 2
    relative = noise / half
    entropy = 0.5 * np.log(2 * np.pi * np.e * np.maximum(np.square(relative), 1e-12))
    # A uniform distribution over a box of half-width 1 has log 2 nats per dimension.
    nats = float((entropy - np.log(2)).mean())
    usual = float(np.median(relative))
    yield Fact(
        "behaviour",
        f"noise of {100 * usual:.2g} % of the half box at a given state; entropy {nats:+.2f} nats per "
        "dimension relative to uniform",
        {"noise": usual, "entropy_per_dimension_vs_uniform": nats, "estimator": "local linear Gaussian"},
        f"Gaussian entropy of the residuals of a linear model fitted to the {NEAREST} nearest of the sampled "
        "states, per dimension: an upper bound. Nonlinearity between neighbours counts as noise, and two "
        "modes count as one wide mode.",
    )
    if usual < DETERMINISTIC_NOISE:
        yield Finding(
            "note",
            "behaviour",
            f"the behaviour is almost deterministic: in similar states actions differ by {100 * usual:.2g} % "
            "of the half box",
            "actions cannot be compared in a state: no policy better than the behaviour can be found in the "
            "data, and likelihoods of actions grow without bound",
            "use behaviour cloning (bc), or record with exploration",
        )


def _discrete(actions: Array, choices: int) -> Iterator[Finding | Fact]:
    """Report the entropy of the choices among neighbours [q, k]."""
    nats = float(_entropies(actions).mean())
    most = float(np.log(max(choices, 2)))
    yield Fact(
        "behaviour",
        f"entropy {nats:.2f} of {most:.2f} nats at a given state ({100 * min(1.0, nats / most):.0f} % of "
        "uniform)",
        {"entropy": nats, "uniform": most, "estimator": "plug-in, Miller–Madow"},
        f"Frequencies among the {NEAREST} nearest of the sampled states, with the Miller-Madow correction: "
        "differences between neighbouring states count as randomness.",
    )
    if nats < 0.01 * most:
        yield Finding(
            "note",
            "behaviour",
            "the behaviour is deterministic: it takes the same action in similar states",
            "the value estimates of all other actions are extrapolations",
            "use behaviour cloning (discrete_bc), or record with exploration",
        )


def _entropies(actions: Array) -> Array:
    """Return the plug-in entropy of the choices of each row [q, k], with the Miller-Madow correction."""
    size, ordered = actions.shape[1], np.sort(actions, axis=1)
    begins = np.diff(ordered, axis=1, prepend=ordered[:, :1] - 1) != 0
    at = np.flatnonzero(begins)  # of each different choice of a row, after the others of the row
    counts = np.diff(at, append=begins.size)
    repeated = np.bincount(at // size, counts * np.log(counts), len(actions))
    entropies: Array = np.log(size) - repeated / size + (begins.sum(1) - 1) / (2 * size)
    return entropies
