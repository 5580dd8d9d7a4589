"""Check that the diagnosis finds the known defects of published data, and nothing in data without defects.

Each defect is reproduced on small data in the reported layout; names of tests give the issue numbers.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest

from datasets_io import Episode, Shards, Source, open_shards
from datasets_io.diagnosis import Diagnosis, diagnose_shards, diagnose_source
from datasets_io.diagnosis.known_defects import known_defects
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.catalogue import resolve_source
from datasets_io.sources.tabular import Table

GOAL = np.array([6.0, 6.0])
SHARED = Path(__file__).parents[2] / "shared" / "data"
Columns = dict[str, Any]


def walk(steps: int, count: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Simulate point masses that steer to waypoints: obs [n, T+1, 4], actions, arrivals [n, T]."""
    rng = np.random.default_rng(seed)
    place, speed = rng.uniform(0.5, 7.5, (count, 2)), np.zeros((count, 2))
    waypoint = np.where(np.arange(count)[:, None] % 2 == 0, GOAL, rng.uniform(0.5, 7.5, (count, 2)))
    obs, actions = np.empty((count, steps + 1, 4), np.float32), np.empty((count, steps, 2), np.float32)
    arrived = np.zeros((count, steps), bool)
    obs[:, 0] = np.concatenate([place, speed], 1)
    for step in range(steps):
        push = np.clip(waypoint - place - 1.5 * speed + 0.3 * rng.normal(size=(count, 2)), -1, 1)
        speed = 0.95 * speed + 0.1 * push
        place = place + 0.5 * speed
        arrived[:, step] = np.linalg.norm(place - waypoint, axis=1) < 0.4
        fresh = np.where(rng.random((count, 1)) < 0.3, GOAL, rng.uniform(0.5, 7.5, (count, 2)))
        waypoint = np.where(arrived[:, step, None], fresh, waypoint)
        obs[:, step + 1], actions[:, step] = np.concatenate([place, speed], 1), push
    return obs, actions, arrived


def at_goal(obs: Any) -> Any:
    return np.linalg.norm(obs[..., :2] - GOAL, axis=-1) < 0.8


def flat(values: Any) -> Any:
    return values.reshape(-1, *values.shape[2:])


def every(steps: int, rows: int) -> Any:
    """Return the mask of each `steps`-th row [rows] bool."""
    return (np.arange(rows) + 1) % steps == 0


@pytest.fixture(scope="module")
def maze() -> Columns:
    """Return 60 attempts of 200 steps with reward 1 in each row that leads to the goal, without a defect."""
    obs, actions, _ = walk(200, 60)
    rewards = at_goal(obs[:, 1:])
    return {
        "observations": flat(obs[:, :-1]), "actions": flat(actions), "next_observations": flat(obs[:, 1:]),
        "rewards": flat(rewards).astype(np.float32), "terminals": np.zeros(rewards.size, bool),
        "timeouts": every(200, rewards.size),
    }  # fmt: skip


@pytest.fixture(scope="module")
def attempts() -> Columns:
    """Return 100 attempts that continue after the goal, as in AntMaze; `there` [n, T] marks the goal."""
    obs, actions, _ = walk(200, 100, seed=3)
    there = at_goal(obs[:, 1:])
    return {
        "observations": flat(obs[:, :-1]), "actions": flat(actions), "there": there,
        "timeouts": every(200, there.size),
    }  # fmt: skip


@pytest.fixture
def diagnosed(tmp_path: Path) -> Callable[..., Diagnosis]:
    """Return diagnosed(columns, name), which diagnoses an HDF5 file in the layout of D4RL."""

    def examine(columns: Columns, name: str = "lab", ingested: bool = False) -> Diagnosis:
        path = tmp_path / f"{name}.hdf5"
        with h5py.File(path, "w") as file:
            for key, values in columns.items():
                file[key] = values
        found = resolve_source(str(path))
        if ingested:
            return diagnose_shards(ingest(found.source, found.path, tmp_path / "data", name=found.name))
        return diagnose_source(found.source, found.path, found.name, f"off2on data add {path}")

    return examine


