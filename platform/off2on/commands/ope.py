"""``off2on ope``: what a run's policy would earn, from recorded data alone."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from off2on.commands.output import ProgressLine, print_json, print_line, print_table, print_wrapped_table
from off2on.errors import UnknownName, UserError

METHODS = ("fqe", "is", "pdis", "wis", "wpdis", "dr", "dice")
QUICK = 4_000


@click.command(short_help="What a policy would earn, from recorded data alone.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN …")
@click.argument("data")
@click.option("--method", "methods", multiple=True, metavar="NAME", help=f"Of {' '.join(METHODS)}.  [all]")
@click.option("--checkpoint", type=click.Choice(["handover", "last"]), default="last", show_default=True)
@click.option("--checkpoints", is_flag=True, help="Both of each run, and how well estimates rank them all.")
@click.option("--explore", is_flag=True, help="Judge the policy that draws its actions, as when collecting.")
@click.option("--discount", type=click.FloatRange(0, 1, min_open=True), default=0.99, show_default=True)
@click.option("--clip", type=click.FloatRange(1), help="The largest weight of importance sampling.")
@click.option("--updates", type=click.IntRange(100), help="Of the networks of fqe, dr and dice.  [20,000]")
@click.option("--quick", is_flag=True, help=f"Small networks, {QUICK:,} updates with a larger step.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "json_", is_flag=True)
def ope(
    runs: Sequence[str],
    data: str,
    methods: Sequence[str],
    checkpoint: str,
    checkpoints: bool,
    explore: bool,
    discount: float,
    clip: float | None,
    updates: int | None,
    quick: bool,
    seed: int,
    json_: bool,
) -> None:
    """Estimate what RUN's policy earns an episode, from the episodes of DATA, and say what to doubt.

    The deterministic policy is meant, unless it is to --explore. Rewards are the world's, discounted;
    is, pdis, wis and wpdis count them as far as they are recorded, fqe, dr and dice without an end.
    Of three policies or more it says how well each method ranks them, if their runs have true scores.
    """
    for method in methods:
        if method not in METHODS:
            known = f"All: {' '.join(METHODS)}"
            raise UnknownName(f"there is no method '{method}'.", known, given=method, known=METHODS)
    from datasets_io.shards.reading import open_shards
    from off2on.runs.record import find_runs

    shards = open_shards(data)
    policies = [policy for run in find_runs(runs) for policy in _policies(run, checkpoint, checkpoints)]
    for folder, which in policies:
        _check(folder, which, explore, shards)
    import torch

    from off2on import ope as estimators
    from off2on.ope.recorded import Recorded

    torch.set_num_threads(1)  # the networks are small
    recorded, budgets = Recorded.of(shards), _budgets(quick, updates)
    found: list[dict[str, Any]] = []
    with ProgressLine() as ticker:
        for folder, which in policies:
            ticker.show(f"judging {folder} ({which}), {len(found) + 1} of {len(policies)} …")
            report = estimators.estimate(
                _candidate(folder, which, explore),
                recorded,
                methods=methods or METHODS,
                discount=discount,
                clip=clip,
                seed=seed,
                **budgets,
            )
            found.append(
                {"run": str(folder), "checkpoint": which, "true": _true(folder, which)} | _plain(report)
            )
    ranks = _ranks(found) if len(found) > 1 else {}
    if json_:
        about = {"data": shards.pinned, "explore": explore, "discount": discount, "seed": seed}
        print_json(about | {"policies": found, "ranks": ranks})
    else:
        print_line("data", f"{shards.name} · {shards.episodes:,} episodes · {shards.rows:,} steps")
        print_line("return", f"discounted by {discount:g}, in the units of the rewards; with 95 % intervals")
        for one in found:
            _print(one, explore)
        for row in _ranking_lines(ranks):
            print_line(*row)
    if not any(one["estimates"] for one in found):
        click.echo("nothing could be estimated", err=True)
        raise click.exceptions.Exit(1)


def _policies(folder: Path, checkpoint: str, every: bool) -> Iterator[tuple[Path, str]]:
    """The policies of a run that are meant: `handover`, `last` or both, once if they are the same."""
    from off2on.runs.record import NoEvaluationError, load_run

    if not every:
        yield folder, checkpoint
        return
    try:
        went_online = load_run(folder).curve.went_online
    except NoEvaluationError:
        went_online = False
    yield from ((folder, which) for which in (("handover", "last") if went_online else ("last",)))


def _check(folder: Path, which: str, explore: bool, shards: Any) -> None:
    """That the policy was kept, and takes the data's observations to their actions."""
    from datasets_io.shards.reading import open_shards
    from off2on.runs.folder import policy_file
    from off2on.runs.record import read_metadata

    policy_file(folder, which, explore)
    theirs = open_shards(read_metadata(folder)["data"]["pinned"])
    for what in ("observation_space", "action_space"):
        ours, its = getattr(shards, what), getattr(theirs, what)
        same = ours.shape == its.shape if what == "observation_space" else ours == its
        if not same:
            raise UserError(
                f"the {what.replace('_', ' ')} of {shards.name} is {ours}, that of {folder} {its}.",
                "The data must be of the world that the policy acts in.",
            )


