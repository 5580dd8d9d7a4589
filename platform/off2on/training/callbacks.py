"""Functions of a user that a run calls."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np

from off2on.errors import UserError
from off2on.training.evaluate import EvaluationEpisode


class Callbacks:
    """Functions that a run calls in its own process; a subclass overrides those that it needs."""

    def on_update_block(self, algo: Any) -> None:
        """Do something after a call of ``algo.train()``: some hundred updates, and the steps between them.

        Args:
            algo: RLlib's algorithm, with `updates`, `env_steps` and `latest_metrics`.
        """

    def on_evaluation(
        self, algo: Any, phase: str, played: Sequence[EvaluationEpisode]
    ) -> Mapping[str, float]:
        """Return own numbers by name, which become columns of metrics.csv.

        Args:
            algo: RLlib's algorithm.
            phase: ``offline``, ``handover`` or ``online``.
            played: Episodes of the evaluation, with their transitions; none without an environment.
        """
        return {}

    def on_handover(self, algo: Any) -> None:
        """Do something when the online phase begins, before the policy is evaluated and collects data."""

    def own_metrics(
        self, algo: Any, phase: str, played: Sequence[EvaluationEpisode], taken: Container[str]
    ) -> dict[str, float]:
        """Return the numbers of `on_evaluation`, checked; a subclass does not override this.

        Args:
            algo: RLlib's algorithm.
            phase: ``offline``, ``handover`` or ``online``.
            played: Episodes of the evaluation.
            taken: Names of the other columns of metrics.csv.

        Raises:
            UserError: A name is that of another column, or a value is no number.
        """
        found = self.on_evaluation(algo, phase, played)
        for name, value in found.items():
            if name in taken:
                raise UserError(f"on_evaluation returned {name!r}, which metrics.csv has already.")
            if not isinstance(value, int | float | np.number):
                raise UserError(f"on_evaluation returned {name}={value!r}.", "Expected: a number.")
        return {name: float(value) for name, value in found.items()}

    @property
    def needs_transitions(self) -> bool:
        """True if `on_evaluation` is overridden, so that evaluations keep their transitions."""
        return type(self).on_evaluation is not Callbacks.on_evaluation
