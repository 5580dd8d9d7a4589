"""What a search took, and what choosing among its policies takes."""

from html import escape

from off2on.reports import sections
from off2on.reports.search import figures
from off2on.reports.search.bandit import ARMS, PULLS, REPEATS, Selection, select
from off2on.reports.search.policies import Policies, episodes, policies
from off2on.reports.search.record import SPENT, Search, Trial
from off2on.reports.sections import Sheet
from off2on.runs.numbers import duration, points
from off2on.runs.record import runs_below

FEW_EPISODES = 20  # of a policy, below which their mean is no true mean
PLACES = (1, 10, 50, 200)  # episodes after which the curve of choosing is put into numbers
WHAT = {"updates": "updates", "env_steps": "environment steps", "episodes": "evaluation episodes"}


def spent(trials: list[Trial]) -> dict[str, float]:
    """Updates, environment steps, evaluation episodes and seconds of all of them."""
    return {name: sum(trial.spent.get(name, 0.0) for trial in trials) for name in SPENT}


def section(search: Search, sheet: Sheet) -> str:
    """The section of the page."""
    rows = []
    groups = {status: [t for t in search.trials if t.status == status] for status in search.counts}
    for name, trials in {**groups, "together": search.trials}.items():
        total, steps = spent(trials), sum(map(_steps, trials))
        numbers = [f"{total[what]:,.0f}" for what in WHAT]
        within = f"{steps:,}" if steps else "–"
        rows.append([escape(name), str(len(trials)), *numbers, within, duration(total["seconds"])])
    heads = ["", "trials", *WHAT.values(), "steps in them", "time of the trials"]
    parts = [sections.table(heads, rows), f"<p>{_variant(search)}</p>"]
    unknown = [trial.name for trial in search.trials if not trial.spent]
    parts += (
        [f"<p>Not counted, as it is not known: trial {escape(', '.join(unknown))}.</p>"] if unknown else []
    )
    found = policies(search)
    parts += [_choosing(each, sheet, len(found)) for each in found]
    parts += (
        [] if found else ["<p>No episodes of its policies are kept: nothing can be said of choosing.</p>"]
    )
    return f"<section><h2>The cost of tuning</h2>{''.join(parts)}</section>"


def _steps(trial: Trial) -> int:
    """Environment steps in the evaluations of its runs."""
    return sum(
        int(row["length"]) for run in runs_below(trial.folder) for row in episodes(run / "episodes.csv")
    )


def _variant(search: Search) -> str:
    """Which problem was solved, by the names of Jackson et al. 2025, section 4.1."""
    played = f"{spent(search.trials)['episodes']:,.0f}"
    if search.objective == "fqe":
        return """<b>Zero-shot offline (1)</b>: the best was chosen by an estimate from the data,
which needs no episode."""
    if search.is_online:
        return f"""<b>Unrestricted policy updates (3)</b>: policies go on learning in the environment, and
{played} episodes scored them on the way."""
    return f"""<b>Pre-deployment policy selection with an online budget (2a)</b>: policies learn from data
alone and are chosen by playing; this search played {played} episodes. Post-deployment policy selection (2b)
chooses while deployed, so that what is earned on the way counts."""


def _choosing(found: Policies, sheet: Sheet, of: int) -> str:
    """The curve of UCB1, and its numbers."""
    if len(found.returns) < 2:
        return f"<p>There is one policy on {escape(found.data)}: nothing to choose.</p>"
    curve = select(found.returns)
    table = sections.table(
        ["episodes", "the chosen policy returns", "earned on the way, per episode"],
        [_row(curve, place) for place in PLACES],
    )
    name = "choosing" if of == 1 else f"{found.data}-choosing"
    alt = f"Return of the policy that is chosen on {found.data}"
    alt += f": {points(curve.chosen[-1])} after {PULLS} episodes."
    mark = sheet.put(1, name, figures.budget(curve, found.default, found.data_return), alt)
    many = f"{curve.arms} of {len(found.returns)}" if curve.arms == ARMS else f"All {curve.arms}"
    told = "No trial is known to have every default."
    if found.default is not None:
        told = f"The defaults return {points(found.default)}."
    if (fewest := min(map(len, found.returns))) < FEW_EPISODES:
        told += (
            f" The true mean of a policy is here that of few episodes ({fewest}); eval_episodes makes more."
        )
    return f"""<h3>Choosing a policy on {escape(found.data)} by playing</h3>{mark}{table}<p class=quiet>{many}
policies (the seeds of the finished trials) are drawn, UCB1 plays one episode of one of them after the other,
and the one that looks best is deployed; means of {REPEATS:,} repeats with their 95&nbsp;% bootstrap interval,
after Jackson et al. 2025, arXiv:2504.11453. {told}</p>"""


def _row(curve: Selection, place: int) -> list[str]:
    at = place - 1
    interval = f"<small>[{points(curve.low[at])}, {points(curve.high[at])}]</small>"
    return [str(place), f"{points(curve.chosen[at])}{interval}", points(curve.earned[at])]
