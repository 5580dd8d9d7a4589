"""Rows that do not follow each other: jumps within episodes, and recordings that go on beyond an end."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from datasets_io.diagnosis.blocks import Block
from datasets_io.diagnosis.dynamics import LinearDynamics
from datasets_io.diagnosis.finding import Fact, Finding, share
from datasets_io.diagnosis.sample import Reservoir, Windows, spread_columns
from datasets_io.diagnosis.summary import DataSummary
from datasets_io.episode import Array

CANDIDATES = 4096
"""Steps that are kept for a closer look."""
NEAR = 0.2
"""Share of the score of a random pair below which an episode begins where the one before stopped. (A usual
step would be less; but where the last transition was lost, its action is not known.)"""
BOUNDARIES = 20_000
"""Sampled pairs of an episode's end and the next one's beginning."""
SUSPECT, SURE = 0.6, 0.75
"""Shares of the score of a random pair of states: what is above may be a reset, or must be one.

Of the healthy data that were tried (Gymnasium's classic control and MuJoCo, Adroit demonstrations) impacts
reached 0.70 in HalfCheetah and 0.57 elsewhere; the median of true resets lay between 0.8 and 1.3."""


@dataclass(frozen=True, eq=False)
class JumpScale:
    """What scores mean in these data.

    Args:
        model: Gives the scores.
        usual: 95 % of the steps score less.
        random: Median score of a state and one that has nothing to do with it.
    """

    model: LinearDynamics
    usual: float
    random: float

    @classmethod
    def of(cls, windows: Windows, choices: int | None) -> "JumpScale | None":
        """From a sample; None where a reset could not be told from a step."""
        there = windows.take(np.flatnonzero(windows.has[:, 2]))
        obs, acts, new = there.obs[:, 1], there.actions[:, 1], there.obs[:, 2]
        model = LinearDynamics.fit(obs, acts, new, choices) if len(there) else None
        if model is None:
            return None
        steps = model.score(obs, acts, new)
        pairs = model.score(obs, acts, new[np.random.default_rng(0).permutation(len(new))])
        scale = cls(model, float(np.quantile(steps, 0.95)), float(np.median(pairs)))
        # Where most steps look like resets, no reset looks like one.
        return scale if scale.random > 3 * max(scale.usual, 1e-9) else None


class EpisodeBoundaryCheck:
    """Keeps the steps that the first block's dynamics explain worst, and a sample of the episodes' ends.

    Args:
        choices: Number of discrete actions, or None.
    """

    def __init__(self, choices: int | None) -> None:
        self._choices = choices
        self._model: LinearDynamics | None = None
        self._steps: list[dict[str, Array]] = []
        self._ends = Reservoir(BOUNDARIES, seed=1)
        self._before: dict[str, Array] | None = None

    def add(self, block: Block) -> None:
        """Scores a block's steps and draws some of its ends."""
        columns = spread_columns(block.obs.shape[1])
        new_obs, known = block.new_obs
        fine = np.flatnonzero(known & block.finite & np.isfinite(new_obs).all(1))
        acts = block.actions.reshape(len(block), -1)
        acts = acts[:, spread_columns(acts.shape[1], 32)].astype(np.float32)
        steps = {
            "obs": block.obs[fine][:, columns],
            "actions": acts[fine],
            "new_obs": new_obs[fine][:, columns],
            "row": block.row[fine],
        }
        self._model = self._model or LinearDynamics.fit(
            steps["obs"], steps["actions"], steps["new_obs"], self._choices
        )
        self._steps.append(self._worst(steps))
        if len(self._steps) > 8:
            self._steps = [self._worst(_join(self._steps))]
        self._add_ends(block, columns, acts)

    def _worst(self, steps: dict[str, Array]) -> dict[str, Array]:
        if len(steps["row"]) <= CANDIDATES:
            return steps
        if self._model is None:  # nothing moves: nothing can jump
            return {name: values[:0] for name, values in steps.items()}
        score = self._model.score(steps["obs"], steps["actions"], steps["new_obs"])
        worst = np.argpartition(-score, CANDIDATES)[:CANDIDATES]
        return {name: values[worst] for name, values in steps.items()}

    def _add_ends(self, block: Block, columns: Array, acts: Array) -> None:
        last = block.starts + block.lengths - 1
        base = np.where(block.has_final[:, None], block.final_obs, block.obs[last])[:, columns]
        first = block.obs[block.starts][:, columns]
        ends = {
            "obs": base,
            "actions": acts[last],
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
        fine = np.isfinite(pairs["obs"]).all(1) & np.isfinite(pairs["new_obs"]).all(1)
        rows, keys = self._ends.choose(np.flatnonzero(fine))
        self._ends.add(keys, {name: values[rows] for name, values in pairs.items()})

    def report(self, summary: DataSummary) -> Iterator[Finding | Fact]:
        """Jumps within episodes; ends after which the recording goes on."""
        scale = None if summary.windows is None else JumpScale.of(summary.windows, self._choices)
        if scale is None:
            return
        yield from self._jumps(summary, scale)
        ends = self._ends.columns()
        if ends:
            yield from _continued(summary, scale, ends)

    def _jumps(self, summary: DataSummary, scale: JumpScale) -> Iterator[Finding]:
        steps = _join(self._steps)
        score = scale.model.score(steps["obs"], steps["actions"], steps["new_obs"])
        sure = score > SURE * scale.random
        suspect = score > SUSPECT * scale.random
        if not sure.any():
            return
        rows = np.sort(steps["row"][suspect if suspect.sum() > 3 else sure])
        most = "or more " if len(rows) >= CANDIDATES else ""
        times = np.median(score[suspect]) / scale.usual
        far = f"{times:.0f}" if times < 1000 else "more than 1,000"
        yield Finding(
            "error" if len(rows) > max(10, 1e-3 * summary.rows) else "warning",
            "stitched",
            f"{len(rows):,} {most}steps within an episode land where nothing led: {far} times as far from "
            "where the data's own dynamics point as 95 % of the steps are, like a reset",
            "one episode's last state gets the next one's first value: transitions that never happened are "
            "learned from, and returns run through several episodes",
            "mark the ends: a column of timeouts (D4RL), truncated= or episode= (a table), truncated=True "
            "(an Episode)",
            tuple(rows[:8]),
        )


def _continued(summary: DataSummary, scale: JumpScale, ends: dict[str, Array]) -> Iterator[Finding]:
    """Ends whose next episode begins where this one stopped."""
    score = scale.model.score(ends["obs"], ends["actions"], ends["new_obs"])
    goes_on = score <= max(scale.usual, NEAR * scale.random)
    done = ends["terminated"].astype(bool)
    for kind, among in (("terminal", done), ("cut", ~done)):
        both = goes_on & among
        if both.sum() < 3 or both.sum() < 0.2 * among.sum():
            continue
        rows = tuple(np.sort(ends["row"][both])[:8])
        told = f"{share(both.sum(), among.sum())} of the {_total(summary, kind):,}"
        if kind == "cut":
            yield Finding(
                "warning",
                "continued",
                f"{told} episodes that were cut off go on in the next one: it begins where they stop",
                "they are pieces of one recording, not attempts at a task: their lengths and returns mean "
                "little, and their number is not that of independent trials",
                "compare rewards per step, not returns or normalised scores; for returns, cut where the task "
                "begins anew",
                rows,
            )
            continue
        yield Finding(
            "warning",
            "continued",
            f"after {told} terminals the recording goes on: the next episode begins where this one ended"
            + _crumbs(ends, both),
            "a terminal says that nothing is to be gained from there on; here it stands in the middle of a "
            "trajectory, whose later rewards no earlier state is credited with",
            "mark the end of an attempt once: keep the first terminal and drop what follows it, or end "
            "episodes at timeouts only",
            rows,
        )
        yield from _paid_once(ends, both)


def _total(summary: DataSummary, kind: str) -> int:
    done = int(summary.episodes.terminated.sum())
    return done if kind == "terminal" else len(summary.episodes) - done


def _crumbs(ends: dict[str, Array], both: Array) -> str:
    short = int((ends["next_length"][both] == 1).sum())
    return f", {share(short, both.sum())} of them of one step" if short else ""


def _paid_once(ends: dict[str, Array], both: Array) -> Iterator[Finding]:
    """A terminal that pays, and next to it a row, at the same place, that does not."""
    paid = ends["reward"][both]
    high = paid > np.median(ends["next_reward"])
    unpaid = ends["next_reward"][both] < paid
    if high.sum() < 3 or (high & unpaid).sum() < 0.5 * high.sum():
        return
    rows = tuple(np.sort(ends["row"][both][high & unpaid])[:8])
    yield Finding(
        "warning",
        "goal",
        f"{share((high & unpaid).sum(), high.sum())} of the rewarded terminals are paid once: the next "
        "row is at the same place, without reward and without terminal",
        "whether a state is a goal depends on when it was reached; a critic averages the two, and being "
        "at the goal looks almost worthless",
        "set reward and terminal from the distance to the goal, the same in every row (as in the other "
        "AntMaze data), or drop the rows after the goal",
        rows,
    )


def _join(steps: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([step[name] for step in steps]) for name in steps[0]}