def errors_and_warnings(diagnosis: Diagnosis) -> set[str]:
    """Return the keys of the checks with an error or a warning."""
    return {finding.check for finding in diagnosis.findings if finding.severity != "note"}


def observed(diagnosis: Diagnosis, check: str) -> str:
    return " / ".join(finding.what for finding in diagnosis.findings if finding.check == check)


def test_valid_mazes_have_no_findings(maze: Columns, diagnosed: Callable[..., Diagnosis]) -> None:
    assert errors_and_warnings(diagnosed(maze)) == set()
    assert errors_and_warnings(diagnosed(maze, ingested=True)) == set()


def test_attempts_that_end_at_the_goal_have_no_findings(attempts: Columns) -> None:
    class Arrivals(Source):
        action_space = gym.spaces.Box(-1, 1, (2,))

        def episodes(self, part: Any) -> Iterator[Episode]:
            obs, actions, _ = walk(200, 150, seed=3)
            for seen, done, there in zip(obs, actions, at_goal(obs[:, 1:]), strict=True):
                steps = int(np.argmax(there)) + 1 if there.any() else len(there)
                yield Episode(seen[: steps + 1], done[:steps], there[:steps].astype(float), bool(there.any()))

    assert errors_and_warnings(diagnose_source(Arrivals(), None, "arrivals", "")) == set()


@pytest.mark.parametrize("ingested", [False, True])
def test_d4rl_77_timeouts_out_of_step_with_the_ends(
    maze: Columns, diagnosed: Callable[..., Diagnosis], ingested: bool
) -> None:
    spoilt = maze | {"timeouts": every(190, len(maze["rewards"]))}
    del spoilt["next_observations"]
    diagnosis = diagnosed(spoilt, ingested=ingested)
    assert {"stitched", "continued"} <= errors_and_warnings(diagnosis)
    (jumps,) = (finding for finding in diagnosis.findings if finding.check == "stitched")
    if not ingested:  # of 59 resets one falls onto a false end, and those to a state nearby are no jump
        assert set(jumps.rows) <= set(range(199, 12_000, 200))
        assert 50 <= int(jumps.what.split()[0]) <= 58


def test_no_end_is_marked_at_all(maze: Columns, diagnosed: Callable[..., Diagnosis]) -> None:
    spoilt = maze | {"timeouts": np.zeros(len(maze["rewards"]), bool)}
    del spoilt["next_observations"]
    assert {"stitched", "ends"} <= errors_and_warnings(diagnosed(spoilt))


def test_d4rl_85_timeouts_at_waypoints_of_one_long_trajectory(diagnosed: Callable[..., Diagnosis]) -> None:
    obs, actions, arrived = walk(8000, 1, seed=5)
    columns = {
        "observations": obs[0, :-1], "actions": actions[0],
        "rewards": at_goal(obs[0, 1:]).astype(np.float32),
        "terminals": np.zeros(8000, bool), "timeouts": arrived[0],
    }  # fmt: skip
    diagnosis = diagnosed(columns, "maze2d-umaze-v1")
    assert "continued" in errors_and_warnings(diagnosis)
    assert "D4RL#85" in observed(diagnosis, "known")


@pytest.mark.parametrize("ingested", [False, True])
def test_d4rl_194_and_158_rewards_one_row_late(diagnosed: Callable[..., Diagnosis], ingested: bool) -> None:
    obs, actions, _ = walk(8000, 1, seed=5)
    columns = {
        "observations": obs[0, :-1], "actions": actions[0],
        "rewards": at_goal(obs[0, :-1]).astype(np.float32), "terminals": np.zeros(8000, bool),
        "timeouts": every(300, 8000),
    }  # fmt: skip
    diagnosis = diagnosed(columns, "maze2d-large-v1", ingested)
    assert "alignment" in errors_and_warnings(diagnosis)
    assert "one row after the goal" in observed(diagnosis, "alignment")
    assert "D4RL#194, Farama-Foundation/D4RL#158" in observed(diagnosis, "known")


