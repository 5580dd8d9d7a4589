"""Score of a trial: the mean over its seeds, with a confidence interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from off2on.recipe.chunks import chunk_of
from off2on.recipe.histories import context_of
from off2on.runs.metadata import read_metadata
from off2on.runs.record import RunRecord, load_run
from off2on.runs.statistics import FEWEST_SEEDS, interval
from off2on.training.located_yaml import LocatedValue

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Score:
    """A mean with its 95 % interval, if there is one."""

    value: float
    interval: Interval = None


def score(measure: str, tasks: Sequence[Sequence[Path]]) -> Score:
    """Return the score of a trial; higher is better.

    Args:
        measure: What is maximised.
        tasks: For each data set, the run folders of its seeds. Of several data sets the mean is over
            normalised scores.
    """
    if measure == "fqe":
        return _estimated(tasks[0])
    return mean([[_measured(measure, load_run(run), len(tasks) > 1) for run in runs] for runs in tasks])


def mean(tasks: Sequence[Sequence[float]]) -> Score:
    """Return the mean over seeds and data sets, with its stratified bootstrap interval.

    Not the interquartile mean of the reports: a setting that fails with one seed in four is a worse one. With
    fewer than three seeds there is no interval.
    """
    value = float(np.mean([np.mean(seeds) for seeds in tasks]))
    if min(map(len, tasks)) < FEWEST_SEEDS:
        return Score(value)

    samples = [np.asarray(seeds, np.float64) for seeds in tasks]
    return Score(value, interval(samples, lambda *each: np.mean([seeds.mean(-1) for seeds in each], axis=0)))


def check_estimable(hp: Any, measure: LocatedValue) -> None:
    """Check that policies of an algorithm with these hyperparameters have offline estimates.

    Raises:
        UserError: They have none; `measure` is the entry that asks for estimates.
    """
    chunk, context = chunk_of(hp), context_of(hp)
    if chunk > 1 or context:
        kind = f"by a history of {context} steps" if context else f"about chunks of {chunk} actions"
        raise measure.wrong(
            f"fqe estimates policies that decide at every observation by it alone, not {kind}.",
            "Measure in a simulator.",
            "maximise: final_score",
        )


def _measured(measure: str, run: RunRecord, normalised: bool) -> float:
    curve = run.curve
    low, high = run.reference if normalised and run.reference else (0.0, 100.0)
    if measure == "smallest_drop":
        return -100 * (curve.drop or 0.0) / (high - low)
    found = {"handover_score": curve.handover, "area": curve.area}.get(measure, curve.final)
    assert found is not None, "the online phase has begun"
    return 100 * (found - low) / (high - low)


def _estimated(runs: Sequence[Path]) -> Score:
    """Return the mean of offline estimates; with few seeds, the interval is that of the estimator."""
    from off2on.ope import fqe_score

    abouts = [read_metadata(run) for run in runs]
    found = [
        fqe_score(run, metadata.training_data(), seed=metadata.seed)
        for run, metadata in zip(runs, abouts, strict=True)
    ]
    over_seeds = mean([[estimate for estimate, _, _ in found]])
    if over_seeds.interval is not None:
        return over_seeds
    _, low, high = np.mean(found, axis=0)
    return Score(over_seeds.value, (float(low), float(high)))
