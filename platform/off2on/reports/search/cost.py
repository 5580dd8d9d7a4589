"""The cost of a search, and of choosing among its policies."""

from typing import Any

from off2on.reports.page import Cell, FigureSheet, PageTable
from off2on.reports.search import figures
from off2on.reports.search.bandit import ARMS, PULLS, REPEATS, Selection, select
from off2on.reports.search.policies import Policies, policies
from off2on.reports.search.record import SPENT, SearchRecord, TrialRecord
from off2on.runs.numbers import duration, points
from off2on.runs.tables import read_episodes

FEW_EPISODES = 20
"""Fewer episodes of a policy do not give its true mean."""
PLACES = (1, 10, 50, 200)
"""Numbers of episodes for which the curve of the choice is in the table."""
UNITS = {"updates": "updates", "env_steps": "environment steps", "episodes": "evaluation episodes"}


def spent(trials: list[TrialRecord]) -> dict[str, float]:
    """Return updates, environment steps, evaluation episodes and seconds of all trials."""
    return {name: sum(trial.spent.get(name, 0.0) for trial in trials) for name in SPENT}


def section(search: SearchRecord, sheet: FigureSheet) -> dict[str, Any]:
    """Return the cost of the trials, the kind of the selection problem, and the cost of choosing a policy."""
    rows: list[list[str]] = []
    groups = {status: [t for t in search.trials if t.status == status] for status in search.counts}
    for name, trials in {**groups, "together": search.trials}.items():
        total, steps = spent(trials), sum(map(_evaluation_steps, trials))
        numbers = [f"{total[unit]:,.0f}" for unit in UNITS]
        rows.append(
            [name, str(len(trials)), *numbers, f"{steps:,}" if steps else "–", duration(total["seconds"])]
        )
    heads = ["", "trials", *UNITS.values(), "steps in them", "time of the trials"]
    found = policies(search)
    return {
        "table": PageTable(heads, rows),
        "variant": dict(zip(("name", "text"), _variant(search), strict=True)),
        "unknown": [trial.name for trial in search.trials if not trial.spent],
        "choices": [_choice(each, sheet, len(found)) for each in found],
    }


def _evaluation_steps(trial: TrialRecord) -> int:
    """Return the environment steps in the evaluations of a trial's runs."""
    return sum(int(row["length"]) for run in trial.runs for row in read_episodes(run.folder))


def _variant(search: SearchRecord) -> tuple[str, str]:
    """Return name and description of the selection problem, after Jackson et al. 2025, section 4.1."""
    played = f"{spent(search.trials)['episodes']:,.0f}"
    if search.objective == "fqe":
        return (
            "Zero-shot offline (1)",
            "the best trial was chosen by an estimate from the data, which needs no episode.",
        )
    if search.is_online:
        return (
            "Unrestricted policy updates (3)",
            f"policies are trained further in the environment, and {played} episodes scored them on the way.",
        )
    return (
        "Pre-deployment policy selection with an online budget (2a)",
        f"policies are trained on the data and chosen by evaluation; this search played {played} episodes. "
        "Post-deployment policy selection (2b) chooses during deployment, where the returns of all episodes "
        "count.",
    )


def _choice(found: Policies, sheet: FigureSheet, count: int) -> dict[str, Any]:
    """Return the curve of UCB1 on one data set and its numbers; `count` is the number of data sets."""
    if len(found.returns) < 2:
        return {"data": found.data, "table": None}
    curve = select(found.returns)
    name = "choosing" if count == 1 else f"{found.data}-choosing"
    alt = f"Return of the policy that is chosen on {found.data}"
    alt += f": {points(curve.chosen[-1])} after {PULLS} episodes."
    notes = ["No trial has all hyperparameters at their defaults."]
    if found.default is not None:
        notes = [f"The defaults return {points(found.default)}."]
    if (fewest := min(map(len, found.returns))) < FEW_EPISODES:
        notes.append(
            f"The true mean of a policy is estimated here from {fewest} episodes; eval_episodes makes more."
        )
    rows = [_row(curve, place) for place in PLACES]
    return {
        "data": found.data,
        "figure": sheet.add(1, name, figures.budget(curve, found.default, found.data_return), alt),
        "table": PageTable(["episodes", "return of the chosen policy", "mean return of the episodes"], rows),
        "policies": f"{curve.arms} of {len(found.returns)}" if curve.arms == ARMS else f"All {curve.arms}",
        "repeats": f"{REPEATS:,}",
        "notes": notes,
    }


def _row(curve: Selection, place: int) -> list[str | Cell]:
    at = place - 1
    chosen = Cell(points(curve.chosen[at]), [f"[{points(curve.low[at])}, {points(curve.high[at])}]"])
    return [str(place), chosen, points(curve.earned[at])]
