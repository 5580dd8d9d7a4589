"""How far a step is from where the data's own dynamics would have led.

A ridge regression predicts s' − s from (s, a), in units of the state's standard deviation; a row's score is
the root mean square of its residuals, each in units of that dimension's usual residual, without the largest
one. A reset throws almost every dimension off at once; an impact, a wrap-around of an angle or a clipped
speed throws off one or a few. So what stands out is not a large step but an inexplicable one.
"""

from dataclasses import dataclass

import numpy as np

from datasets_io.episode import Array

FLOOR = 0.01
"""Least residual, in standard deviations of the state, that counts as one unit: rounding is not a jump."""
CAP = 30.0
"""Units beyond which a residual counts no more, lest one dimension outweigh all others."""
STILL = 0.9
"""A dimension that rests in more than this share of the steps (a goal, a contact force) is not looked at."""


@dataclass(frozen=True, eq=False)
class LinearDynamics:
    """A fitted model of s' − s.

    Args:
        moves: Which of the observations' dimensions change from step to step [D] bool.
        centre: Mean state of those [d].
        scale: Their standard deviations [d].
        action_centre: Mean of the encoded action.
        action_scale: Standard deviations of the encoded action.
        weights: [d + a + 1, d].
        unit: Usual residual of each dimension [d].
        choices: Number of discrete actions, or None.
    """

    moves: Array
    centre: Array
    scale: Array
    action_centre: Array
    action_scale: Array
    weights: Array
    unit: Array
    choices: int | None

    @classmethod
    def fit(
        cls, obs: Array, actions: Array, new_obs: Array, choices: int | None = None
    ) -> "LinearDynamics | None":
        """Fits transitions [n, …]; rows that fit worst are left out of the second and third fit.

        Returns:
            The model, or None if nothing moves or there are too few rows.
        """
        if len(obs) < 2:
            return None
        moves = (obs.std(0, dtype=np.float64) > 1e-8) & ((obs == new_obs).mean(0) <= STILL)
        acts = _encode(actions, choices)
        if not moves.any() or len(obs) < 2 * (moves.sum() + acts.shape[1] + 1):
            return None
        state, following = obs[:, moves].astype(np.float64), new_obs[:, moves].astype(np.float64)
        centre, scale = state.mean(0), state.std(0)
        action_scale = np.maximum(acts.std(0), 1e-6)
        model = cls(moves, centre, scale, acts.mean(0), action_scale, np.zeros(0), np.ones(1), choices)
        inputs, target = model._inputs(state, acts), (following - state) / scale
        keep = np.ones(len(inputs), bool)
        for _ in range(3):
            kept = inputs[keep]
            ridge = 1e-6 * len(kept) * np.eye(inputs.shape[1])
            weights = np.linalg.solve(kept.T @ kept + ridge, kept.T @ target[keep])
            residual = np.abs(target - inputs @ weights)
            # The 95th percentile keeps dimensions with rare impacts from standing out all the time.
            usual = np.maximum(1.4826 * np.median(residual, 0), np.quantile(residual, 0.95, axis=0) / 2)
            unit = np.maximum(usual, FLOOR)
            score = _score(residual / unit)
            keep = score <= np.quantile(score, 0.95)
        parts = moves, centre, scale, model.action_centre, action_scale, weights, unit, choices
        return cls(*parts)

    def score(self, obs: Array, actions: Array, new_obs: Array) -> Array:
        """How inexplicable each of these steps is [n]; about 1 is usual."""
        state = obs[:, self.moves].astype(np.float64)
        step = (new_obs[:, self.moves] - state) / self.scale
        return _score(
            np.abs(step - self._inputs(state, _encode(actions, self.choices)) @ self.weights) / self.unit
        )

    def _inputs(self, state: Array, actions: Array) -> Array:
        acts = (actions - self.action_centre) / self.action_scale
        return np.concatenate([(state - self.centre) / self.scale, acts, np.ones((len(state), 1))], 1)


def _score(units: Array) -> Array:
    capped = np.minimum(units, CAP)
    if capped.shape[1] == 1:
        return capped[:, 0]
    squares = np.square(capped)
    # All but the largest; a wide row's largest ones, too, are few beside all others.
    rest = squares.sum(1) - squares.max(1)
    score: Array = np.sqrt(rest / (capped.shape[1] - 1))
    return score


def _encode(actions: Array, choices: int | None) -> Array:
    """One number a dimension, or a one of a few as that many."""
    flat = actions.reshape(len(actions), -1).astype(np.float64)
    if choices is None or choices > 32:
        return flat
    one_hot: Array = np.eye(choices)[np.clip(flat[:, 0].astype(int), 0, choices - 1)]
    return one_hot
