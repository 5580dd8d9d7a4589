"""OGBench's files: every transition, reward and mask as its own loader gives them."""

import numpy as np
import pytest

from datasets_io import environments, storage
from datasets_io.errors import BadValues, Corrupt, MissingColumn, UnknownName
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.catalogue import resolve_source
from datasets_io.sources.npz import open_npz
from datasets_io.sources.ogbench import OGBench, environment

pytestmark = pytest.mark.usefixtures("temporary_files")  # of mazes, which ogbench leaves there
NAVIGATE = "pointmaze-medium-navigate-v0"
TASK = "pointmaze-medium-navigate-singletask-v0"


def small(rows=(3, 2), width=2, **more):
    """Trajectories of so many states as rows in OGBench's layout; numbers tell trajectory and step."""
    states = [10 * number + np.arange(length) for number, length in enumerate(rows, 1)]
    last = [np.arange(length) == length - 1 for length in rows]
    obs = np.concatenate(states).astype(np.float32)
    return {
        "observations": np.stack([obs] * width, axis=1),
        "actions": np.stack([obs / 100] * 2, axis=1),
        "terminals": np.concatenate(last),
        **more,
    }


def write(path, arrays):
    np.savez_compressed(path, **arrays)
    return path


def read(source, path):
    return [episode for part in source.parts(path) for episode in source.episodes(part)]


def transitions(episodes):
    """All rows in order: observations, actions, next observations, rewards, masks."""
    return {
        "observations": np.concatenate([episode.obs[:-1] for episode in episodes]),
        "actions": np.concatenate([episode.actions for episode in episodes]),
        "next_observations": np.concatenate([episode.obs[1:] for episode in episodes]),
        "rewards": np.concatenate([episode.rewards for episode in episodes]),
        "masks": np.concatenate(
            [np.append(np.ones(episode.length - 1), not episode.terminated) for episode in episodes]
        ),
    }


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two files of OGBench's own point maze, steered by OGBench's own oracle through the task's goal."""
    pytest.importorskip("ogbench", reason="pip install off2on[ogbench]")
    folder = tmp_path_factory.mktemp("ogbench")
    np.random.seed(0)  # noqa: NPY002  its mazes draw from the global generator
    env = environments.make("ogbench:pointmaze-medium-v0", {"terminate_at_goal": False})
    goal = environments.make("ogbench:pointmaze-medium-singletask-v0").unwrapped
    goal.reset()
    there = goal.xy_to_ij(goal.cur_goal_xy)
    beside = [
        (i, j) for i, j in np.argwhere(goal.maze_map == 0) if abs(i - there[0]) + abs(j - there[1]) == 2
    ]
    far = max(np.argwhere(goal.maze_map == 0).tolist(), key=lambda cell: abs(np.subtract(cell, there)).sum())
    for name, starts in {NAVIGATE: [*beside, far], f"{NAVIGATE}-val": beside[:1]}.items():
        write(folder / f"{name}.npz", steer(env.unwrapped, starts, there))
    env.close()
    return folder


def steer(env, starts, goal):
    rows = {"observations": [], "actions": [], "terminals": [], "qpos": [], "qvel": []}
    for start in starts:
        obs, _ = env.reset(options={"task_info": {"init_ij": tuple(start), "goal_ij": goal}})
        for step in range(90):
            way = env.get_oracle_subgoal(env.get_xy(), env.cur_goal_xy)[0] - env.get_xy()
            action = np.clip(way + np.random.normal(0, 0.3, 2), -1, 1)  # noqa: NPY002
            values = obs, action, step == 89, env.data.qpos.copy(), env.data.qvel.copy()
            for column, value in zip(rows.values(), values, strict=True):
                column.append(value)
            obs = env.step(action)[0]
    return {
        name: np.array(values, bool if name == "terminals" else np.float32) for name, values in rows.items()
    }


@pytest.mark.parametrize("val", [False, True])
def test_a_task_has_ogbenchs_own_transitions_rewards_and_masks(recorded, val):
    import ogbench

    path = recorded / f"{NAVIGATE}.npz"
    wanted = ogbench.make_env_and_datasets(TASK, dataset_path=str(path))[1 + val]
    episodes = read(OGBench(name=TASK, val=val), recorded)
    assert 0 < (wanted["masks"] == 0).sum() < len(wanted["masks"])
    for name, values in transitions(episodes).items():
        np.testing.assert_array_equal(values, wanted[name], err_msg=name)
    assert sum(episode.terminated for episode in episodes) == (wanted["masks"] == 0).sum()


