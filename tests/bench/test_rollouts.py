"""Environment steps per second of SAC online: against RLlib's own, and beside the learner against in step.

Two runners in other processes, one environment each; one update of 256 transitions per step, the same
networks, one learner in this process. RLlib replays uniformly here, and its fragments are as long as ours.
"""

import time
from collections.abc import Callable
from typing import Any

import pytest
from harness import in_turns, report
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, LEARNER_RESULTS

from off2on.algorithms.sac import SAC

pytestmark = [pytest.mark.bench, pytest.mark.usefixtures("ray_session")]

RUNNERS, ROLLOUT, BATCH, HIDDEN = 2, 50, 256, (256, 256)


def ours(asynchronous: bool) -> Any:
    config = SAC.configure("toy-pendulum").training(hidden=HIDDEN, batch_size=BATCH, threads=1).offline(0)
    config.online(
        10**6, strategy="append", replay_capacity=10**5, rollout=ROLLOUT, utd=1, asynchronous=asynchronous
    )
    return config.env_runners(num_env_runners=RUNNERS).build_algo()


def theirs() -> Any:
    config = SACConfig().environment("Pendulum-v1")
    config.env_runners(num_env_runners=RUNNERS, rollout_fragment_length=ROLLOUT // RUNNERS)
    config.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=list(HIDDEN)))
    config.training(
        train_batch_size_per_learner=BATCH,
        # Transitions trained on per step sampled; RLlib reckons with one runner more than there are.
        training_intensity=BATCH * RUNNERS / (RUNNERS + 1),
        num_steps_sampled_before_learning_starts=0,
        replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 10**5},
    )
    config.reporting(min_sample_timesteps_per_iteration=ROLLOUT, min_time_s_per_iteration=0)
    return config.build_algo()


def steps_of_ours(algo: Any) -> Callable[[int], float]:
    def run(steps: int) -> float:
        started, end = time.perf_counter(), algo.env_steps + steps
        while algo.env_steps < end:
            algo.train()
        return time.perf_counter() - started

    return run


def steps_of_theirs(algo: Any) -> Callable[[int], float]:
    def run(steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps // ROLLOUT):
            algo.train()
        return time.perf_counter() - started

    return run


def test_collecting_beside_the_learner_against_in_step():
    beside, in_step = ours(asynchronous=True), ours(asynchronous=False)
    ratio = in_turns(steps_of_ours(beside), steps_of_ours(in_step), 500)
    report("online steps beside / in step", ratio, [1])
    for algo in (beside, in_step):
        assert algo.updates == algo.env_steps
        algo.stop()


@pytest.mark.filterwarnings("ignore")  # RLlib's own, of its own SAC
def test_online_steps_against_rllib():
    algo, peer = ours(asynchronous=False), theirs()
    ratio = in_turns(steps_of_ours(algo), steps_of_theirs(peer), 100, rounds=3)
    report("online steps in step / RLlib", ratio, [1])
    assert algo.updates == algo.env_steps
    algo.stop()
    result = peer.train()
    sampled = result[ENV_RUNNER_RESULTS]["num_env_steps_sampled_lifetime"]
    trained = result[LEARNER_RESULTS]["__all_modules__"]["num_module_steps_trained_lifetime"]
    assert trained == pytest.approx(BATCH * sampled, rel=0.1)  # the same number of updates per step
    peer.stop()
