"""Check of episode boundaries: jumps within episodes, and episodes that continue the previous one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from datasets_io.diagnosis.blocks import Block
from datasets_io.diagnosis.dynamics import LinearDynamics
from datasets_io.diagnosis.finding import Fact, Finding, share
from datasets_io.diagnosis.sample import Reservoir, Windows, spread_columns
from datasets_io.diagnosis.summary import DataSummary
from datasets_io.episode import Array

MAX_CANDIDATES = 4096
"""Number of steps with the highest scores that are kept."""
CONTINUATION_SHARE = 0.2
"""Share of the score of a random pair below which an episode counts as a continuation of the previous one. (A
usual step scores less; but without the last transition, its action is unknown.)"""
MAX_BOUNDARIES = 20_000
"""Number of sampled pairs of the end of an episode and the start of the next one."""
POSSIBLE_RESET, CERTAIN_RESET = 0.6, 0.75
"""Shares of the score of a random pair of states, above which a step may be, or must be, a reset.

Measured on data without missing ends (Gymnasium's classic control and MuJoCo, Adroit demonstrations): impacts
reached 0.70 in HalfCheetah and 0.57 elsewhere; the median of true resets was between 0.8 and 1.3."""


@dataclass(frozen=True, eq=False)
class JumpScale:
    """Calibration of scores for a data set.

    Args:
        model: Model that computes the scores.
        usual: 95 % quantile of the scores of steps.
        random: Median score of pairs of unrelated states.
    """

    model: LinearDynamics
    usual: float
    random: float

    @classmethod
    def of(cls, windows: Windows, choices: int | None) -> "JumpScale | None":
        """Calibrate on a sample; return None if resets cannot be distinguished from steps."""
        complete = windows.take(np.flatnonzero(windows.has[:, 2]))
        obs, actions, new = complete.obs[:, 1], complete.actions[:, 1], complete.obs[:, 2]
        model = LinearDynamics.fit(obs, actions, new, choices) if len(complete) else None
        if model is None:
            return None
        steps = model.score(obs, actions, new)
        pairs = model.score(obs, actions, new[np.random.default_rng(0).permutation(len(new))])
        scale = cls(model, float(np.quantile(steps, 0.95)), float(np.median(pairs)))
        # If most steps score like resets, resets cannot be detected.
        return scale if scale.random > 3 * max(scale.usual, 1e-9) else None


class EpisodeBoundaryCheck:
    """Check of episode boundaries, on the steps that the model of the first block predicts worst.

    Args:
        choices: Number of discrete actions, or None.
    """

    def __init__(self, choices: int | None) -> None:
        self._choices = choices
        self._model: LinearDynamics | None = None
        self._steps: list[dict[str, Array]] = []
        self._ends = Reservoir(MAX_BOUNDARIES, seed=1)
        self._before: dict[str, Array] | None = None

    def add(self, block: Block) -> None:
        """Score the steps of a block and sample from its episode ends."""
        columns = spread_columns(block.obs.shape[1])
        new_obs, known = block.new_obs
        finite = np.flatnonzero(known & block.finite & np.isfinite(new_obs).all(1))
        actions = block.actions.reshape(len(block), -1)
        actions = actions[:, spread_columns(actions.shape[1], 32)].astype(np.float32)
        steps = {
            "obs": block.obs[finite][:, columns],
            "actions": actions[finite],
            "new_obs": new_obs[finite][:, columns],
            "row": block.row[finite],
        }
        self._model = self._model or LinearDynamics.fit(
            steps["obs"], steps["actions"], steps["new_obs"], self._choices
        )
        self._steps.append(self._worst(steps))
        if len(self._steps) > 8:
            self._steps = [self._worst(_join(self._steps))]
        self._add_ends(block, columns, actions)

    def _worst(self, steps: dict[str, Array]) -> dict[str, Array]:
        if len(steps["row"]) <= MAX_CANDIDATES:
            return steps
        if self._model is None:  # without a changing dimension there are no jumps
            return {name: values[:0] for name, values in steps.items()}
        score = self._model.score(steps["obs"], steps["actions"], steps["new_obs"])
        worst = np.argpartition(-score, MAX_CANDIDATES)[:MAX_CANDIDATES]
        return {name: values[worst] for name, values in steps.items()}

    def _add_ends(self, block: Block, columns: Array, actions: Array) -> None:
        last = block.starts + block.lengths - 1
        base = np.where(block.has_final[:, None], block.final_obs, block.obs[last])[:, columns]
        first = block.obs[block.starts][:, columns]
        ends = {
            "obs": base,
            "actions": actions[last],
            "terminated": block.terminated,
            "reward": block.rewards[last],
            "row": block.row[last],
        }
        begins = {"new_obs": first, "next_reward": block.rewards[block.starts], "next_length": block.lengths}
        if self._before is not None:
            ends = {name: np.concatenate([self._before[name], values]) for name, values in ends.items()}
        self._before = {name: values[-1:] for name, values in ends.items()}
        pairs = {name: values[:-1] for name, values in ends.items()}
        pairs |= {name: values[len(values) - len(pairs["row"]) :] for name, values in begins.items()}
        finite = np.isfinite(pairs["obs"]).all(1) & np.isfinite(pairs["new_obs"]).all(1)
        rows, keys = self._ends.choose(np.flatnonzero(finite))
        self._ends.add(keys, {name: values[rows] for name, values in pairs.items()})

    def report(self, summary: DataSummary) -> Iterator[Finding | Fact]:
        """Report jumps within episodes, and episode ends after which the recording continues."""
        scale = None if summary.windows is None else JumpScale.of(summary.windows, self._choices)
        if scale is None:
            return
        yield from self._jumps(summary, scale)
        ends = self._ends.columns()
        if ends:
            yield from _continuing_ends(summary, scale, ends)

    def _jumps(self, summary: DataSummary, scale: JumpScale) -> Iterator[Finding]:
        steps = _join(self._steps)
        score = scale.model.score(steps["obs"], steps["actions"], steps["new_obs"])
        certain = score > CERTAIN_RESET * scale.random
        possible = score > POSSIBLE_RESET * scale.random
        if not certain.any():
            return
        rows = np.sort(steps["row"][possible if possible.sum() > 3 else certain])
        most = "or more " if len(rows) >= MAX_CANDIDATES else ""
        times = np.median(score[possible]) / scale.usual
        far = f"{times:.0f}" if times < 1000 else "more than 1,000"
        yield Finding(
            "error" if len(rows) > max(10, 1e-3 * summary.rows) else "warning",
            "stitched",
            f"{len(rows):,} {most}steps within an episode are jumps, like a reset: {far} times as far from "
            "the prediction of the data's dynamics as 95 % of the steps",
            "values are bootstrapped from the first state of the next episode: the data contain transitions "
            "that never happened, and returns span several episodes",
            "mark the ends: a column of timeouts (D4RL), truncated= or episode= (a table), truncated=True "
            "(an Episode)",
            tuple(rows[:8]),
        )


def _continuing_ends(summary: DataSummary, scale: JumpScale, ends: dict[str, Array]) -> Iterator[Finding]:
    """Report episode ends at which the next episode starts in the last state of this one."""
    score = scale.model.score(ends["obs"], ends["actions"], ends["new_obs"])
    continues = score <= max(scale.usual, CONTINUATION_SHARE * scale.random)
    done = ends["terminated"].astype(bool)
    for kind, among in (("terminal", done), ("cut", ~done)):
        both = continues & among
        if both.sum() < 3 or both.sum() < 0.2 * among.sum():
            continue
        rows = tuple(np.sort(ends["row"][both])[:8])
        part = f"{share(both.sum(), among.sum())} of the {_total(summary, kind):,}"
        if kind == "cut":
            yield Finding(
                "warning",
                "continued",
                f"{part} truncated episodes continue in the next one, which starts in their last state",
                "they are parts of one recording, not separate attempts at the task: their lengths and "
                "returns are not comparable, and they are not independent",
                "compare rewards per step, not returns or normalised scores; for returns, cut where the task "
                "starts again",
                rows,
            )
            continue
        yield Finding(
            "warning",
            "continued",
            f"after {part} terminals the recording continues: the next episode starts in their last state"
            + _one_step_text(ends, both),
            "after a terminal no reward is expected; here terminals are in the middle of a trajectory, and "
            "earlier states are not credited with its later rewards",
            "mark the end of an attempt once: keep the first terminal and drop the rows after it, or end "
            "episodes at timeouts only",
            rows,
        )
        yield from _rewarded_once(ends, both)


def _total(summary: DataSummary, kind: str) -> int:
    done = int(summary.episodes.terminated.sum())
    return done if kind == "terminal" else len(summary.episodes) - done


def _one_step_text(ends: dict[str, Array], both: Array) -> str:
    short = int((ends["next_length"][both] == 1).sum())
    return f", {share(short, both.sum())} of them of one step" if short else ""


def _rewarded_once(ends: dict[str, Array], both: Array) -> Iterator[Finding]:
    """Report rewarded terminals whose next row has the same state, but no reward."""
    rewards = ends["reward"][both]
    high = rewards > np.median(ends["next_reward"])
    unrewarded = ends["next_reward"][both] < rewards
    if high.sum() < 3 or (high & unrewarded).sum() < 0.5 * high.sum():
        return
    rows = tuple(np.sort(ends["row"][both][high & unrewarded])[:8])
    yield Finding(
        "warning",
        "goal",
        f"{share((high & unrewarded).sum(), high.sum())} of the rewarded terminals are rewarded once: the "
        "next row has the same state, without reward and terminal",
        "equal states have different rewards; a critic averages them, and values at the goal are far too low",
        "set reward and terminal from the distance to the goal in every row (as in the other AntMaze data), "
        "or drop the rows after the goal",
        rows,
    )


def _join(steps: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([step[name] for step in steps]) for name in steps[0]}