def test_ingested_under_the_name_of_its_task(recorded, tmp_path):
    source, path, name = resolve_source(TASK, recorded / f"{NAVIGATE}.npz")
    shards = ingest(source, path, tmp_path, name=name)
    assert (shards.name, shards.env_id) == (TASK, "ogbench:pointmaze-medium-singletask-v0")
    with np.load(path) as file:
        assert shards.rows == (~file["terminals"]).sum()
    assert 0 < shards.manifest.terminated < shards.episodes
    env = environments.make(shards.env_id, shards.env_options)
    assert env.observation_space.shape == shards.observation_space.shape
    assert env.action_space == shards.action_space
    env.close()
    other = read(OGBench(name=TASK.replace("-v0", "-task2-v0")), path)
    assert not np.array_equal(transitions(other)["rewards"], shards.read_all(["rewards"])["rewards"])


@pytest.mark.filterwarnings("ignore:.*precision lowered")  # its boxes are given in float64
def test_a_task_told_by_buttons(tmp_path, monkeypatch):
    ogbench = pytest.importorskip("ogbench", reason="pip install off2on[ogbench]")
    # All that nine buttons can be, one of which is the task's, and a last state.
    states = np.concatenate([np.indices([2] * 9).reshape(9, -1).T, np.zeros((1, 9), int)])
    arrays = small((513,), button_states=np.ascontiguousarray(states), qpos=np.zeros((513, 30)))
    path = write(tmp_path / "puzzle-3x3-play-v0.npz", arrays)
    write(tmp_path / "puzzle-3x3-play-v0-val.npz", arrays)
    name = "puzzle-3x3-play-singletask-v0"
    env, wanted, _ = ogbench.make_env_and_datasets(name, dataset_path=str(path))
    monkeypatch.setattr(environments, "make", lambda env_id: env)  # made once: it takes seconds
    read_back = transitions(read(OGBench(name=name), path))
    for column in ("observations", "rewards", "masks"):
        np.testing.assert_array_equal(read_back[column], wanted[column], err_msg=column)
    assert (wanted["masks"] == 0).sum() == 1
    assert set(wanted["rewards"]) == set(range(-9, 1))


def test_by_hand(tmp_path):
    arrays = small((3, 2), rewards=np.array([1, 2, 0, 4, 0.0]), masks=np.array([1, 0, 1, 1, 1]))
    first, second = read(OGBench(), write(tmp_path / "a.npz", arrays))
    # Three states are two steps; the third state's action leads nowhere. The second step fulfils the task.
    assert first.obs[:, 0].tolist() == [10, 11, 12]
    np.testing.assert_allclose(first.actions[:, 0], [0.1, 0.11])
    assert (first.rewards.tolist(), first.terminated) == ([1, 2], True)
    assert (second.obs[:, 0].tolist(), second.terminated, second.truncated) == ([20, 21], False, True)
    assert (second.rewards.tolist(), second.row) == ([4], 3)


def test_a_task_fulfilled_on_the_way_begins_an_episode(tmp_path):
    arrays = small((6,), rewards=np.arange(6.0), masks=np.array([1, 0, 0, 1, 1, 1]))
    episodes = read(OGBench(), write(tmp_path / "a.npz", arrays))
    ends = [(episode.obs[:, 0].tolist(), episode.terminated) for episode in episodes]
    assert ends == [([10, 11, 12], True), ([12, 13], True), ([13, 14, 15], False)]
    assert [episode.row for episode in episodes] == [0, 2, 3]


def test_the_three_layouts_agree(tmp_path):
    ogbench = pytest.importorskip("ogbench", reason="pip install off2on[ogbench]")
    path = write(tmp_path / "raw.npz", small((4, 1, 3)))
    wanted = transitions(read(OGBench(reward_free=True), path))
    assert len(wanted["actions"]) == 3 + 2
    for compact in (False, True):
        arrays = ogbench.load_dataset(str(path), compact_dataset=compact)
        other = transitions(read(OGBench(reward_free=True), write(tmp_path / "other.npz", arrays)))
        for name, values in wanted.items():
            np.testing.assert_array_equal(other[name], values, err_msg=f"{name}, compact={compact}")


def test_blocks_do_not_change_the_data(tmp_path, monkeypatch):
    path = write(tmp_path / "a.npz", small((4, 9, 1, 5, 3), rewards=np.arange(22.0)))
    wanted = read(OGBench(), path)
    for rows in (1, 2, 5, 22):
        monkeypatch.setattr("datasets_io.sources.ogbench.block_rows", lambda _, rows=rows: rows)
        for one, other in zip(read(OGBench(), path), wanted, strict=True):
            np.testing.assert_array_equal(one.obs, other.obs)
            assert (one.rewards.tolist(), one.row) == (other.rewards.tolist(), other.row)


