"""``off2on ope``: estimate the return of a run's policy from recorded data alone."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from off2on.commands.options import checkpoint_option
from off2on.commands.output import ProgressLine, print_json, print_line, print_table, print_wrapped_table
from off2on.errors import UnknownName, UserError

METHODS = ("fqe", "is", "pdis", "wis", "wpdis", "dr", "dice")
QUICK_UPDATES = 4_000


@click.command(short_help="Estimate the return of a policy from recorded data alone.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN …")
@click.argument("data")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    help=f"Estimator, may be repeated: {' '.join(METHODS)}.  [default: all]",
)
@checkpoint_option
@click.option(
    "--checkpoints",
    is_flag=True,
    help="Evaluate all policies of each run: handover, last, and kept ones that differ; rank them.",
)
@click.option("--explore", is_flag=True, help="Evaluate the stochastic policy that collects data.")
@click.option(
    "--discount",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.99,
    show_default=True,
    help="Discount factor of the return.",
)
@click.option("--clip", type=click.FloatRange(1), help="Largest weight of importance sampling.")
@click.option(
    "--updates",
    type=click.IntRange(100),
    help="Updates of the networks of fqe, dr and dice.  [default: 20,000]",
)
@click.option(
    "--quick", is_flag=True, help=f"Use small networks, {QUICK_UPDATES:,} updates and a larger learning rate."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random draws.")
@click.option("--json", "json_", is_flag=True, help="Print JSON.")
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
    """Estimate the return per episode of RUN's policy from the episodes of DATA, with warnings.

    Evaluates the deterministic policy, or the stochastic one with --explore. Returns are discounted sums of
    the rewards in raw units: is, pdis, wis and wpdis count recorded steps only, fqe, dr and dice estimate
    the return without a time limit. With two policies it prints their difference by each method. With three
    or more, and true scores of their runs, it prints how well each method ranks the policies.
    """
    for method in methods:
        if method not in METHODS:
            known = f"All: {' '.join(METHODS)}"
            raise UnknownName(f"there is no method '{method}'.", known, given=method, known=METHODS)
    from datasets_io.shards.reading import open_shards
    from off2on.runs.record import find_runs

    shards = open_shards(data)
    policies = [
        policy for run in find_runs(runs) for policy in _policies(run, checkpoint, checkpoints, explore)
    ]
    for folder, stage in policies:
        _check_policy(folder, stage, explore, shards)
    import torch

    from datasets_io.ray_internals import silence_deprecations
    from off2on import ope as estimators
    from off2on.ope.evaluated_policy import load_evaluated_policy
    from off2on.ope.recorded_data import RecordedData

    silence_deprecations()
    torch.set_num_threads(1)  # the networks are small
    recorded, settings = RecordedData.from_shards(shards), _fit_settings(quick, updates)
    results: list[dict[str, Any]] = []
    with ProgressLine() as ticker:
        for folder, stage in policies:
            ticker.show(f"evaluating {folder} ({stage}), {len(results) + 1} of {len(policies)} …")
            report = estimators.estimate(
                load_evaluated_policy(folder, stage, explore),
                recorded,
                methods=methods or METHODS,
                discount=discount,
                clip=clip,
                seed=seed,
                **settings,
            )
            results.append(
                {"run": str(folder), "checkpoint": stage, "true": _true_score(folder, stage)}
                | _as_dict(report)
            )
    ranks = _rankings(results) if len(results) > 1 else {}
    if json_:
        arguments = {"data": shards.pinned, "explore": explore, "discount": discount, "seed": seed}
        print_json(arguments | {"policies": results, "ranks": ranks})
    else:
        print_line("data", f"{shards.name} · {shards.episodes:,} episodes · {shards.rows:,} steps")
        print_line("return", f"discounted by {discount:g}, in raw units of the reward; 95 % intervals")
        for result in results:
            _print_policy(result, explore)
        for row in _comparison_lines(*results) if len(results) == 2 else _ranking_lines(ranks):
            print_line(*row)
    if not any(result["estimates"] for result in results):
        click.echo("no estimate: all methods were skipped", err=True)
        raise click.exceptions.Exit(1)


def _policies(folder: Path, checkpoint: str, every: bool, explore: bool) -> Iterator[tuple[Path, str]]:
    """Yield the requested policies of a run; without an online phase the handover's is `last`.

    Kept policies have no checkpoint, which a policy that explores needs for its density. One that is the
    policy of the handover, or the last one, is left out.
    """
    from filecmp import cmp

    from off2on.runs.folder import kept_policies, policy_file
    from off2on.runs.record import NoEvaluationError, load_run

    if not every:
        yield folder, checkpoint
        return
    try:
        went_online = load_run(folder).curve.went_online
    except NoEvaluationError:
        went_online = False
    stages = ["handover", "last"] if went_online else ["last"]
    files = [policy_file(folder, stage) for stage in stages]
    for name in [] if explore else kept_policies(folder):
        if not any(cmp(policy_file(folder, name), file, shallow=False) for file in files):
            yield folder, name
    yield from ((folder, stage) for stage in stages)


def _check_policy(folder: Path, stage: str, explore: bool, shards: Any) -> None:
    """Check that the policy's file exists and that its observations and actions are those of the data."""
    from off2on.runs.folder import policy_file
    from off2on.runs.metadata import read_metadata

    policy_file(folder, stage, explore)
    training_data = read_metadata(folder).training_data()
    for name in ("observation_space", "action_space"):
        space, expected = getattr(shards, name), getattr(training_data, name)
        same = space.shape == expected.shape if name == "observation_space" else space == expected
        if not same:
            raise UserError(
                f"the {name.replace('_', ' ')} of {shards.name} is {space}.",
                f"The policy of {folder} has {expected}: the data must be from the policy's environment.",
            )


