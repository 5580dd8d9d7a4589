"""Data sets whose defects are known by name: what was reported of them, where, and what to do."""

import re
from typing import NamedTuple

from datasets_io.diagnosis.finding import Finding
from datasets_io.registry import find

_D4RL = "Farama-Foundation/D4RL#"


class KnownDefect(NamedTuple):
    """One defect of some data sets.

    Args:
        names: Regular expression of the whole id, without `d4rl/`.
        issue: Where it was reported: repository#number, or several.
        what: The defect.
        means: What it does to learning, or to scores.
        do: What to do about it.
    """

    names: str
    issue: str
    what: str
    means: str
    do: str

    def finding(self) -> Finding:
        """As a note: the checks say whether these very data have it."""
        return Finding("note", "known", f"{self.what} ({self.issue})", self.means, self.do)


KNOWN_DEFECTS: tuple[KnownDefect, ...] = (
    KnownDefect(
        r"antmaze-(umaze-diverse|medium-\w+|large-\w+)-v0",
        f"{_D4RL}77, {_D4RL}146",
        "timeouts are out of step with the ends of trajectories: the ant leaps across the maze within an "
        "episode",
        "transitions that never happened are learned from",
        "use the -v2 data",
    ),
    KnownDefect(
        r"antmaze-(umaze|medium-\w+|large-\w+)-v[02]",
        "seohongpark/HIQL#2",
        "terminals stand in every row at the goal, while the trajectory goes on",
        "cut at terminals it falls into episodes of one step",
        "keep the first terminal of a trajectory and drop the rows after it, or end episodes at timeouts "
        "only",
    ),
    KnownDefect(
        r"antmaze-.*",
        "yihaosun1124/OfflineRL-Kit#14",
        "a loader that recomputes ends as for locomotion leaves every reward zero",
        "only imitation is left",
        "read the file itself: its rewards are 1 at the goal",
    ),
    KnownDefect(
        r"antmaze-umaze-diverse-v[02]",
        f"{_D4RL}199",
        "reward and terminal are set once, in the row that reaches the goal; elsewhere in AntMaze, in "
        "every row at it",
        "the same state is a goal in one row and none in the next",
        "set both from the distance to the goal (0.5), or drop the rows after the goal",
    ),
    KnownDefect(
        r"maze2d-.*",
        f"{_D4RL}194, {_D4RL}158",
        "rewards[t] says whether observations[t] is at the goal; the environment pays for observations[t+1]",
        "the action that arrives earns nothing",
        "rewards[:-1] = rewards[1:] before the episodes are cut",
    ),
    KnownDefect(
        r"maze2d-.*",
        f"{_D4RL}85",
        "timeouts mark where a passing waypoint was reached in one long trajectory, not a time limit",
        "lengths and returns of the episodes are not those of the task",
        "compare rewards per step; cut anew for returns",
    ),
    KnownDefect(
        r"maze2d-.*",
        f"{_D4RL}159, {_D4RL}215",
        "the reference of 100 comes from a controller that was not reset between episodes",
        "normalised scores far above 100 are easy to reach",
        "compare returns, or with published scores under the same reference",
    ),
    KnownDefect(
        r"ant-.*",
        f"{_D4RL}173, {_D4RL}143",
        "the contact forces (columns 27 to 110) are zero in all rows",
        "an environment that reports them shows a policy what it has never seen",
        "evaluate without contact forces, or cut the columns off both",
    ),
    KnownDefect(
        r"hopper-medium-expert-v0",
        f"{_D4RL}19",
        "it is expert and mixed data, 1,200,919 rows, not medium and expert",
        "cloning does much better on it than on what its name says",
        "use -v2",
    ),
    KnownDefect(
        r"(hopper|walker2d|halfcheetah)-.*-v[01]",
        f"{_D4RL}86, {_D4RL}89",
        "its makers replaced these data by -v2 to mend them; hopper's replay data have wrong ends, for one",
        "episodes may run into one another, and scores do not compare with those on -v2",
        "use -v2",
    ),
    KnownDefect(
        r"(hopper|walker2d|halfcheetah)-medium-replay-v.",
        f"{_D4RL}162",
        "timeouts are not always marked, and some stand where no time limit is",
        "some episodes are pieces of others",
        "look at the ends below before you trust returns of episodes",
    ),
    KnownDefect(
        r"relocate-(human|expert)-v1",
        f"{_D4RL}196",
        "the ball hangs in the air when the recorded states are set in the environment",
        "states do not replay; rewards may not be those of the states",
        "treat conclusions on this task with care",
    ),
)


def known_defects(name: str) -> list[KnownDefect]:
    """What is known of a data set.

    Args:
        name: Its id, with or without `d4rl/`; without a version, the newest one is meant.
    """
    entry = find(name)
    full = name.removeprefix("d4rl/") if entry is None else entry.name
    return [known for known in KNOWN_DEFECTS if re.fullmatch(known.names, full)]
