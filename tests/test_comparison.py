"""What a comparison says in words: who won, and what the seeds cannot tell apart."""

from pathlib import Path

import numpy as np

from off2on.reports.comparison import verdict
from off2on.reports.groups import Group
from off2on.runs.curve import Curve
from off2on.runs.record import RunRecord


def group(name: str, finals: list[float], lowest: float = 60.0) -> Group:
    """Seeds that are handed over at 66, fall to `lowest` and end where it is said."""
    runs = [
        RunRecord(
            folder=Path(f"{name}-s{seed}"), algorithm="iql", strategy=name, data="toy", seed=seed,
            status="finished", data_return=50.0, reference=None, sides=[], metrics={}, metadata={},
            curve=Curve(np.array([10.0]), np.array([66.0]), np.array([0.0, 1, 10]),
                        np.array([66.0, lowest, final]), 10),
        )
        for seed, final in enumerate(finals)
    ]  # fmt: skip
    return Group("toy", name, runs)


def test_who_won_is_said_only_where_the_seeds_tell() -> None:
    groups = [group("append", [70, 71, 72]), group("balanced", [90, 91, 92], 40), group("warm", [89, 91, 93])]
    told = verdict({each.name: each for each in groups})
    assert told.startswith("balanced ends highest, at 91.0; above append;")
    assert "3 seeds do not separate it from warm. append ends lowest, at 71.0." in told
    assert told.endswith("balanced drops most, by 26.0, append least, by 6.00.")


def test_drops_that_overlap_are_said_to() -> None:
    shallow, deep = group("append", [70, 71, 72]), group("balanced", [70, 71, 72], 59)
    deep.runs[0] = group("balanced", [70], 65).runs[0]  # one of three falls less than all of the other way
    told = verdict({"append": shallow, "balanced": deep})
    assert told.endswith(
        "append drops most, by 6.00, balanced least, by 5.00, which these seeds do not separate."
    )


def test_two_seeds_beat_nobody() -> None:
    told = verdict({each.name: each for each in (group("append", [1, 2]), group("balanced", [90, 91]))})
    assert "2 seeds do not separate it from append" in told
