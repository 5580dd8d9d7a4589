"""The handover report: settings that change between the offline and the online phase, and checks.

The report is made at the handover, before the first online step. It is shown and written to the run as
handover.yaml. It covers the four most frequent causes of a drop of the score: a reward, observation or
action that is transformed in one phase only; an exploration schedule that restarts; batches with unexpected
contents; a lost optimiser state.
"""

from collections.abc import Mapping, Sequence
from math import isinf
from typing import Any

import numpy as np
import torch

from datasets_io.column_names import STEP_COLUMNS, TRANSITION
from datasets_io.shards.returns import returns_to_go
from off2on.recipe.batch import Batch
from off2on.recipe.chunks import chunk_of
from off2on.replay.buffer import to_learner_columns
from off2on.replay.transforms import Array
from off2on.replay.windows import Chunks
from off2on.rllib.learner import RecipeLearner
from off2on.rllib.update_step import policy_period, trained_objectives
from off2on.runs.handover import HandoverCheck, HandoverReport, SettingChange
from off2on.runs.numbers import points, short
from off2on.training.evaluate import EvaluationEpisode
from off2on.training.plan import Plan, ResolvedPlan


def make_report(
    plan: Plan, resolved: ResolvedPlan, algo: Any, before: float | None, played: Sequence[EvaluationEpisode]
) -> HandoverReport:
    """Check an algorithm at the handover.

    Args:
        plan: The plan.
        resolved: The checked plan.
        algo: The algorithm, at the start of the online phase.
        before: Score of the deterministic policy at the end of the offline phase; None if unknown.
        played: Episodes of the evaluation at the handover, with their transitions.
    """
    return HandoverReport(_changes(plan, resolved, algo), [*_checks(algo, before, played)])


def _changes(plan: Plan, resolved: ResolvedPlan, algo: Any) -> list[SettingChange]:
    recipe, hp, online = resolved.settings.recipe, resolved.settings.hp, resolved.settings.online_hp
    settings = resolved.settings.online
    options = [f"{name} {value}" for name, value in resolved.settings.strategy_options.as_dict().items()]
    new = "new recorded data" if plan.new_data else "an environment"
    first = plan.updates + 1
    period = policy_period(recipe, online, first + settings.head_start, 1.0, settings.policy_delay)
    rows = f"{plan.strategy}{' (' + ', '.join(options) + ')' if options else ''}"
    found = [
        SettingChange("batches", f"{short(resolved.shards.rows)} recorded rows", rows),
        SettingChange("collection", "none", f"{new}, exploration {settings.exploration}"),
        SettingChange("updates", "as given by --updates", _updates(settings, plan.online, period)),
        SettingChange("targets", "those of the algorithm", _targets(settings)),
        SettingChange(
            "resets of value networks",
            "none",
            f"every {settings.resets:,} updates" if settings.resets else "none",
        ),
    ]
    both_phases = {name: (value, online.as_dict()[name]) for name, value in hp.as_dict().items()}
    shown = {"reward", "normalise_obs", "discount", "target_entropy"} & both_phases.keys()
    shown |= {name for name, (then, now) in both_phases.items() if then != now}
    found += [SettingChange(name, *map(_format, both)) for name, both in both_phases.items() if name in shown]
    trained = [
        trained_objectives(recipe, values, start, progress, settings.policy_delay)
        for values, start, progress in ((hp, first, 0.5), (online, first + settings.head_start, 1.0))
    ]
    for objective in algo.config.resolved.recipe.objectives_in_order():
        rates = (recipe.lr(objective.name, hp, 1 - 1e-9), recipe.lr(objective.name, online, 1.0))
        both = [
            f"learning rate {lr:.2g}" if objective in names else "not updated"
            for lr, names in zip(rates, trained, strict=True)
        ]
        found.append(SettingChange(objective.name, *both))
    return [*found, SettingChange("optimisers, target networks", "kept", "kept")]


