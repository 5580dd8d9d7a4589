"""Generated data of OGBench: the trajectories, rewards and tasks are those of its own package."""

import json
import sys
from importlib import metadata

import numpy as np
import pytest
from command import off2on

from datasets_io import environments
from datasets_io.errors import BadValues, UnknownName, UserError
from datasets_io.ingestion.ingest import ingest
from datasets_io.scores import compare, key_of, to_json
from datasets_io.sources.catalogue import resolve_source
from datasets_io.sources.ogbench_play import OGBenchPlay
from datasets_io.sources.ogbench_tasks import KINDS, environment_id, generated_names, task_id
from datasets_io.storage.documents import parse_json
from off2on.runs.metadata import RecordedScore

pytest.importorskip("ogbench", reason="pip install off2on[ogbench]")

from datasets_io.sources.ogbench_protocol import simulator
from datasets_io.sources.ogbench_simulation import make_inner

pytestmark = pytest.mark.usefixtures("temporary_files")  # of mazes, which ogbench leaves there
SLOW = pytest.mark.slow  # a trajectory of an arm takes two seconds of a core


def read(source):
    return [episode for part in source.parts(None) for episode in source.episodes(part)]


def transitions(episodes):
    masks = [np.append(np.ones(episode.length - 1), not episode.terminated) for episode in episodes]
    return {
        "observations": np.concatenate([episode.obs[:-1] for episode in episodes]),
        "actions": np.concatenate([episode.actions for episode in episodes]),
        "next_observations": np.concatenate([episode.obs[1:] for episode in episodes]),
        "rewards": np.concatenate([episode.rewards for episode in episodes]),
        "masks": np.concatenate(masks),
    }


def follow(env, seed, steps=60):
    """Return the observations after a reset and random steps, always the same ones."""
    obs, _ = env.reset(seed=seed)
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, *env.action_space.shape)).astype(np.float32)
    return np.array([obs, *(env.step(action)[0] for action in actions)])


@pytest.mark.parametrize(
    ("environment", "task"),
    [
        ("pointmaze-medium", 3),
        pytest.param("puzzle-3x3", 1, marks=SLOW),
        pytest.param("scene", 2, marks=SLOW),
    ],
)
@pytest.mark.filterwarnings("ignore:.*precision lowered")  # ogbench's own loader makes the environment
def test_rewards_and_masks_are_those_of_ogbenchs_loader(environment, task, tmp_path):
    import ogbench

    states = simulator(environment)(0, 0)
    rows = {**states, "actions": np.append(states["actions"], states["actions"][:1], axis=0)}
    file = {**rows, "terminals": np.arange(1001) == 1000}
    for name in ("x", "x-val"):
        np.savez(tmp_path / f"{name}.npz", **file)
    name = f"{environment}-{KINDS[environment].type}-singletask-task{task}-v0"
    wanted = ogbench.make_env_and_datasets(name, dataset_path=str(tmp_path / "x.npz"))[1]
    episodes = read(OGBenchPlay(environment, task=task, rows=1000))
    for column, values in transitions(episodes).items():
        np.testing.assert_array_equal(values, wanted[column], err_msg=column)
    assert len(np.unique(wanted["rewards"])) > 1
    sparse = read(OGBenchPlay(environment, task=task, rows=1000, sparse=True))
    assert [episode.length for episode in sparse] == [episode.length for episode in episodes]
    np.testing.assert_array_equal(transitions(sparse)["rewards"], np.where(wanted["rewards"] == 0, 0, -1))


@pytest.mark.parametrize(
    "environment",
    ["pointmaze-large", pytest.param("cube-double", marks=SLOW), pytest.param("scene", marks=SLOW)],
)
def test_a_trajectory_depends_on_its_number_alone(environment):
    simulate = simulator(environment)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = simulate(0, 0), simulate(0, 1)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    again = simulator(environment)(0, 1)
    for column, values in second.items():
        assert len(values) == (1000 if column == "actions" else 1001)
        np.testing.assert_array_equal(again[column], values)
    assert not np.array_equal(first["actions"], second["actions"])
    assert not np.array_equal(simulate(1, 1)["actions"], second["actions"])
    assert np.abs(second["actions"]).max() <= 1


