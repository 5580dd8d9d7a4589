"""The numbers of a cost model: what a plan asks for, estimates with bounds, and fits to measurements."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.optimize import nnls
from scipy.stats import t as student

LEVEL = 0.95
"""Of the intervals of fits, which are those of a new measurement."""

FEWEST = 3
"""Measurements beyond one for each term, without which no interval can be told, and a factor is stated."""

MEASURED, MODELLED, ASSUMED = "measured", "modelled", "assumed"
_RANK = (MEASURED, MODELLED, ASSUMED)


@dataclass(frozen=True)
class Estimate:
    """Seconds or bytes, between bounds.

    Attributes:
        value: The estimate.
        low: Lower bound.
        high: Upper bound.
        basis: What its weakest part is: measured, modelled, assumed.
    """

    value: float
    low: float
    high: float
    basis: str = MODELLED

    def __add__(self, other: "Estimate") -> "Estimate":
        return self._with(other, lambda one, two: one + two)

    def __mul__(self, times: float) -> "Estimate":
        basis = max(self.basis, MODELLED, key=_RANK.index)  # that many take so many times as long, is a law
        return Estimate(self.value * times, self.low * times, self.high * times, basis)

    def or_longer(self, other: "Estimate") -> "Estimate":
        """The longer of two that go on at once."""
        return self._with(other, max)

    def _with(self, other: "Estimate", join: Any) -> "Estimate":
        return Estimate(
            join(self.value, other.value),
            join(self.low, other.low),
            join(self.high, other.high),
            max(self.basis, other.basis, key=_RANK.index),
        )


NOTHING = Estimate(0.0, 0.0, 0.0, MEASURED)


class Work(NamedTuple):
    """What an update makes a device do."""

    operators: float
    flop: float
    elements: float

    def between(self, half: "Work", share: float) -> "Work":
        """With another share of the batch, this being the work of all of it and `half` that of half of it."""
        pairs = zip(self, half, strict=True)
        return Work(*(max(0.0, whole + 2 * (whole - part) * (share - 1)) for whole, part in pairs))


NO_WORK = Work(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Job:
    """What a plan asks for, in numbers.

    Attributes:
        updates: Before the handover.
        online: Environment steps after it.
        due: Updates after it.
        batch: Rows of an update, of all learners together.
        whole: Work of an update with the whole batch.
        half: Work with half of it.
        gradients: Parameters of each objective, and in which share of the updates it is due.
        held: Bytes of the recorded rows, of all learners together.
        policy: Bytes of the policy that runners are given.
        step: Bytes of an environment step in Ray's store.
        env: The simulator.
        evaluated: Environment steps of all evaluations.
        learners: Processes; 0 and 1 average nothing.
        workers: Processes that collect, or read in an ingest; 0 collects where the learner is.
        envs: Simulators of each.
        rollout: Environment steps of a visit, of all workers together.
        asynchronous: Whether collecting goes on beside the learner.
        gpu: Whether each learner has one.
        network: Gbit/s between learners on machines of their own; None: they share one.
        files: To ingest; 0: none.
        file_bytes: Bytes of each.
    """

    updates: int = 0
    online: int = 0
    due: int = 0
    batch: int = 256
    whole: Work = NO_WORK
    half: Work = NO_WORK
    gradients: Sequence[tuple[int, float]] = ()
    held: int = 0
    policy: int = 0
    step: int = 0
    env: str | None = None
    evaluated: int = 0
    learners: int = 0
    workers: int = 0
    envs: int = 1
    rollout: int = 50
    asynchronous: bool = False
    gpu: bool = False
    network: float | None = None
    files: int = 0
    file_bytes: int = 0

    @property
    def work(self) -> Work:
        """Of an update of one learner, which has its share of the batch."""
        return self.whole.between(self.half, 1 / max(1, self.learners))


@dataclass(frozen=True)
class Fit:
    """Coefficients that are not negative, fitted to relative errors.

    Attributes:
        coefficients: One for each term.
        factor: A new measurement lies within estimate / factor and estimate * factor.
    """

    coefficients: tuple[float, ...]
    factor: float

    @classmethod
    def of(cls, terms: Sequence[Sequence[float]], seconds: Sequence[float], alone: float = 2.0) -> Self:
        """Fit seconds [n] to terms [n, k].

        Args:
            terms: Of each measurement.
            seconds: What it took.
            alone: The least factor where there are too few measurements to tell one.
        """
        matrix, taken = np.asarray(terms, float), np.asarray(seconds, float)
        # Each term in its own largest unit: they differ by ten orders of magnitude.
        units = matrix.max(0)
        units[units == 0] = 1.0
        found, _ = nnls(matrix / units / taken[:, None], np.ones(len(taken)))
        coefficients = tuple((found / units).tolist())
        spare = len(taken) - int((found > 0).sum())
        off = np.log(taken / (matrix / units @ found))
        if spare < FEWEST:
            return cls(coefficients, max(alone, math.exp(2 * float(np.abs(off).max()))))
        spread = math.sqrt(float(off @ off) / spare)
        return cls(coefficients, math.exp(float(student.ppf((1 + LEVEL) / 2, spare)) * spread))

    def at(self, *terms: float) -> Estimate:
        """The estimate for other terms [k]."""
        value = sum(one * other for one, other in zip(self.coefficients, terms, strict=True))
        return Estimate(value, value / self.factor, value * self.factor)
