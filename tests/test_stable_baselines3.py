"""The lines of the page on data that write a replay buffer of Stable-Baselines3, run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import command
import numpy as np
import pytest

from datasets_io import Shards

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAGE = Path(__file__).parents[1] / "platform" / "docs" / "data.md"
PROGRAM = """
import gymnasium as gym
import numpy as np
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.vec_env import DummyVecEnv

class Recorder(gym.Wrapper):
    # Records each step as the environment gives it, before the library changes it.
    def reset(self, **options):
        self.obs, info = self.env.reset(**options)
        return self.obs, info

    def step(self, action):
        before, (self.obs, reward, terminated, truncated, info) = self.obs, self.env.step(action)
        steps[self].append((before, action, reward, terminated, truncated, self.obs))
        return self.obs, reward, terminated, truncated, info

def make():
    env = Recorder(gym.make(ENV, max_episode_steps=LIMIT))
    steps[env] = []
    return env

steps = {}
kind, ENV, LIMIT, count, size = CASE
model = kind("MlpPolicy", DummyVecEnv([make] * count), buffer_size=size, learning_starts=10_000, seed=0)
model.learn(250)
model.learn(190)  # it resets the environments in the middle of an episode
rows = [row for column in steps.values() for row in column[-(size // count):]]
names = ("obs", "actions", "rewards", "terminateds", "truncateds", "new_obs")
np.savez("steps.npz", **{name: np.array(it) for name, it in zip(names, zip(*rows))})
"""


def code_of_page() -> str:
    """Return the code of Stable-Baselines3 in the page."""
    found = re.findall(
        r'^```\{\.python title="Stable-Baselines3"\}\n(.*?)^```$',
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert len(found) == 1
    return str(found[0])


@pytest.mark.parametrize(
    ("env", "case", "environments"),
    [
        pytest.param("Pendulum-v1", '(SAC, "Pendulum-v1", 40, 2, 300)', 2, id="full ring of two"),
        pytest.param("CartPole-v1", '(DQN, "CartPole-v1", 30, 1, 5000)', 1, id="rows of one, not full"),
    ],
)
def test_the_buffer_becomes_a_data_set(tmp_path: Path, env: str, case: str, environments: int):
    pytest.importorskip("stable_baselines3", reason="the reference of the tests is not installed")
    program = PROGRAM.replace("CASE", case) + code_of_page()
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=command.environment(), capture_output=True, text=True, timeout=command.PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    command.succeeds(tmp_path, "data", "add", "buffer.h5", "--env", env, "--name", "mine")

    with np.load(tmp_path / "steps.npz") as file:
        steps = dict(file)
    shards = Shards(tmp_path / "data" / "mine")
    assert (shards.env_id, shards.rows) == (env, len(steps["obs"]))
    read = shards.read_all(["obs", "new_obs", "actions", "rewards", "terminateds", "truncateds"])
    for column in ("obs", "new_obs", "actions"):
        given = steps[column].reshape(read[column].shape)
        np.testing.assert_allclose(read[column], given, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(read["rewards"], steps["rewards"], rtol=1e-6)
    np.testing.assert_array_equal(read["terminateds"].astype(bool), steps["terminateds"])
    assert steps["truncateds"].any()
    assert steps["terminateds"].any() == (env == "CartPole-v1")
    # Cut off by the limit; and, in each environment, by the second `learn` and at the last row.
    cut = read["truncateds"].astype(bool)
    assert cut[steps["truncateds"] & ~steps["terminateds"]].all()
    assert (cut & ~steps["truncateds"]).sum() == 2 * environments