@pytest.mark.slow
def test_the_cube_is_moved_to_new_targets():
    cube = simulator("cube-single")(0, 0)["qpos"][:, 14:17]
    lifted = cube[:, 2] > 0.06  # m; its centre rests at 0.02
    assert 0.2 < lifted.mean() < 0.8
    assert np.count_nonzero(np.diff(lifted.astype(int)) == 1) >= 5  # a plan takes about 4.5 s of 50
    rests = cube[np.flatnonzero(np.diff(lifted.astype(int)) == 1)]
    assert np.linalg.norm(np.diff(rests[:, :2], axis=0), axis=1).max() > 0.1


def test_parts_do_not_change_the_rows(tmp_path):
    source = OGBenchPlay("pointmaze-medium", rows=2500, seed=3)
    source.rows_per_shard = 2000
    assert source.parts(None) == [range(2), range(2, 3)]
    whole = ingest(OGBenchPlay("pointmaze-medium", rows=3000, seed=3), None, tmp_path, name="a")
    cut = ingest(source, None, tmp_path, name="b", rows_per_shard=1000)
    assert (len(whole.manifest.files), len(cut.manifest.files)) == (1, 3)
    one, other = (shards.read_all(["obs", "actions", "rewards", "terminateds"]) for shards in (whole, cut))
    for column, values in one.items():
        np.testing.assert_array_equal(other[column], values, err_msg=column)
    assert len(one["obs"]) == 3000
    assert whole.manifest.faults == []
    large = OGBenchPlay(rows=1_000_000)
    large.rows_per_shard = 100_000
    assert len(large.parts(None)) == 50


def test_ingested_with_the_environment_of_its_task(tmp_path):
    source, path, name = resolve_source(
        "ogbench-pointmaze-large-navigate-task3", options={"rows": "1k", "sparse": "true"}
    )
    shards = ingest(source, path, tmp_path, name=name)
    assert (shards.name, shards.rows) == ("ogbench-pointmaze-large-navigate-task3", 1000)
    assert shards.env_id == environment_id("pointmaze-large", 3)
    options = shards.manifest.source["options"]
    assert options["ogbench"] == metadata.version("ogbench")
    assert (options["success_timing"], options["rows"], options["seed"]) == ("pre", 1000, 0)
    env = environments.make(shards.env_id, shards.env_options)
    assert env.observation_space.shape == shards.observation_space.shape
    assert env.action_space == shards.action_space
    env.close()


@pytest.mark.parametrize(
    "environment", ["pointmaze-medium", "cube-single", pytest.param("scene", marks=SLOW)]
)
def test_a_seed_determines_an_episode(environment):
    name = environment_id(environment, 1)
    env = environments.make(name)
    wanted = follow(env, 5)
    assert not np.array_equal(follow(env, 6)[0], wanted[0])
    np.random.seed(7)  # noqa: NPY002
    np.testing.assert_array_equal(follow(env, 5), wanted)
    env.close()
    env.close()
    again, other = environments.make(name), environments.make(name)  # the first continues the closed one
    for used in (again, other):
        np.testing.assert_array_equal(follow(used, 5), wanted)
    second = again.reset()[0]
    assert not np.array_equal(second, wanted[0])
    follow(again, 5, steps=3)
    np.testing.assert_array_equal(again.reset()[0], second)
    again.close()
    other.close()


