"""Environments are made in one place, so that data, evaluation and rollouts mean the same one."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.spaces.utils import flatten

from datasets_io.environments import make, options_for, spaces_of


class Room(gym.Env[dict[str, Any], int]):
    """Observes a dictionary; told how large it is."""

    observation_space = Dict(
        where=Box(0, 9, (2,), np.float32), goal=Box(0, 9, (2,), np.float32), door=Discrete(3)
    )
    action_space = Discrete(2)

    def __init__(self, size: int = 3) -> None:
        self.size = size

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        where = np.array([self.size, 1], np.float32)
        return {"where": where, "goal": np.zeros(2, np.float32), "door": 2}, {}


@pytest.fixture(autouse=True, scope="module")
def room() -> None:
    gym.register("Room-v0", entry_point=Room)


def test_nested_observations_become_one_vector():
    env = make("Room-v0", {"size": 7})
    obs, _ = env.reset()
    raw, _ = Room(7).reset()
    np.testing.assert_array_equal(obs, flatten(Room.observation_space, raw))
    assert env.observation_space.shape == (7,)


def test_parts_of_a_dictionary_can_be_chosen():
    env = make("Room-v0", {"observe": ["where", "goal"], "size": 4})
    obs, _ = env.reset()
    assert obs.tolist() == [4, 1, 0, 0]  # in the order in which they were asked for


def test_spaces_tell_what_was_flattened():
    spaces = spaces_of("Room-v0", {"observe": ["where", "door"]})
    assert (spaces.observation.shape, spaces.error) == ((5,), "")
    assert set(spaces.nested) == {"where", "door"}
    flat = spaces_of("Pendulum-v1", {"g": 9.0})
    assert flat.nested is None


def test_what_cannot_be_made_says_why():
    assert "NoSuchThing" in spaces_of("NoSuchThing-v0").error
    assert "size_of_it" in spaces_of("Room-v0", {"size_of_it": 1}).error


def test_another_environment_takes_over_only_how_it_is_observed():
    own = {"observe": ["where"], "size": 9}
    assert options_for("Room-v0", "Room-v0", own) == own
    assert options_for("Hall-v0", "Room-v0", own) == {"observe": ["where"]}
