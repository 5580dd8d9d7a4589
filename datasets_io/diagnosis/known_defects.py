"""Reported defects of public data sets, by name, with their source and a recommended action."""

import re
from typing import NamedTuple

from datasets_io.diagnosis.finding import Finding
from datasets_io.registry import find

_D4RL = "Farama-Foundation/D4RL#"


class KnownDefect(NamedTuple):
    """A reported defect of one or more data sets.

    Args:
        names: Regular expression that matches the whole id, without `d4rl/`.
        issue: Reports: repository#number, or several.
        what: Description of the defect.
        means: Effect on training or on scores.
        do: Recommended action.
    """

    names: str
    issue: str
    what: str
    means: str
    do: str

    def finding(self) -> Finding:
        """Return the defect as a note; the other checks show if these data are affected."""
        return Finding("note", "known", f"{self.what} ({self.issue})", self.means, self.do)


DEFECTS: tuple[KnownDefect, ...] = (
    KnownDefect(
        r"antmaze-(umaze-diverse|medium-\w+|large-\w+)-v0",
        f"{_D4RL}77, {_D4RL}146",
        "timeouts do not match the ends of trajectories: the ant jumps across the maze within an episode",
        "the data contain transitions that never happened",
        "use the -v2 data",
    ),
    KnownDefect(
        r"antmaze-(umaze|medium-\w+|large-\w+)-v[02]",
        "seohongpark/HIQL#2",
        "terminals are set in every row at the goal, although the trajectory continues",
        "cutting at terminals gives episodes of one step",
        "keep the first terminal of a trajectory and drop the rows after it, or end episodes at timeouts "
        "only",
    ),
    KnownDefect(
        r"antmaze-.*",
        "yihaosun1124/OfflineRL-Kit#14",
        "a loader that recomputes episode ends as for locomotion sets every reward to zero",
        "only imitation is possible",
        "read the rewards from the file: they are 1 at the goal",
    ),
    KnownDefect(
        r"antmaze-umaze-diverse-v[02]",
        f"{_D4RL}199",
        "reward and terminal are set once, in the row that reaches the goal; in the other AntMaze data, in "
        "every row at the goal",
        "the same state is a goal in one row and not in the next",
        "set both from the distance to the goal (0.5), or drop the rows after the goal",
    ),
    KnownDefect(
        r"maze2d-.*",
        f"{_D4RL}194, {_D4RL}158",
        "rewards[t] belongs to observations[t]; the environment computes it from observations[t+1]",
        "the action that reaches the goal gets no reward",
        "rewards[:-1] = rewards[1:] before the episodes are cut",
    ),
    KnownDefect(
        r"maze2d-.*",
        f"{_D4RL}85",
        "timeouts mark waypoints of one long trajectory, not a time limit",
        "lengths and returns of the episodes are not those of the task",
        "compare rewards per step; for returns, cut the episodes again",
    ),
    KnownDefect(
        r"maze2d-.*",
        f"{_D4RL}159, {_D4RL}215",
        "the reference score of 100 is from a controller that was not reset between episodes",
        "normalised scores far above 100 are easy to reach",
        "compare returns, or only scores with the same reference",
    ),
    KnownDefect(
        r"ant-.*",
        f"{_D4RL}173, {_D4RL}143",
        "the contact forces (columns 27 to 110) are zero in all rows",
        "an environment with contact forces gives observations outside the data",
        "evaluate without contact forces, or remove the columns from data and environment",
    ),
    KnownDefect(
        r"hopper-medium-expert-v0",
        f"{_D4RL}19",
        "the data are expert and mixed data, 1,200,919 rows, not medium and expert",
        "behaviour cloning scores much higher than on medium-expert data",
        "use -v2",
    ),
    KnownDefect(
        r"(hopper|walker2d|halfcheetah)-.*-v[01]",
        f"{_D4RL}86, {_D4RL}89",
        "the authors replaced these data by -v2 because of defects, such as wrong episode ends in hopper's "
        "replay data",
        "episodes may be joined, and scores are not comparable with those on -v2",
        "use -v2",
    ),
    KnownDefect(
        r"(hopper|walker2d|halfcheetah)-medium-replay-v.",
        f"{_D4RL}162",
        "some timeouts are missing, and some are set without a time limit",
        "some episodes are fragments of others",
        "check the findings on episode ends before using returns of episodes",
    ),
    KnownDefect(
        r"relocate-(human|expert)-v1",
        f"{_D4RL}196",
        "the ball floats in the air when the environment is set to the recorded states",
        "states cannot be replayed; rewards may not match the states",
        "treat results on this task with care",
    ),
)


def known_defects(name: str) -> list[KnownDefect]:
    """Return the reported defects of a data set.

    Args:
        name: Id of the data set, with or without `d4rl/`; without a version, the newest version is used.
    """
    entry = find(name)
    full = name.removeprefix("d4rl/") if entry is None else entry.name
    return [known for known in DEFECTS if re.fullmatch(known.names, full)]
