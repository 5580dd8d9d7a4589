"""Linear dynamics model of the data, which scores how unlikely a step is.

A ridge regression predicts s' − s from (s, a), in units of the state's standard deviation. The score of a row
is the root mean square of its residuals without the largest one, each in units of the usual residual of its
dimension. A reset changes almost every dimension at once; an impact, a wrap-around of an angle or a clipped
speed changes one or a few. So a high score marks an unpredictable step, not a large one.
"""

from dataclasses import dataclass

import numpy as np

from datasets_io.episode import Array

MIN_UNIT = 0.01
"""Minimum of the residual unit, in standard deviations of the state, so that rounding is not a jump."""
MAX_RESIDUAL = 30.0
"""Maximum of a residual, in units, so that no dimension outweighs all others."""
MAX_CONSTANT_SHARE = 0.9
"""Share of steps without change above which a dimension (a goal, a contact force) is not used."""


@dataclass(frozen=True, eq=False)
class LinearDynamics:
    """A fitted linear model of s' − s.

    Args:
        moves: Mask of the observation dimensions that change from step to step [D] bool.
        centre: Mean of these dimensions [d].
        scale: Standard deviation of these dimensions [d].
        action_centre: Mean of the encoded action [a].
        action_scale: Standard deviation of the encoded action [a].
        weights: Regression weights [d + a + 1, d].
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
        """Fit transitions [n, …]; the second and third fit leave out the rows with the highest scores.

        Returns:
            The model, or None if no dimension changes or there are too few rows.
        """
        if len(obs) < 2:
            return None
        moves = (obs.std(0, dtype=np.float64) > 1e-8) & ((obs == new_obs).mean(0) <= MAX_CONSTANT_SHARE)
        encoded = _encode(actions, choices)
        if not moves.any() or len(obs) < 2 * (moves.sum() + encoded.shape[1] + 1):
            return None
        state, following = obs[:, moves].astype(np.float64), new_obs[:, moves].astype(np.float64)
        centre, scale = state.mean(0), state.std(0)
        action_scale = np.maximum(encoded.std(0), 1e-6)
        model = cls(moves, centre, scale, encoded.mean(0), action_scale, np.zeros(0), np.ones(1), choices)
        inputs, target = model._inputs(state, encoded), (following - state) / scale
        keep = np.ones(len(inputs), bool)
        for _ in range(3):
            kept = inputs[keep]
            ridge = 1e-6 * len(kept) * np.eye(inputs.shape[1])
            weights = np.linalg.solve(kept.T @ kept + ridge, kept.T @ target[keep])
            residual = np.abs(target - inputs @ weights)
            # The 95 % quantile prevents that dimensions with rare impacts dominate the score.
            usual = np.maximum(1.4826 * np.median(residual, 0), np.quantile(residual, 0.95, axis=0) / 2)
            unit = np.maximum(usual, MIN_UNIT)
            score = _score(residual / unit)
            keep = score <= np.quantile(score, 0.95)
        parts = moves, centre, scale, model.action_centre, action_scale, weights, unit, choices
        return cls(*parts)

    def score(self, obs: Array, actions: Array, new_obs: Array) -> Array:
        """Return the score of each step [n]; about 1 is usual, higher is less likely."""
        state = obs[:, self.moves].astype(np.float64)
        step = (new_obs[:, self.moves] - state) / self.scale
        return _score(
            np.abs(step - self._inputs(state, _encode(actions, self.choices)) @ self.weights) / self.unit
        )

    def _inputs(self, state: Array, actions: Array) -> Array:
        encoded = (actions - self.action_centre) / self.action_scale
        return np.concatenate([(state - self.centre) / self.scale, encoded, np.ones((len(state), 1))], 1)


def _score(units: Array) -> Array:
    capped = np.minimum(units, MAX_RESIDUAL)
    if capped.shape[1] == 1:
        return capped[:, 0]
    squares = np.square(capped)
    # Without the largest residual; in a wide row, a few large residuals have little weight.
    rest = squares.sum(1) - squares.max(1)
    score: Array = np.sqrt(rest / (capped.shape[1] - 1))
    return score


def _encode(actions: Array, choices: int | None) -> Array:
    """Encode actions as [n, a]: continuous values, or one-hot if there are at most 32 choices."""
    flat = actions.reshape(len(actions), -1).astype(np.float64)
    if choices is None or choices > 32:
        return flat
    one_hot: Array = np.eye(choices)[np.clip(flat[:, 0].astype(int), 0, choices - 1)]
    return one_hot