def _fit_settings(quick: bool, updates: int | None) -> dict[str, Any]:
    """Return the settings of FQE and DICE for the options."""
    from dataclasses import replace

    from off2on.ope.dice import DICESettings
    from off2on.ope.fqe import FQESettings
    from off2on.ope.quick import QUICK_FQE

    fqe, dice = FQESettings(), DICESettings()
    if quick:
        fqe = QUICK_FQE
        dice = DICESettings(updates=QUICK_UPDATES, members=3, hidden=(64, 64), batch_size=256, lr=1e-3)
    if updates is not None:
        fqe, dice = replace(fqe, updates=updates), replace(dice, updates=updates)
    return {"fqe_settings": fqe, "dice_settings": dice}


def _true_score(folder: Path, stage: str) -> float | None:
    """Return the mean undiscounted return in the run's own evaluation of a policy.

    None if it had no simulator, or if the run goes on and has not yet written its last policy.
    """
    from off2on.runs.record import NoEvaluationError, load_run

    try:
        run = load_run(folder)
    except NoEvaluationError:
        return None
    if stage == "last" and run.status != "finished" and run.returns_in_service is None:
        return None
    if stage in ("handover", "last"):
        return run.curve.handover if stage == "handover" else run.curve.final
    updates, _, steps = stage.partition("-")
    at = (run.metrics["updates"] == int(updates)) & (run.metrics["env_steps"] == int(steps or 0))
    scores = run.metrics["score"][at]
    return float(scores[0]) if len(scores) and math.isfinite(scores[0]) else None


def _as_dict(report: Any) -> dict[str, Any]:
    estimates = [asdict(estimate) | {"trust": estimate.trust} for estimate in report.estimates]
    return {"recorded": report.recorded, "estimates": estimates, "skipped": report.skipped}


def _rankings(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rank the policies by each method that has an estimate of all of them."""
    from off2on.ope.ranking import MIN_POLICIES, rank

    if len(results) < MIN_POLICIES:
        return {"reason": f"{len(results)} policies are too few to rank, expected at least {MIN_POLICIES}"}
    if unknown := [result["run"] for result in results if result["true"] is None]:
        return {"reason": f"{unknown[0]} has no true score"}
    scores = [result["true"] for result in results]
    return {
        first["method"]: asdict(rank([result["estimates"][index]["value"] for result in results], scores))
        for index, first in enumerate(results[0]["estimates"])
        if all(len(result["estimates"]) == len(results[0]["estimates"]) for result in results)
    }


def _print_policy(result: dict[str, Any], explore: bool) -> None:
    from off2on.runs.numbers import points

    click.echo()
    kind = "deterministic policy, undiscounted" if explore else "undiscounted"
    true = (
        "" if result["true"] is None else f" · score in the run's evaluation {points(result['true'])}, {kind}"
    )
    stage = f"{result['checkpoint']}{', stochastic' if explore else ''}"
    print_line("policy", f"{result['run']} ({stage}){true}")
    rows: list[tuple[str, ...]] = [("method", "estimate", "interval", "return over", "trust")]
    rows.append(("(data)", *_numbers(result["recorded"]), "recorded steps", ""))
    for estimate in result["estimates"]:
        numbers = _numbers((estimate["value"], estimate["low"], estimate["high"]))
        rows.append((estimate["method"], *numbers, estimate["horizon"], estimate["trust"]))
    print_table(rows, right=(1, 2))
    notes = [
        (estimate["method"], warning["message"])
        for estimate in result["estimates"]
        for warning in estimate["warnings"]
    ]
    for reason in dict.fromkeys(result["skipped"].values()):
        methods = [method for method, other in result["skipped"].items() if other == reason]
        notes.append((" ".join(methods), f"skipped: {reason}"))
    if notes:
        print_wrapped_table([(f"{method}:", f"{message}.") for method, message in notes])


def _numbers(value_interval: Sequence[float]) -> tuple[str, str]:
    from off2on.runs.numbers import points

    value, low, high = value_interval
    return points(value), f"[{points(low)}, {points(high)}]"


def _comparison_lines(one: dict[str, Any], other: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield how two policies compare by each method; a method has the same horizon for all policies."""
    from off2on.runs.numbers import points

    others = {estimate["method"]: estimate for estimate in other["estimates"]}
    pairs = [(each, others[each["method"]]) for each in one["estimates"] if each["method"] in others]
    for first, second in pairs:
        if math.isnan(first["value"]) or math.isnan(second["value"]):
            yield "comparison", f"{first['method']}: one of the policies has no estimate"
            continue
        (better, high), (_, low) = sorted(
            ((one, first), (other, second)), key=lambda pair: pair[1]["value"], reverse=True
        )
        if high["value"] == low["value"]:
            yield "comparison", f"{first['method']}: the estimates are equal"
            continue
        overlap = low["high"] >= high["low"]
        text = f"{first['method']}: {better['run']} ({better['checkpoint']}) is higher by "
        text += f"{points(high['value'] - low['value'])}, the intervals {'' if overlap else 'do not '}overlap"
        if "do not use" in (first["trust"], second["trust"]):
            text += "; an estimate is not to be used"
        yield "comparison", text


def _ranking_lines(ranks: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "reason" in ranks:
        yield "ranking", ranks["reason"]
        return
    for method, ranking in ranks.items():
        regret = " · ".join(f"regret@{k} {value:.2f}" for k, value in ranking["regret"].items())
        yield "ranking", f"{method}: rank correlation {ranking['correlation']:+.2f} · {regret}"