@pytest.mark.parametrize(("shift", "word"), [(1, "before"), (-1, "after"), (0, "")])
def test_dense_rewards_off_by_a_row(
    maze: Columns, diagnosed: Callable[..., Diagnosis], shift: int, word: str
) -> None:
    distance = np.square(maze["observations"][:, :2] - GOAL).sum(1)
    effort = np.square(maze["actions"]).sum(1)
    rewards = -(distance + effort).reshape(60, 200)
    spoilt = maze | {"rewards": np.roll(rewards, shift, 1).ravel().astype(np.float32)}
    assert (f"the row {word}" in observed(diagnosed(spoilt), "alignment")) == bool(word)


@pytest.mark.parametrize("ingested", [False, True])
def test_d4rl_199_one_reward_for_a_goal(
    attempts: Columns, diagnosed: Callable[..., Diagnosis], ingested: bool
) -> None:
    there = attempts["there"]
    first = there & (np.cumsum(there, 1) == 1)
    columns = {key: attempts[key] for key in ("observations", "actions", "timeouts")}
    columns |= {"rewards": flat(first).astype(np.float32), "terminals": flat(first)}
    diagnosis = diagnosed(columns, "antmaze-umaze-diverse-v2", ingested)
    assert {"goal", "continued"} <= errors_and_warnings(diagnosis)
    assert "rewarded once" in observed(diagnosis, "goal")
    assert "D4RL#199" in observed(diagnosis, "known")


@pytest.mark.parametrize("ingested", [False, True])
def test_hiql_2_a_terminal_in_every_row_at_the_goal(
    attempts: Columns, diagnosed: Callable[..., Diagnosis], ingested: bool
) -> None:
    columns = {key: attempts[key] for key in ("observations", "actions", "timeouts")}
    columns |= {"rewards": flat(attempts["there"]).astype(np.float32), "terminals": flat(attempts["there"])}
    diagnosis = diagnosed(columns, ingested=ingested)
    assert {"continued", "one step"} <= errors_and_warnings(diagnosis)
    assert "rewarded once" not in observed(diagnosis, "goal")


def test_offlinerl_kit_14_all_rewards_zero(maze: Columns, diagnosed: Callable[..., Diagnosis]) -> None:
    diagnosis = diagnosed(
        maze | {"rewards": np.zeros(len(maze["rewards"]), np.float32)}, "antmaze-medium-play-v2"
    )
    assert diagnosis.count("error") == 1
    assert "all 12,000 rewards are zero" in observed(diagnosis, "rewards")
    assert "OfflineRL-Kit#14" in observed(diagnosis, "known")


def test_d3rlpy_255_huge_numbers_and_a_terminal_in_every_row() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=500)
    weight[123] = 1e25
    table = {
        "disease": rng.integers(2, size=500), "weight": weight, "treatment": rng.integers(2, size=500),
        "variable74": rng.normal(size=500), "over": np.ones(500, bool),
    }  # fmt: skip
    source = Table("obs=disease,weight actions=treatment rewards=variable74 terminated=over")
    diagnosis = diagnose_source(source, table, "patients", "")  # type: ignore[arg-type]  # a table in memory
    assert "huge" in errors_and_warnings(diagnosis)
    (huge,) = (finding for finding in diagnosis.findings if finding.check == "huge")
    assert (huge.severity, huge.rows) == ("error", (123,))
    assert "1e+25 (columns 1)" in huge.what
    assert "each of the 500 episodes has one step" in observed(diagnosis, "one step")


