"""Check that each reward is in the row of the step that earned it.

r_t is predicted, on held-out episodes, from (s, a, s') of its own row, of the previous row and of the next
row: if a neighbouring row predicts it clearly better, rewards are shifted by one row. A two-valued reward
that the state before the action predicts, but the state after it does not, is one row late.
"""

from collections.abc import Iterator

import numpy as np

from datasets_io.diagnosis.finding import Fact, Finding
from datasets_io.diagnosis.neighbours import tree
from datasets_io.diagnosis.sample import Windows
from datasets_io.diagnosis.summary import DataSummary
from datasets_io.episode import Array

MAX_FIT_ROWS, MAX_TEST_ROWS = 12_000, 4_000
"""Maximum number of rows to fit on and to test on."""
BINS = 24
"""Number of bins of the correlation ratio that selects dimensions for the nearest neighbours."""
NEAREST, DIMENSIONS = 5, 6


def check_alignment(summary: DataSummary) -> Iterator[Finding | Fact]:
    """Report rewards that belong to another row, using only the sample."""
    windows = summary.windows
    if windows is None:
        return
    inner = windows.take(np.flatnonzero(windows.has.all(1)))
    if len(inner) < 400 or np.ptp(inner.rewards) == 0:
        return
    fit, test = _split(inner)
    if len(fit) < 200 or len(test) < 100:
        return
    steps = [_step(inner, shift, summary.actions.choices) for shift in (-1, 0, 1)]
    rewards = inner.rewards.astype(np.float64)
    before, own, after = (_explained(step, rewards, fit, test) for step in steps)
    found = False
    for word, where, other in (("before", -1, before), ("after", 1, after)):
        if _is_better(other, own):
            found = True
            yield _shift_finding(word, where, other, own)
    if not found and len(np.unique(inner.rewards)) == 2:
        yield from _late_reward(inner, rewards, fit, test)


def _is_better(one: float, other: float) -> bool:
    """Return true if R² `one` is above 0.3 and leaves less than half of the unexplained share of `other`."""
    return one > 0.3 and 1 - one < 0.5 * (1 - other) and one - other > 1e-4


def _split(windows: Windows) -> tuple[Array, Array]:
    """Return rows to fit on and to test on, from different episodes if there are enough."""
    rng = np.random.default_rng(2)
    groups = windows.episode
    if len(np.unique(groups)) < 10:
        groups = np.arange(len(windows)) * 20 // len(windows)
    held_out = rng.random(int(groups.max()) + 1)[groups] < 0.3
    fit, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return rng.permutation(fit)[:MAX_FIT_ROWS], rng.permutation(test)[:MAX_TEST_ROWS]


def _step(windows: Windows, shift: int, choices: int | None) -> Array:
    """Return (s, a, s') of the row at distance `shift` [n, …]."""
    actions = windows.actions[:, 1 + shift]
    if choices is not None and choices <= 32:
        actions = np.eye(choices)[np.clip(actions[:, 0].astype(int), 0, choices - 1)]
    step: Array = np.concatenate([windows.obs[:, 1 + shift], actions, windows.obs[:, 2 + shift]], 1)
    return step.astype(np.float64)


def _explained(inputs: Array, target: Array, fit: Array, test: Array) -> float:
    """Return R² on the test rows of the better of two models, at least 0."""
    centre, scale = inputs[fit].mean(0), inputs[fit].std(0)
    varies = scale > 1e-8
    if not varies.any():
        return 0.0
    standard = (inputs[:, varies] - centre[varies]) / scale[varies]
    guesses = (_quadratic(standard, target, fit, test), _nearest(standard, target, fit, test))
    spread = float(np.square(target[test] - target[fit].mean()).sum())
    left = min(float(np.square(target[test] - guess).sum()) for guess in guesses)
    return max(0.0, 1 - left / spread) if spread > 0 else 0.0


def _quadratic(inputs: Array, target: Array, fit: Array, test: Array) -> Array:
    """Predict with a ridge regression on the inputs and their squares."""
    features = np.concatenate([inputs, np.square(inputs), np.ones((len(inputs), 1))], 1)
    known = features[fit]
    ridge = 1e-4 * len(known) * np.eye(known.shape[1])
    weights = np.linalg.solve(known.T @ known + ridge, known.T @ target[fit])
    guess: Array = features[test] @ weights
    return guess


def _nearest(inputs: Array, target: Array, fit: Array, test: Array) -> Array:
    """Predict the mean of the nearest neighbours in the dimensions with the highest correlation ratio."""
    ratio = np.array([_correlation_ratio(column, target[fit]) for column in inputs[fit].T])
    chosen = np.argsort(-ratio)[:DIMENSIONS]
    chosen = chosen[ratio[chosen] >= 0.1 * ratio.max()]
    weights = np.sqrt(np.maximum(ratio[chosen], 1e-6))
    points = inputs[:, chosen] * weights
    count = min(NEAREST, len(fit))
    _, nearest = tree(points[fit]).query(points[test], count)
    guess: Array = target[fit][nearest.reshape(len(test), count)].mean(1)
    return guess


def _correlation_ratio(column: Array, target: Array) -> float:
    """Return the share of the target's variance between equally filled bins of the column (Pearson's η²)."""
    edges = np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.searchsorted(edges, column)
    counts = np.bincount(place, minlength=1)
    means = np.bincount(place, target) / np.maximum(counts, 1)
    total = float(np.square(target - target.mean()).sum())
    return float((counts * np.square(means - target.mean())).sum() / total) if total > 0 else 0.0


def _shift_finding(word: str, where: int, other: float, own: float) -> Finding:
    turn = "rewards[1:] against observations[:-1]" if where < 0 else "rewards[:-1] against observations[1:]"
    return Finding(
        "warning",
        "alignment",
        f"the step of the row {word} predicts the rewards better than the step of their own row: on held-out "
        f"episodes it leaves {100 * (1 - other):.2g} % of their variance, their own {100 * (1 - own):.2g} %",
        "each action is credited with the reward of a neighbouring action",
        f"shift the rewards by one row within each episode ({turn}), and check that the logger records the "
        "reward of the step just taken",
    )


def _late_reward(windows: Windows, rewards: Array, fit: Array, test: Array) -> Iterator[Finding]:
    """Report a two-valued reward that depends on the state before the action, not on the state after it."""
    now, new = (_explained(windows.obs[:, at].astype(np.float64), rewards, fit, test) for at in (1, 2))
    if now < 0.5 or not _is_better(now, new):
        return
    rare = min(np.unique(windows.rewards), key=lambda value: (windows.rewards == value).sum())
    yield Finding(
        "warning",
        "alignment",
        f"reward {rare:g} depends on the state before the action, not on the next state (they leave "
        f"{100 * (1 - now):.2g} % and {100 * (1 - new):.2g} % of its variance): it is set one row after "
        "the goal was reached",
        "the action that reaches the goal gets no reward, and the next action gets it, whatever it is; an "
        "environment that rewards arrival differs from the data by one row",
        "rewards[:-1] = rewards[1:] within each episode, as for D4RL's maze2d; no change if the task rewards "
        "being at the goal",
        tuple(windows.row[windows.rewards == rare][:5]),
    )
