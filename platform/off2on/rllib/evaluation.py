"""The current policy, and its evaluation by RLlib's `evaluate` and ``evaluation(evaluation_interval=…)``."""

from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    NUM_ENV_STEPS_SAMPLED,
    NUM_EPISODES,
)

from datasets_io.environments import check_length, environment_errors
from off2on.errors import SimulatorError
from off2on.policy import Policy
from off2on.recipe.acting_memory import memory_for
from off2on.rllib.env_runner import env_factory
from off2on.rllib.rllib_internals import ManualAlgorithm
from off2on.rllib.seeding import EVALUATIONS, seed_of


class EvaluatedAlgorithm(ManualAlgorithm):
    """Evaluates in its own process; the same seeds each time, so that policies meet the same episodes."""

    def policy(self) -> Policy:
        """Return the current policy, which maps raw observations to actions in raw units."""
        spec = self.config.get_default_rl_module_spec()
        spec.inference_only = True
        module = spec.build()
        path = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
        state = self.learner_group.get_state(components=path, inference_only=True)
        module.set_state(state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID])
        policy: Policy = module.policy.eval()
        return policy

    def evaluate(self, parallel_train_future: Any = None) -> dict[str, Any]:
        """Run ``evaluation_duration`` episodes of the deterministic policy.

        Args:
            parallel_train_future: Not used.

        Returns:
            Results of the episodes under ``env_runners``, with RLlib's names.

        Raises:
            SimulatorError: There is no environment, or it fails.
        """
        config, logger = self.config, {"algorithm": self, "metrics_logger": self.metrics}
        if config.env is None:
            raise SimulatorError("evaluate needs an environment: none is given.", "", "environment(ID)")
        make_callback(
            "on_evaluate_start",
            callbacks_objects=self.callbacks,
            callbacks_functions=config.callbacks_on_evaluate_start,
            kwargs=logger,
        )
        explore = bool((config.evaluation_config or {}).get("explore", False))
        returns, lengths = _play(config, self.policy(), config.evaluation_duration, explore)
        results = {
            ENV_RUNNER_RESULTS: {
                EPISODE_RETURN_MEAN: float(np.mean(returns)),
                EPISODE_RETURN_MIN: float(np.min(returns)),
                EPISODE_RETURN_MAX: float(np.max(returns)),
                EPISODE_LEN_MEAN: float(np.mean(lengths)),
                NUM_EPISODES: len(returns),
                NUM_ENV_STEPS_SAMPLED: int(np.sum(lengths)),
            }
        }
        make_callback(
            "on_evaluate_end",
            callbacks_objects=self.callbacks,
            callbacks_functions=config.callbacks_on_evaluate_end,
            kwargs={**logger, "evaluation_metrics": results},
        )
        return results


def _play(config: Any, policy: Policy, episodes: int, explore: bool) -> tuple[list[float], list[int]]:
    """Run episodes one after another; return their undiscounted returns and lengths."""

    def decide(obs: Any) -> Any:
        return policy(torch.from_numpy(np.asarray(obs, np.float32)), explore=explore).numpy()

    returns, lengths = [], []
    with environment_errors(str(config.env)), torch.random.fork_rng(devices=[]), torch.no_grad():
        env = SyncVectorEnv([env_factory(config, 0)], autoreset_mode=AutoresetMode.DISABLED)
        try:
            for episode in range(episodes):
                seed = seed_of(EVALUATIONS, config.seed, episode)
                torch.manual_seed(seed)
                obs, _ = env.reset(seed=seed % 2**31)
                total, length, ended, memory = 0.0, 0, False, memory_for(policy, 1)
                while not ended:
                    check_length(str(config.env), env.envs[0].spec, length)
                    obs, reward, terminated, truncated, _ = env.step(memory.next(obs, decide))
                    memory.record(reward)
                    total, length = total + float(reward[0]), length + 1
                    ended = bool(terminated[0] or truncated[0])
                returns.append(total)
                lengths.append(length)
        finally:
            env.close()
    return returns, lengths
