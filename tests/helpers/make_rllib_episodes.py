"""Write the episodes of tests/fixtures/rllib_episodes with RLlib.

usage: python make_rllib_episodes.py FOLDER     with ray[rllib] 2.60 and msgpack-numpy 0.4.8 installed
"""

import sys
from pathlib import Path

import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.offline.offline_env_runner import OfflineSingleAgentEnvRunner

STEPS = {"CartPole-v1": 60, "Pendulum-v1": 15}
"""Number of steps of each of two rollouts, by environment."""

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
for env, steps in STEPS.items():
    config = (
        PPOConfig()
        .environment(env)
        .env_runners(num_env_runners=0, batch_mode="truncate_episodes")
        .offline_data(
            output=str(Path(sys.argv[1]).absolute()),
            output_write_episodes=True,
            output_max_rows_per_file=None,
            output_write_remaining_data=True,
        )
        .debugging(seed=0)
    )
    runner = OfflineSingleAgentEnvRunner(config=config, worker_index=0)
    for _ in range(2):
        runner.sample(num_timesteps=steps, random_actions=True)
    runner.stop()
