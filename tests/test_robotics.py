"""Gymnasium-Robotics: its environments by their plain ids, and the door whose demonstrations cross online."""

import sys
from pathlib import Path

import gymnasium as gym
import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from datasets_io import Episode, Source, environments
from datasets_io.errors import BadValues, SimulatorError
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.catalogue import resolve_source

robotics = pytest.importorskip("gymnasium_robotics", reason="pip install off2on[robotics]")


@pytest.fixture(scope="module")
def door():
    path = Path(__file__).parents[2] / "shared" / "data" / "door-human.hdf5"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    return path


@pytest.mark.parametrize("clip", [False, True])
def test_demonstrations_of_the_door_know_their_environment(door, tmp_path, clip):
    source, path, name = resolve_source(str(door))
    shards = ingest(source, path, tmp_path, name=name, clip_actions=clip)
    env = environments.make(shards.env_id, shards.env_options)
    assert shards.env_id == "AdroitHandDoor-v1"
    assert shards.action_space == env.action_space == Box(-1, 1, (28,))
    assert shards.observation_space.shape == env.observation_space.shape == (39,)
    # Demonstrations of up to 300 steps, of which none ended by itself, for episodes of 200 steps.
    assert (env.spec.max_episode_steps, max(shards.manifest.lengths)) == (200, 299)
    assert shards.manifest.terminated == 0
    actions = shards.read_all(["actions"])["actions"]
    assert np.abs(actions).max() == pytest.approx(1 if clip else 1.3662, abs=1e-4)
    kinds = {fault.kind: fault.count for fault in shards.manifest.faults}
    assert kinds["outside"] == 10_562
    env.close()


def distance_and_rest(obs):
    """Of the hand from the handle (m), and the door's reward without it and without the speeds' cost."""
    angle = obs[..., 28]
    bonus = 2 * (angle > 0.2) + 8 * (angle > 1) + 10 * (angle > 1.35)
    return np.linalg.norm(obs[..., 35:38], axis=-1), bonus - 0.1 * (angle - 1.57) ** 2


def test_the_door_rewards_the_distance_that_its_demonstrations_paid_for(door):
    """A known difference: whoever mends the environment's sign should hear of it here."""
    with h5py.File(door) as file:
        obs, rewards = file["observations"][1:].astype(np.float64), file["rewards"][:-1].ravel()
    distance, rest = distance_and_rest(obs)
    quiet = np.abs(rewards - rest) < 0.1  # not where the bonus is at its edge or the hand is fast
    assert quiet.mean() > 0.9
    recorded = np.linalg.lstsq(distance[quiet, None], (rewards - rest)[quiet], rcond=None)[0][0]
    assert recorded == pytest.approx(-0.1, abs=0.005)

    env = environments.make("AdroitHandDoor-v1")
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(20):
        obs, reward, terminated, _, _ = env.step(env.action_space.sample())
        distance, rest = distance_and_rest(obs)
        speeds = 1e-5 * np.sum(env.unwrapped.data.qvel**2)
        assert reward == pytest.approx(rest + 0.1 * distance - speeds, abs=1e-9)
        assert not terminated
    env.close()


def test_plain_ids_need_no_module():
    env_id = "AntMaze_UMaze-v5"
    assert environments.registered(env_id) == env_id
    assert environments.registered(f"gymnasium_robotics:{env_id}") == env_id
    assert environments.registered("Pendulum-v1") == "Pendulum-v1"


def test_an_ant_in_its_maze_observes_a_vector():
    keys = ["achieved_goal", "observation", "desired_goal"]
    env = environments.make("AntMaze_UMaze-v5", {"observe": keys, "continuing_task": True})
    obs, _ = env.reset(seed=0)
    assert obs.shape == env.observation_space.shape == (2 + 105 + 2,)
    np.testing.assert_array_equal(obs[-2:], env.unwrapped.goal)
    env.step(env.action_space.sample())
    env.close()


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("PointMaze_UMaze-v3", r"off2on\[robotics\]"),
        ("gymnasium_robotics:PointMaze_UMaze-v3", r"off2on\[robotics\]"),
        ("ogbench:scene-v0", r"off2on\[ogbench\]"),
    ],
)
def test_a_package_that_is_missing_is_named(monkeypatch, env_id, words):
    for module in ("gymnasium_robotics", "ogbench"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(gym.registry, "PointMaze_UMaze-v3", raising=False)
    with pytest.raises(gym.error.DependencyNotInstalled, match=words):
        environments.make(env_id)


def test_a_module_that_the_user_names_and_that_is_missing_is_named():
    with pytest.raises(SimulatorError, match="nobodys_package"):
        environments.make("nobodys_package:Maze-v0", named=True)


class Levers(Source):
    """Two episodes of choices."""

    def __init__(self, space, choices):
        self.action_space, self._choices = space, choices

    def episodes(self, part):
        for choices in self._choices:
            yield Episode(np.zeros((len(choices) + 1, 1)), np.array(choices), np.zeros(len(choices)), False)


@pytest.mark.parametrize(
    ("space", "choices"),
    [(Discrete(3, start=1), [1, 3]), (MultiDiscrete([2, 3]), [[0, 1], [1, 2]])],
    ids=str,
)
def test_choices_that_are_no_plain_numbers_are_refused(tmp_path, space, choices):
    with pytest.raises(BadValues, match=r"(?s)cannot be stored.*Discrete starting at 0") as refused:
        ingest(Levers(space, [choices]), None, tmp_path, name="levers")
    assert refused.value.exit_code == 3
    assert not list(tmp_path.iterdir())


def test_plain_choices_are_kept(tmp_path):
    shards = ingest(Levers(None, [[0, 2, 1], [1]]), None, tmp_path, name="levers")
    assert shards.action_space == Discrete(3)
    assert shards.read_all(["actions"])["actions"].tolist() == [0, 2, 1, 1]