@pytest.mark.parametrize("timing", ["pre", "post"])
def test_success_is_that_of_the_state_before_or_after_the_action(timing):
    env = environments.make(environment_id("pointmaze-medium", 3), {"success_timing": timing})
    env.reset(seed=0)
    inner = env.unwrapped._inner
    inner.set_xy(
        np.subtract(inner.cur_goal_xy, [1.1, 0])
    )  # m; within 1 m it is reached, a step is up to 0.2 m
    steps = [env.step(np.array([1, 0], np.float32)) for _ in range(2)]
    not_yet, reached = (-1, False, False, {"success": 0}), (0, True, False, {"success": 1})
    assert [step[1:] for step in steps] == [reached if timing == "post" else not_yet, reached]
    env.close()


@pytest.mark.parametrize("sparse", [False, True])
def test_sparse_rewards_do_not_count_the_parts_of_a_task(sparse):
    env = environments.make(environment_id("cube-double", 2), {"sparse": sparse})
    env.reset(seed=0)
    inner = env.unwrapped._inner
    rewards = [env.step(np.zeros(5, np.float32))[1]]
    for cube, place in enumerate(inner.cur_task_info["goal_xyzs"]):
        inner._data.joint(f"object_joint_{cube}").qpos[:3] = place
        rewards.append(env.step(np.zeros(5, np.float32))[1])
    assert rewards == ([-1, -1, 0] if sparse else [-2, -1, 0])
    env.close()


@pytest.mark.slow
def test_the_time_limits_and_default_tasks_are_ogbenchs():
    import gymnasium as gym
    import ogbench  # noqa: F401  registers them

    from off2on.simulators import register

    register()
    for environment, kind in KINDS.items():
        assert gym.spec(task_id(environment, 1)).max_episode_steps == kind.horizon
        assert gym.spec(environment_id(environment, 1)).max_episode_steps == kind.horizon
        source = OGBenchPlay(environment)
        assert source.env == environment_id(environment, kind.default_task)
        assert make_inner(f"{environment}-singletask-v0")._reward_task_id == kind.default_task
    assert len(generated_names()) == 36


def test_the_score_key_names_version_and_timing(tmp_path):
    keys = []
    for timing in ("pre", "post"):
        source = OGBenchPlay("pointmaze-medium", rows=1000, success_timing=timing)
        manifest = ingest(source, None, tmp_path / timing, name="maze").manifest
        own = key_of(manifest, manifest.env_id, manifest.env_options)
        assert own == key_of(manifest, manifest.env_id, manifest.env_options)
        assert own.simulator == f"ogbench {metadata.version('ogbench')}, success_timing={timing}"
        assert own.horizon == 1000
        assert parse_json(json.dumps(to_json(own)), RecordedScore).key == own
        keys.append(own)
    compare(keys[0], keys[0])
    with pytest.raises(UserError, match=r"Different simulators: ogbench .*pre and ogbench .*post"):
        compare(*keys)
    assert "simulator" not in to_json(key_of(manifest, "Pendulum-v1"))
    files = key_of(manifest, "ogbench:cube-single-singletask-v0")
    assert files.simulator == keys[0].simulator
    assert key_of(manifest, "ogbench:cube-single-v0").simulator == keys[1].simulator
    # Without options: the default of the environment's constructor.
    assert key_of(manifest, environment_id("cube-single", 1)).simulator == keys[0].simulator


def test_without_ogbench_the_line_that_installs_it_is_printed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ogbench", None)
    done = off2on(tmp_path, "data", "add", "ogbench-scene-play", "rows=1k", OFF2ON_DATA=tmp_path / "data")
    assert done.returncode == 2, done.stderr
    assert "try: pip install 'off2on[ogbench]'" in done.stderr


def test_options_are_checked():
    with pytest.raises(UnknownName, match=r"(?s)'cube-singel'.*nearest: cube-single"):
        OGBenchPlay("cube-singel")
    for options in ({"task": 6}, {"rows": 0}, {"seed": -1}):
        with pytest.raises(BadValues):
            OGBenchPlay(**options)
    with pytest.raises(UnknownName, match="nearest: post"):
        OGBenchPlay(success_timing="pots")
