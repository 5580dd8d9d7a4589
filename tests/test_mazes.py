"""PointMaze: a collector whose data are the environment's own, and cross online in it."""

import numpy as np
import pytest

from datasets_io import environments
from datasets_io.errors import BadValues, UnknownName
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.catalogue import resolve_source
from datasets_io.sources.mazes import MAZES, Planner, PointMaze

pytest.importorskip("gymnasium_robotics", reason="pip install off2on[robotics]")

CORRIDOR = """
######
#..#.#
#.##.#
#....#
######
"""
ARRIVED = 0.45  # m


def drawn(text):
    return np.array([[cell == "." for cell in line] for line in text.split()])


def read(source):
    return [episode for part in source.parts(None) for episode in source.episodes(part)]


def test_the_planner_takes_the_shortest_way_round_walls():
    planner = Planner(drawn(CORRIDOR))
    # The middle of the cell in row i, column j of 5 × 6 lies at (j - 2.5, 2 - i).
    top_right, middle = np.array([1.5, 1.0]), np.array([0.5, -1.0])
    way, position = [], np.array([-0.5, 1.0])
    while not np.array_equal(way[-1:], [top_right]):
        position = planner.waypoint(position, top_right)
        way.append(position.tolist())
    down_left_and_up = [
        [-1.5, 1],
        [-1.5, 0],
        [-1.5, -1],
        [-0.5, -1],
        [0.5, -1],
        [1.5, -1],
        [1.5, 0],
        [1.5, 1],
    ]
    assert way == down_left_and_up
    near = middle + np.array([0.2, -0.3])
    assert planner.waypoint(near, middle).tolist() == middle.tolist()  # in its cell: to the target itself


@pytest.mark.parametrize("maze", MAZES)
def test_the_map_is_the_environments(maze):
    env = environments.make(PointMaze(maze).env)
    planner = Planner(np.array(env.unwrapped.maze.maze_map) != 1)
    free = sorted(place.tolist() for place in env.unwrapped.maze.unique_goal_locations)
    assert sorted(planner.places.tolist()) == free
    assert any(np.array_equal(env.unwrapped.maze.cell_rowcol_to_xy(MAZES[maze].goal), p) for p in free)
    env.close()


@pytest.fixture(scope="module")
def goals():
    return read(PointMaze("umaze", episodes=6))


@pytest.fixture(scope="module")
def one_goal():
    return read(PointMaze("umaze", episodes=6, goals=False))


def test_episodes_are_cut_off_by_the_time_limit_alone(goals, one_goal):
    for episode in goals + one_goal:
        assert (episode.length, episode.terminated, episode.truncated) == (300, False, True)
        assert np.abs(episode.actions).max() <= 1
    assert goals[0].obs.shape == (301, 6)
    assert one_goal[0].obs.shape == (301, 4)


def test_goals_follow_each_other(goals):
    for episode in goals:
        distance = np.linalg.norm(episode.obs[1:, :2] - episode.obs[1:, 4:], axis=1)
        np.testing.assert_array_equal(episode.rewards, distance <= ARRIVED)
        changes = np.flatnonzero((np.diff(episode.obs[:, 4:], axis=0) != 0).any(axis=1))
        # A goal that was reached is another one in the next observation, and only then.
        reached = np.flatnonzero(episode.rewards)
        assert set(changes) == set(reached[reached < 299] + 1)
        assert len(reached) >= 2  # a ball without a plan, pushed at random, reaches none or one


def test_one_goal_that_is_not_observed_pays_while_it_is_near(one_goal):
    source = PointMaze("umaze", goals=False)
    env = environments.make(source.env, source.env_options)
    assert env.observation_space.shape == (4,)
    assert env.unwrapped.maze.unique_goal_locations == [pytest.approx(np.array([-1, 1]))]
    env.close()
    paid = [episode.obs[1:][episode.rewards > 0, :2] for episode in one_goal]
    paid = np.concatenate(paid)
    assert len(paid) > 20
    assert (np.linalg.norm(paid - [-1, 1], axis=1) < ARRIVED + 0.25 * np.sqrt(2)).all()
    assert sum(not episode.rewards.any() for episode in one_goal) > 0  # it travels elsewhere too


def test_replaying_the_actions_gives_the_data(goals):
    source = PointMaze("umaze", episodes=1)
    env = environments.make(source.env, source.env_options)
    rng = np.random.default_rng([0, 0])
    obs, _ = env.reset(seed=int(rng.integers(2**31)))
    seen, rewards = [obs], []
    for action in goals[0].actions:
        obs, reward, terminated, _, _ = env.step(action)
        assert not terminated
        seen.append(obs)
        rewards.append(reward)
    env.close()
    np.testing.assert_array_equal(np.stack(seen), goals[0].obs)
    np.testing.assert_array_equal(rewards, goals[0].rewards)


def test_dense_rewards_fall_with_distance():
    (episode,) = read(PointMaze("umaze", episodes=1, dense=True))
    distance = np.linalg.norm(episode.obs[1:, :2] - episode.obs[1:, 4:], axis=1)
    np.testing.assert_allclose(episode.rewards, np.exp(-distance), rtol=1e-12)


def test_noise_is_added_to_the_force():
    calm, wild = (read(PointMaze("umaze", episodes=1, noise=noise))[0] for noise in (0, 2))
    assert np.abs(np.diff(wild.actions, axis=0)).mean() > 5 * np.abs(np.diff(calm.actions, axis=0)).mean()


def test_parts_do_not_change_the_data(goals):
    source = PointMaze("umaze", episodes=6)
    source.rows_per_shard = 700
    assert source.parts(None) == [range(2), range(2, 4), range(4, 6)]
    last = list(source.episodes(range(4, 6)))
    for one, other in zip(last, goals[4:], strict=True):
        np.testing.assert_array_equal(one.obs, other.obs)
    other = read(PointMaze("umaze", episodes=1, seed=1))[0]
    assert not np.array_equal(other.obs, goals[0].obs)


@pytest.mark.parametrize("goals", ["true", "false"])
def test_ingested_with_the_environment_it_crosses_to(tmp_path, goals):
    source, path, name = resolve_source("maze-umaze", options={"episodes": "2", "goals": goals})
    shards = ingest(source, path, tmp_path, name=name)
    assert (shards.rows, shards.episodes, shards.manifest.terminated) == (600, 2, 0)
    keys = ["observation", "desired_goal"] if goals == "true" else ["observation"]
    assert list(shards.nested_observation_space) == keys
    env = environments.make(shards.env_id, shards.env_options)
    assert env.observation_space.shape == shards.observation_space.shape == (6 if goals == "true" else 4,)
    assert env.action_space == shards.action_space
    env.close()


def test_options_are_checked():
    with pytest.raises(UnknownName, match=r"(?s)'medum'.*nearest: medium"):
        PointMaze("medum")
    with pytest.raises(BadValues, match="0 episodes"):
        PointMaze(episodes=0)
