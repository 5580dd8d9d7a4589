"""The handover report: what changes when learning goes online, and whether what must not change has not.

It is made after the switch and before the first online step, shown, and kept as handover.yaml in the run.

Four mistakes make most drops: a reward, observation or action that is transformed on one side only, an
exploration schedule that begins again, batches that are not what one thinks, an optimiser that was lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import yaml

from off2on.runs.numbers import points, short
from off2on.training import handover_checks
from off2on.training.evaluate import Episode
from off2on.training.plan import Plan, ResolvedPlan

NEXT = 100
"""Updates on either side that tell which objectives are due there."""


class Change(NamedTuple):
    """One thing, before and after."""

    what: str
    offline: str
    online: str


class Check(NamedTuple):
    """One thing that must hold, or should be known."""

    what: str
    passed: bool | None
    found: str


@dataclass(frozen=True)
class Handover:
    """What a run's handover is.

    Attributes:
        changes: What may differ; where both sides are alike, it does not.
        checks: What was found; ``passed`` is None where there is nothing to be right or wrong.
    """

    changes: list[Change]
    checks: list[Check]

    def lines(self) -> list[str]:
        """For the screen: what changes, and every check."""
        moved = [change for change in self.changes if change.offline != change.online]
        width = max((len(name) for name, *_ in (*moved, *self.checks)), default=0)
        told = [f"{what:<{width}}  {before} → {after}" for what, before, after in moved]
        marks = {True: "ok", False: "WARNING", None: "–"}
        told += [f"{what:<{width}}  {marks[passed]}: {found}" for what, passed, found in self.checks]
        return ["the handover", *(f"  {line}" for line in told)]

    def dump(self) -> str:
        """As YAML."""
        kept = {
            "changes": [change._asdict() for change in self.changes],
            "checks": [check._asdict() for check in self.checks],
        }
        return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def report(
    plan: Plan, checked: ResolvedPlan, algo: Any, before: float | None, played: Sequence[Episode]
) -> Handover:
    """Look at an algorithm that has just crossed.

    Args:
        plan: What was asked for.
        checked: The same, with its names found.
        algo: The algorithm.
        before: The deterministic score just before the switch, if it is known.
        played: The episodes of the evaluation just after it, with their transitions.
    """
    return Handover(_changes(plan, checked, algo), [*_checks(algo, before, played)])


def _changes(plan: Plan, checked: ResolvedPlan, algo: Any) -> list[Change]:
    recipe, hp, online = checked.recipe, checked.hp, checked.online_hp
    factors = checked.online_settings
    said = [f"{name} {value}" for name, value in checked.strategy.as_dict().items()]
    new = "new logs" if plan.new_data else "an environment"
    rows = f"{plan.strategy}{' (' + ', '.join(said) + ')' if said else ''}"
    found = [
        Change("batches", f"{short(checked.shards.rows)} recorded rows", rows),
        Change("collected by", "nobody", f"{new}, exploration {factors.exploration}"),
        Change("updates", "as many as asked for", _updates(factors, plan.online)),
        Change("targets", "the recipe's own", _targets(factors)),
        Change(
            "values begin anew", "never", f"every {factors.resets:,} updates" if factors.resets else "never"
        ),
    ]
    ours = {f"{name}": (value, online.as_dict()[name]) for name, value in hp.as_dict().items()}
    shown = {"reward", "normalise_obs", "discount", "target_entropy"} & ours.keys()
    shown |= {name for name, (then, now) in ours.items() if then != now}
    found += [Change(name, *map(_word, both)) for name, both in ours.items() if name in shown]
    first = plan.updates + 1
    for objective in algo.config.resolved.recipe.objectives_in_order():
        due = [
            any(recipe.due(objective, values, update, progress) for update in range(first, first + NEXT))
            for values, progress in ((hp, 0.5), (online, 1.0))
        ]
        steps = (recipe.lr(objective.name, hp, 1 - 1e-9), recipe.lr(objective.name, online, 1.0))
        both = [f"step size {lr:.2g}" if learns else "rests" for lr, learns in zip(steps, due, strict=True)]
        found.append(Change(objective.name, *both))
    return [*found, Change("optimisers, following copies", "kept", "kept")]


def _updates(factors: Any, steps: int) -> str:
    if factors.warm_up >= steps:
        return f"NONE: the warm-up takes {factors.warm_up:,} steps, and there are {steps:,}"
    told = f"{factors.utd:g} per step, from step {factors.warm_up:,} on"
    told += f"; the first {factors.head_start:,} move the values alone" if factors.head_start else ""
    delay = factors.policy_delay
    return told + (f"; of {delay:,}, one moves more than the values" if delay > 1 else "")


def _targets(factors: Any) -> str:
    jitter = f", actions ± {factors.target_jitter:g}" if factors.target_jitter else ""
    own = "the recipe's own" if factors.targets == "own" else factors.targets
    return own + jitter


def _word(value: object) -> str:
    return "the recipe's default" if value is None else str(value)


def _checks(algo: Any, before: float | None, played: Sequence[Episode]) -> list[Check]:
    offline, online = algo.ask(handover_checks.both_ways, count=256)[0]
    apart = {name: float(np.abs(offline[name] - online[name]).max()) for name in offline}
    wrong = ", ".join(f"{name} by up to {gap:.3g}" for name, gap in apart.items() if gap)
    same = f"{len(offline['reward'])} recorded transitions are the same rows on both sides"
    found = [Check("transforms", not wrong, f"the two sides differ: {wrong}" if wrong else same)]
    if not played:
        return found
    score = float(np.mean([episode.ret for episode in played]))
    if before is not None:
        said = f"{points(before)} before the switch, {points(score)} after it"
        found.append(Check("score", score == before, said))
    columns: dict[str, Any] = {
        name: np.concatenate([one.columns[name] for one in played if one.columns is not None])
        for name in played[0].columns or {}
    }
    columns["last"] = np.zeros(len(columns["rewards"]), bool)
    columns["last"][np.cumsum([episode.length for episode in played]) - 1] = True
    some = columns["obs"][:: max(1, len(columns["obs"]) // 256)]
    if algo.runners is not None:
        acts = algo.policy()(handover_checks.tensor(some)).detach().numpy()
        theirs = algo.env_runner_group.foreach_env_runner(lambda runner: handover_checks.decide(runner, some))
        agree = all(np.array_equal(acts, each) for each in theirs)
        found.append(
            Check(
                "who collects", agree, "its policy is the one that was scored" if agree else "an older policy"
            )
        )
    if values := algo.ask(handover_checks.judge, columns=columns)[0]:
        gap, size = values["q"] - values["return"], abs(values["return"])
        said = (
            f"{points(values['q'])} on the episodes just played, whose rows return {points(values['return'])}"
        )
        said += f" (correlation {values['correlation']:.2f})"
        found.append(Check("Q", None if abs(gap) <= 0.5 * size else False, said))
    random = algo.ask(handover_checks.spread, obs=some)[0]
    if algo.config.resolved.recipe.actions == "discrete":
        said = f"{random['std']:.0%} of actions are not the most frequent of their observation"
    else:
        said = f"standard deviation {random['std']:.2g} of half the action box"
    said += f", entropy {random['entropy']:.2f} nats" if "entropy" in random else ""
    found.append(Check("exploration", None, said))
    return found