def test_d3rlpy_372_nan_in_a_table_and_actions_of_another_range() -> None:
    rng = np.random.default_rng(0)
    table: dict[str, Any] = {name: rng.normal(size=400) for name in ("load", "days")}
    table |= {
        "price": rng.uniform(0, 1, 400),
        "revenue": rng.normal(size=400),
        "flight": np.arange(400) // 20,
    }
    table["load"][[40, 41, 300]] = np.nan
    source = Table("obs=load,days actions=price rewards=revenue episode=flight")
    source.action_space = gym.spaces.Box(-1, 1, (1,))
    diagnosis = diagnose_source(source, table, "flights", "off2on data add flights.csv")  # type: ignore[arg-type]
    assert {"finite", "unit"} <= errors_and_warnings(diagnosis)
    (nan,) = (finding for finding in diagnosis.findings if finding.check == "finite")
    assert (nan.severity, nan.rows) == ("error", (40,))
    assert nan.what == "obs: NaN or infinity in 3 of 400 rows (columns 0)"
    assert nan.do == "off2on data add flights.csv --nan drop-episode"
    assert "look like a range of [0, 1]" in observed(diagnosis, "unit")


def test_d3rlpy_160_stretches_of_zero_actions(maze: Columns, diagnosed: Callable[..., Diagnosis]) -> None:
    actions = maze["actions"].copy()
    actions[3000:6000] = 0
    diagnosis = diagnosed(maze | {"actions": actions})
    (zero,) = (finding for finding in diagnosis.findings if finding.check == "zero actions")
    assert (zero.severity, zero.rows) == ("warning", (3000,))
    assert zero.what.startswith("25 % of the actions (3,000)")


def test_a_time_limit_marked_as_terminal(maze: Columns, diagnosed: Callable[..., Diagnosis]) -> None:
    spoilt = maze | {"terminals": maze["timeouts"], "timeouts": np.zeros(len(maze["rewards"]), bool)}
    diagnosis = diagnosed(spoilt)
    assert "horizon" in errors_and_warnings(diagnosis)
    assert "after exactly 200 steps" in observed(diagnosis, "horizon")


def test_known_defects_are_known_by_name() -> None:
    def issues(name: str) -> str:
        return " ".join(known.issue for known in known_defects(name))

    assert "D4RL#77" in issues("antmaze-large-play-v0")
    assert "D4RL#77" not in issues("d4rl/antmaze-large-play-v2")
    assert "HIQL#2" in issues("d4rl/antmaze-large-play-v2")
    assert "HIQL#2" not in issues("antmaze-umaze-diverse-v2")
    assert "D4RL#199" in issues("antmaze-umaze-diverse")  # without a version, the newest
    assert "D4RL#85" in issues("maze2d-open-dense-v0")
    for healthy in ("halfcheetah-medium-v2", "hopper-expert-v2", "door-human-v1", "toy-pendulum", "mine"):
        assert not known_defects(healthy)


@pytest.mark.parametrize("name", ["toy-pendulum", "toy-cartpole"])
def test_toy_data_have_no_findings(data_root: Path, name: str) -> None:
    assert errors_and_warnings(diagnose_shards(open_shards(name))) == set()
    found = resolve_source(name, options={"episodes": 20})
    assert errors_and_warnings(diagnose_source(found.source, found.path, name, "")) == set()


def test_data_without_dynamics_have_no_jumps(wide: Shards) -> None:
    """Observations of `wide` are independent of the previous ones, so resets cannot be distinguished."""
    assert errors_and_warnings(diagnose_shards(wide)) == set()


@pytest.mark.parametrize(("name", "checks"), [("halfcheetah-medium", set()), ("door-human", {"box", "ends"})])
def test_real_recordings(name: str, checks: set[str]) -> None:
    path = SHARED / f"{name}.hdf5"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    found = resolve_source(str(path))
    if name == "door-human":  # its environment may not be installed
        found.source.env, found.source.action_space = None, gym.spaces.Box(-1, 1, (28,))
        found.source.name = "demonstrations"  # type: ignore[attr-defined]
        checks = {"box"}
    diagnosis = diagnose_source(found.source, found.path, found.name, "")
    assert errors_and_warnings(diagnosis) == checks
    if name == "door-human":
        assert "the furthest at 1.366" in observed(diagnosis, "box")