def _budgets(quick: bool, updates: int | None) -> dict[str, Any]:
    """How long FQE and DICE are fitted."""
    from dataclasses import replace

    from off2on.ope import dice, fqe
    from off2on.ope.quick import CHEAP

    values, visits = fqe.Budget(), dice.Budget()
    if quick:
        values, visits = (
            CHEAP,
            dice.Budget(updates=QUICK, members=3, hidden=(64, 64), batch_size=256, lr=1e-3),
        )
    if updates is not None:
        values, visits = replace(values, updates=updates), replace(visits, updates=updates)
    return {"values": values, "visits": visits}


def _candidate(folder: Path, which: str, explore: bool) -> Any:
    from datasets_io.ray_internals import silence_deprecations
    from off2on.ope.candidates import candidate_of

    silence_deprecations()
    return candidate_of(folder, which, explore)


def _true(folder: Path, which: str) -> float | None:
    """The mean return, undiscounted, of the run's own evaluation of a policy; None if it had no simulator."""
    from off2on.runs.record import NoEvaluationError, load_run

    try:
        curve = load_run(folder).curve
    except NoEvaluationError:
        return None
    return curve.handover if which == "handover" else float(curve.scores[-1])


def _plain(report: Any) -> dict[str, Any]:
    judgements = [asdict(one) | {"trust": one.trust} for one in report.judgements]
    return {"recorded": report.recorded, "estimates": judgements, "left_out": report.left_out}


def _ranks(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How well each method that judged all policies ranks them."""
    from off2on.ope.ranking import FEWEST, rank

    if len(found) < FEWEST:
        return {"why_not": f"{len(found)} policies are too few to rank: at least {FEWEST}"}
    if unknown := [one["run"] for one in found if one["true"] is None]:
        return {"why_not": f"no true score is known of {unknown[0]}"}
    scores = [one["true"] for one in found]
    return {
        first["method"]: asdict(rank([one["estimates"][index]["value"] for one in found], scores))
        for index, first in enumerate(found[0]["estimates"])
        if all(len(one["estimates"]) == len(found[0]["estimates"]) for one in found)
    }


def _print(one: dict[str, Any], explore: bool) -> None:
    from off2on.runs.numbers import points

    click.echo()
    played = "of the deterministic policy, undiscounted" if explore else "undiscounted"
    true = "" if one["true"] is None else f" · its run's own score {points(one['true'])}, {played}"
    print_line("policy", f"{one['run']} ({one['checkpoint']}{', exploring' if explore else ''}){true}")
    rows: list[tuple[str, ...]] = [("method", "estimate", "interval", "counts", "trust")]
    rows.append(("(data)", *_numbers(one["recorded"]), "as far as recorded", ""))
    for made in one["estimates"]:
        numbers = _numbers((made["value"], made["low"], made["high"]))
        rows.append((made["method"], *numbers, made["counts"], made["trust"]))
    print_table(rows, right=(1, 2))
    said = [(made["method"], doubt["words"]) for made in one["estimates"] for doubt in made["doubts"]]
    for why in dict.fromkeys(one["left_out"].values()):
        without = [method for method, reason in one["left_out"].items() if reason == why]
        said.append((" ".join(without), f"left out: {why}"))
    if said:
        print_wrapped_table([(f"{method}:", f"{words}.") for method, words in said])


def _numbers(estimate: Sequence[float]) -> tuple[str, str]:
    from off2on.runs.numbers import points

    value, low, high = estimate
    return points(value), f"[{points(low)}, {points(high)}]"


def _ranking_lines(ranks: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "why_not" in ranks:
        yield "ranking", ranks["why_not"]
        return
    for method, one in ranks.items():
        regret = " · ".join(f"regret@{k} {value:.2f}" for k, value in one["regret"].items())
        yield "ranking", f"{method}: rank correlation {one['correlation']:+.2f} · {regret}"