def test_a_file_that_stops_within_a_trajectory(tmp_path):
    arrays = {name: values[:-1] for name, values in small((3, 4)).items()}
    episodes = read(OGBench(reward_free=True), write(tmp_path / "a.npz", arrays))
    assert [episode.length for episode in episodes] == [2, 2]
    assert not episodes[-1].terminated


def test_without_rewards_it_says_how_to_have_them(tmp_path):
    path = write(tmp_path / f"{NAVIGATE}.npz", small())
    with pytest.raises(MissingColumn, match=f"(?s)holds no task.*add {TASK} "):
        OGBench().parts(path)
    assert all(not episode.rewards.any() for episode in read(OGBench(reward_free=True), path))
    with pytest.raises(MissingColumn, match="'qpos'"):
        OGBench(name=TASK).parts(path)


@pytest.mark.parametrize(
    ("name", "env"),
    [
        ("pointmaze-medium-navigate-v0", "pointmaze-medium-v0"),
        ("scene-play-v0", "scene-v0"),
        ("scene-play-singletask-v0", "scene-singletask-v0"),
        ("antmaze-large-navigate-singletask-task3-v0", "antmaze-large-singletask-task3-v0"),
        ("puzzle-3x3-noisy-v0", "puzzle-3x3-v0"),
        ("my-own-data", None),
        ("mine", None),
        ("play-v0", None),
    ],
)
def test_environments_of_names(name, env):
    assert environment(name) == env


def test_a_task_that_is_none(tmp_path):
    path = write(tmp_path / "a.npz", small())
    with pytest.raises(UnknownName, match="no name of a single task"):
        OGBench(name="mine-singletask-v0").parts(path)


def test_what_is_refused(tmp_path):
    arrays = small()
    refused = {
        "'terminals'": (MissingColumn, {name: arrays[name] for name in ("observations", "actions")}),
        "different lengths": (BadValues, {**arrays, "actions": arrays["actions"][1:]}),
        "images": (BadValues, {**arrays, "observations": np.zeros((5, 4, 4, 3), np.uint8)}),
        "column by column": (BadValues, {**arrays, "actions": np.asfortranarray(arrays["actions"])}),
        "holds <U1": (BadValues, {**arrays, "rewards": np.array(list("abcde"))}),
    }
    for words, (kind, columns) in refused.items():
        with pytest.raises(kind, match=words):
            OGBench(reward_free=True).parts(write(tmp_path / "a.npz", columns))
    with pytest.raises(UnknownName):
        OGBench(reward_free=True).parts(tmp_path / "none.npz")


def test_a_damaged_file_leaves_nothing_behind(tmp_path):
    rng = np.random.default_rng(0)
    arrays = small((500,), rewards=np.zeros(500))
    arrays["observations"] = rng.normal(size=(500, 20)).astype(np.float32)
    path = write(tmp_path / "a.npz", arrays)
    whole = path.read_bytes()

    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Corrupt, match=r"a\.npz"):
        OGBench().parts(path)

    damaged = bytearray(whole)
    damaged[2000] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(Corrupt, match="observations"):
        ingest(OGBench(), path, tmp_path, name="damaged")
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_columns_are_read_in_pieces(tmp_path):
    path = write(tmp_path / "a.npz", {"x": np.arange(12.0).reshape(6, 2), "y": np.arange(6)})
    with open_npz(path) as file:
        assert file.names == ["x", "y"]
        columns = file.columns(["y", "x", "z"])
        assert list(columns) == ["y", "x"]
        assert (columns["x"].rows, columns["x"].shape, columns["y"].dtype) == (6, (6, 2), np.int64)
        np.testing.assert_array_equal(columns["x"].read(4), np.arange(8.0).reshape(4, 2))
        np.testing.assert_array_equal(columns["y"].read(5), np.arange(5))
        np.testing.assert_array_equal(columns["x"].read(2), np.arange(8, 12.0).reshape(2, 2))
        with pytest.raises(Corrupt, match=r"(?s)y cannot be read.*missing"):
            columns["y"].read(2)


def test_from_a_bucket(tmp_path, bucket):
    arrays = small((3, 2), rewards=np.arange(5.0))
    place = bucket / "a.npz"
    with storage.open_output(place) as file:
        np.savez_compressed(file, **arrays)
    wanted = read(OGBench(), write(tmp_path / "a.npz", arrays))
    for one, other in zip(read(OGBench(), place), wanted, strict=True):
        np.testing.assert_array_equal(one.obs, other.obs)