def _updates(settings: Any, steps: int, period: float) -> str:
    if settings.warm_up >= steps:
        return f"NONE: the warm-up has {settings.warm_up:,} steps, the online phase {steps:,}"
    text = f"{settings.utd:g} per step, from step {settings.warm_up:,} on"
    text += (
        f"; the first {settings.head_start:,} update only the value networks" if settings.head_start else ""
    )
    if settings.policy_delay == 1 or isinf(period):  # an algorithm of value networks alone has no policy
        return text
    number = f"{period:.3g}" if period < 100 else f"{period:,.0f}"
    return f"{text}; one in {number} updates more than the value networks"


def _targets(settings: Any) -> str:
    jitter = f", actions ± {settings.target_jitter:g}" if settings.target_jitter else ""
    own = "those of the algorithm" if settings.targets == "own" else settings.targets
    return own + jitter


def _format(value: object) -> str:
    return "default of the algorithm" if value is None else str(value)


def _checks(algo: Any, before: float | None, played: Sequence[EvaluationEpisode]) -> list[HandoverCheck]:
    offline, online = algo.call_learners(first_transitions, count=256)[0]
    differences = {name: float(np.abs(offline[name] - online[name]).max()) for name in offline}
    wrong = ", ".join(f"{name} by up to {gap:.3g}" for name, gap in differences.items() if gap)
    same = f"{len(offline['obs'])} recorded transitions are transformed equally in both phases"
    found = [HandoverCheck("transforms", not wrong, f"the phases differ: {wrong}" if wrong else same)]
    if not played:
        return found
    score = float(np.mean([episode.ret for episode in played]))
    if before is not None:
        text = f"{points(before)} before the handover, {points(score)} after it"
        found.append(HandoverCheck("score", score == before, text))
    columns: dict[str, Any] = {
        name: np.concatenate([one.columns[name] for one in played if one.columns is not None])
        for name in played[0].columns or {}
    }
    columns["last"] = np.zeros(len(columns["rewards"]), bool)
    columns["last"][np.cumsum([episode.length for episode in played]) - 1] = True
    some = columns["obs"][:: max(1, len(columns["obs"]) // 256)]
    if algo.runners is not None:
        actions = algo.policy()(to_tensor(some)).detach().numpy()
        runner_actions = algo.env_runner_group.foreach_env_runner(lambda runner: greedy_actions(runner, some))
        agree = all(np.array_equal(actions, each) for each in runner_actions)
        found.append(
            HandoverCheck(
                "collecting policy",
                agree,
                "the evaluated policy" if agree else "another policy than the evaluated one",
            )
        )
    if values := algo.call_learners(compare_values_with_returns, columns=columns)[0]:
        gap, size = values["q"] - values["return"], abs(values["return"])
        text = f"{points(values['q'])} on the evaluation episodes, return {points(values['return'])}"
        text += f" (correlation {values['correlation']:.2f})"
        found.append(HandoverCheck("Q", None if abs(gap) <= 0.5 * size else False, text))
    random = algo.call_learners(measure_exploration, obs=some)[0]
    if algo.config.resolved.recipe.actions == "discrete":
        text = f"{random['std']:.0%} of actions are not the most frequent of their observation"
    else:
        text = f"standard deviation {random['std']:.2g} of half the action box"
    text += f", entropy {random['entropy']:.2f} nats" if "entropy" in random else ""
    found.append(HandoverCheck("exploration", None, text))
    return found


# Functions of a learner or a runner, called in its process: `OfflineToOnline.call_learners`.


def first_transitions(learner: RecipeLearner, count: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the first recorded transitions twice, transformed as offline rows and as online rows."""
    source = learner.sampler.source
    reader = source.reader
    number = next(number for number, size in enumerate(source.counts) if size)  # others may be left out
    part, piece = reader.own_part(number)[0], reader.shards.pieces[number]
    offline = vars(learner.rows.layout.split(reader.read_piece(number)[:count]))
    if learner.sampler.changes:
        raw = reader.shards.read(piece, [*TRANSITION, "last"])
        online = {name: column[part][:count] for name, column in learner.sampler.columns_of(raw).items()}
    else:
        raw = reader.shards.read(piece, ["obs", "actions", "rewards"])
        online = source.transforms.apply({name: column[part][:count] for name, column in raw.items()})
    # Losses of behaviour cloning have no rewards.
    online = {name: column for name, column in online.items() if name in offline}
    return {name: offline[name].numpy() for name in online}, online


@torch.no_grad()
def compare_values_with_returns(learner: RecipeLearner, columns: Mapping[str, Array]) -> dict[str, float]:
    """Compare the critics' values on whole episodes with the discounted returns of these episodes.

    Args:
        learner: The learner with the critics.
        columns: RLlib's columns [n, …] and ``last`` [n], in raw units, ordered by time.

    Returns:
        Means over the transitions: ``q``, over all critics, and ``return``, the discounted sum of transformed
        rewards, continued at a time limit by the critics' value; and ``correlation`` of the two. Empty if
        there is no critic.
    """
    recipe, nets, hp = learner.recipe, learner.nets, learner.hp
    transformed = to_learner_columns(columns, STEP_COLUMNS, learner.sampler.source.transforms, hp.discount)
    batch = Batch(
        **{name: torch.from_numpy(column).to(learner.rows.data) for name, column in transformed.items()}
    )
    whole = np.ones(len(columns["last"]), bool)
    if (chunk := chunk_of(hp)) > 1:
        windows = Chunks(chunk).change(transformed, columns["last"], hp.discount)
        batch.action = torch.from_numpy(windows["action"]).to(learner.rows.data)
        whole = windows["inside"][:, -1] > 0
    values = recipe.q(nets, batch.obs, batch.action)
    next_values = recipe.q(nets, batch.next_obs, recipe.act(nets, batch.next_obs, hp, explore=False))
    if values is None or next_values is None or not whole.any():
        return {}
    q, beyond = (each.mean(0).cpu().numpy() for each in (values, next_values))
    cut_off = columns["last"] & ~columns["terminateds"]
    returns = returns_to_go(
        transformed["reward"] + cut_off * hp.discount * beyond, columns["last"], hp.discount
    )
    q, returns = q[whole], returns[whole]  # of a chunk that its episode cuts short, no value is learned
    correlation = np.corrcoef(q, returns)[0, 1] if np.ptp(q) and np.ptp(returns) else np.nan
    return {"q": float(q.mean()), "return": float(returns.mean()), "correlation": float(correlation)}


def measure_exploration(learner: RecipeLearner, obs: Array, samples: int = 16) -> dict[str, float]:
    """Measure the randomness of the exploration policy at observations [n, D] in raw units.

    Returns:
        ``std``: standard deviation of the actions in units of half the action box, 0 if deterministic; for
        discrete actions, the share that is not the most frequent one. ``entropy``: that of the density of
        actions in raw units, in nats, if the policy has a density.
    """
    policy = learner.module["default_policy"].policy
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seen = torch.from_numpy(np.asarray(obs, np.float32)).to(learner.rows.data)
        actions = torch.stack([policy(seen, explore=True) for _ in range(samples)])
        found = {}
        if policy.has_density:
            found["entropy"] = -float(policy.sampled(seen.repeat(samples, 1))[1].mean())
    if policy.discrete:
        return found | {"std": float((actions != actions.mode(0).values).float().mean())}
    half = (policy.get_buffer("action_high") - policy.get_buffer("action_low")) / 2
    return found | {"std": float((actions / half).std(0).mean())}


def greedy_actions(runner: Any, obs: Array) -> Array:
    """Return the actions of a runner's policy without exploration at observations [n, D]."""
    with torch.no_grad():
        actions: Array = runner.module.policy(torch.from_numpy(np.asarray(obs, np.float32))).numpy()
    return actions


def to_tensor(obs: Array) -> torch.Tensor:
    """Return observations as float32."""
    return torch.from_numpy(np.asarray(obs, np.float32))
