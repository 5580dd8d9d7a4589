"""Generate toy data within seconds: Gymnasium environments and mediocre scripted controllers."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from datasets_io.episode import Array, Episode
from datasets_io.source import Source


class Toy(Source):
    """A scripted controller in a Gymnasium environment, recorded step by step.

    Args:
        episodes: How many.
        seed: Of the environment and of the controller's noise; the same seed gives the same bytes.
    """

    licence = "MIT"

    def __init__(self, episodes: int = 50, seed: int = 0) -> None:
        self.count, self.seed = episodes, seed

    def controller(self, rng: np.random.Generator) -> Any:
        """Return a function from an observation [D] to an action; called once per episode."""
        raise NotImplementedError

    def episodes(self, part: Any) -> Iterator[Episode]:
        """Simulate and yield the episodes of a part."""
        import gymnasium as gym

        rng = np.random.default_rng(self.seed)
        env = gym.make(str(self.env))
        for number in range(self.count):
            act = self.controller(rng)
            obs, _ = env.reset(seed=self.seed + number)
            seen, actions, rewards = [obs], [], []
            terminated = truncated = False
            while not (terminated or truncated):
                action = act(obs)
                obs, reward, terminated, truncated, _ = env.step(action)
                seen.append(obs)
                actions.append(action)
                rewards.append(reward)
            yield Episode(np.stack(seen), np.stack(actions), np.array(rewards), terminated, truncated)
        env.close()


class ToyPendulum(Toy):
    """Pendulum-v1 by an energy controller that is weak, noisy and differs from episode to episode."""

    env = "Pendulum-v1"

    def controller(self, rng: np.random.Generator) -> Any:
        """Add energy when low, use a proportional-derivative law near the top; gains drawn per episode."""
        skill, noise = rng.uniform(0.1, 0.8), rng.uniform(0.4, 1.2)
        wander = 0.0

        def act(obs: Array) -> Array:
            nonlocal wander
            cosine, sine, speed = (float(x) for x in obs)
            # Energy of Pendulum-v1 (m = l = 1, g = 10) relative to standing still at the top.
            energy = speed**2 / 6 + 5 * (cosine - 1)
            if cosine > 0.85:
                torque = -12 * np.arctan2(sine, cosine) - 3 * speed
            else:
                torque = -energy * np.sign(speed) if speed else 1.0
            # Noise that stays a while explores further than noise that is new at every step.
            wander = 0.85 * wander + 0.5 * float(rng.normal())
            push = np.array([skill * torque + 2 * noise * wander], np.float32)
            return push.clip(-2, 2)

        return act


class ToyCartPole(Toy):
    """CartPole-v1 by a careless linear controller: discrete actions, episodes that end by falling."""

    env = "CartPole-v1"

    def controller(self, rng: np.random.Generator) -> Any:
        """Push in the direction in which the pole falls, at random in a share of the steps."""
        careless = rng.uniform(0.4, 0.95)

        def act(obs: Array) -> Any:
            if rng.random() < careless:
                return rng.integers(2)
            return np.int64(obs[2] + 0.3 * obs[3] > 0)

        return act
