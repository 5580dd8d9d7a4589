"""Collect rollouts with RLlib's environment runners, between updates of the learner or beside them.

Synchronous: every runner makes its part of a rollout with the same weights, then the learner updates.
Asynchronous: every runner has one request outstanding while the learner updates, and results are received as
they arrive. The weights are sent with the request, so that the number of updates behind a rollout is known.

Runners are processes that may die. The request of a dead runner was not counted, and the runner that replaces
it collects the steps again. An environment that fails is built again. If only failures arrive, the run ends
with the last of them.
"""

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE

from off2on.rllib.env_runner import Rollout

EPISODES_FILE = "episodes.pt"
"""File of a checkpoint with the unfinished episodes; see `env_runner.RecipeEnvRunner.episodes`."""

POLL_S = 0.005
"""Seconds that a look for finished requests waits for the last one."""

FAILURES = 3
"""Failures per runner, without a step in between, after which a run ends."""

RECOVERY_TIMEOUT_S = 600
"""Seconds without any runner after which a run ends; a cluster may take minutes to add a machine."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RolloutRequest:
    """An outstanding rollout.

    Attributes:
        steps: Number of environment steps.
        updates: Number of updates behind its weights.
    """

    steps: int
    updates: int


@dataclass(frozen=True)
class RunnerFailure:
    """A runner's result if its environment failed; the runner has built another.

    Attributes:
        traceback: The error's text.
    """

    traceback: str


class RolloutWorkers:
    """A group of environment runners and the weights of their policy.

    Args:
        group: RLlib's group.
        learners: RLlib's learners, the source of the weights.
        updates_due: Number of environment steps → number of updates due after them.
        staleness: Largest number of updates by which weights may be behind when a rollout arrives; None
            collects synchronously.
    """

    def __init__(
        self, group: Any, learners: Any, updates_due: Callable[[int], int], staleness: int | None = None
    ) -> None:
        self.group, self.learners, self.updates_due = group, learners, updates_due
        self.is_asynchronous, self.staleness = staleness is not None, staleness or 0
        self.weights_frozen = False
        """True if the runners keep their weights until `send_weights`."""
        self.outstanding: dict[int, RolloutRequest] = {}
        """The request of each runner that has not answered."""
        self.weights: Any = None
        """Reference to the weights in Ray's object store; None with a local runner."""
        self.weights_version = 0
        """Number of updates behind these weights."""
        self.failures = 0
        """Number of failures since the last rollout."""
        self.waited = 0
        """Seconds without any runner."""

    # Weights.

    def update_weights(self, updates: int) -> None:
        """Send the policy after this number of updates to the runners, unless their weights are frozen."""
        if not self.weights_frozen:
            self.send_weights(updates)

    def send_weights(self, updates: int) -> None:
        """Send the learners' policy to the runners, also one that is older than theirs."""
        path = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
        state = self.learners.get_state(components=path, inference_only=True)[COMPONENT_LEARNER]
        # Without the version number of the weights: RLlib's runners refuse a smaller one than theirs.
        state = {COMPONENT_RL_MODULE: state[COMPONENT_RL_MODULE]}
        self.weights_version = updates
        if self.group.local_env_runner is not None:
            self.group.local_env_runner.set_state(state)
            return
        self.weights = ray.put(state)
        if not self.outstanding:  # otherwise sent with the next request, without a wait for a busy runner
            self.group.foreach_env_runner(partial(_set_weights, weights=self.weights))

    # Collection.

    def collect(self, steps: int, capacity: int, taken: int, updates: int) -> Iterator[tuple[Rollout, int]]:
        """Yield rollouts of at least this number of steps, or, asynchronously, those that have arrived.

        Args:
            steps: Number of steps of all runners together.
            capacity: Largest number of steps wanted, outstanding ones included.
            taken: Number of steps taken before, which determines the random numbers.
            updates: Number of updates made so far.

        Yields:
            A rollout, and the number of updates by which its weights were behind.

        Raises:
            RuntimeError: Only failures arrive.
        """
        each = -(-min(steps, capacity) // max(1, self.group.num_healthy_remote_env_runners()))
        if not self.is_asynchronous:
            sample = partial(_sample, steps=each, taken=taken, weights=self.weights)
            for result in self.group.foreach_env_runner(sample):
                yield from self._rollout(result, updates - self.weights_version)
            return
        end = taken + capacity
        self._request(each, end, taken)
        has_some = False
        while self.outstanding and not (has_some and self._arrives_in_time(self._oldest(), taken)):
            for rollout, behind in self.receive(updates):
                has_some = True
                taken += len(rollout.columns["rewards"])
                yield rollout, behind
        if self._arrives_in_time(self.weights_version, taken):
            self._request(each, end, taken)  # otherwise at the next call, with newer weights

    def _oldest(self) -> int:
        return min(request.updates for request in self.outstanding.values())

    def _arrives_in_time(self, version: int, taken: int) -> bool:
        """Return True if a rollout with these weights may arrive after the updates that are due now."""
        return self.weights_frozen or self.updates_due(taken) - version <= self.staleness

    def _request(self, steps: int, end: int, taken: int) -> None:
        """Request a rollout from each living runner that has none outstanding, up to step `end`."""
        self._forget_dead()
        left = end - taken - sum(request.steps for request in self.outstanding.values())
        for worker in sorted(set(self.group.healthy_worker_ids()) - self.outstanding.keys()):
            if left <= 0:
                break
            count = min(steps, left)
            sample = partial(_sample, steps=count, taken=taken, weights=self.weights)
            if self.group.foreach_env_runner_async(sample, tag=EPISODES_FILE, remote_worker_ids=[worker]):
                self.outstanding[worker] = RolloutRequest(count, self.weights_version)
                left -= count

    def receive(self, updates: int) -> Iterator[tuple[Rollout, int]]:
        """Yield the outstanding rollouts that have arrived, and drop the requests of runners that died."""
        for worker, result in self.group.fetch_ready_async_reqs(tags=EPISODES_FILE, timeout_seconds=POLL_S):
            yield from self._rollout(result, updates - self.outstanding.pop(worker).updates)
        self._forget_dead()

    def collect_outstanding(self, updates: int) -> Iterator[tuple[Rollout, int]]:
        """Yield all outstanding rollouts; a checkpoint must contain them."""
        while self.outstanding:
            yield from self.receive(updates)

    # Faults.

    def _rollout(self, result: Rollout | RunnerFailure, behind: int) -> Iterator[tuple[Rollout, int]]:
        if isinstance(result, RunnerFailure):
            self._count_failure(result.traceback)
        else:
            self.failures = 0
            yield result, behind

    def _count_failure(self, text: str) -> None:
        """Log a runner's failure.

        Raises:
            RuntimeError: Too many have failed without a step in between.
        """
        logger.warning("%s", text)
        self.failures += 1
        if self.failures > FAILURES * max(1, self.group.num_remote_env_runners()):
            last = text.strip().splitlines()[-1]
            raise RuntimeError(
                f"no environment runner completes a step: {self.failures} failures in a row, the last: {last}"
            )

    def _forget_dead(self) -> None:
        alive = set(self.group.healthy_worker_ids())
        self.outstanding = {worker: one for worker, one in self.outstanding.items() if worker in alive}

    def restore(self) -> list[int]:
        """Add the runners that replace dead ones to the group; return their numbers.

        Raises:
            RuntimeError: No runner is left, and none has come up.
        """
        back = list(self.group.probe_unhealthy_env_runners())
        if back:
            give = partial(_set_weights, weights=self.weights)
            self.group.foreach_env_runner(give, remote_worker_ids=back, local_env_runner=False)
        for worker in back:
            self._count_failure(f"the process of environment runner {worker} ended and was replaced")
        self._wait_for_any()
        return back

    def _wait_for_any(self) -> None:
        if self.group.num_healthy_remote_env_runners() or not self.group.num_remote_env_runners():
            self.waited = 0
        elif self.waited >= RECOVERY_TIMEOUT_S:
            raise RuntimeError(f"no environment runner is left, and none came up in {RECOVERY_TIMEOUT_S} s")
        else:
            time.sleep(1)  # RLlib logs every attempt to reach one
            self.waited += 1

    # Checkpoints.

    def save_episodes(self, folder: Path) -> None:
        """Write the unfinished episodes of all environments into a checkpoint."""
        torch.save(dict(self.group.foreach_env_runner(_episodes)), folder / EPISODES_FILE)

    def restore_episodes(self, folder: Path) -> None:
        """Continue the episodes that `save_episodes` wrote, if it did."""
        file = folder / EPISODES_FILE
        states = torch.load(file, weights_only=True) if file.is_file() else {}
        lost = self.group.foreach_env_runner(
            lambda runner: runner.restore_episodes(states.get(runner.worker_index or 0, {}))
        )
        if sum(lost):
            logger.warning("%d episodes could not be continued and were started again", sum(lost))


def _set_weights(runner: Any, weights: Any) -> None:
    if weights is not None and runner.weights_reference != weights:
        runner.set_state(ray.get(weights))
        runner.weights_reference = weights


def _sample(runner: Any, steps: int, taken: int, weights: Any) -> Rollout | RunnerFailure:
    _set_weights(runner, weights)
    try:
        rollout: Rollout = runner.sample(num_timesteps=steps, taken=taken)
    except Exception:
        if not runner.worker_index:  # in this process it is raised as usual
            raise
        text = f"the environment of runner {runner.worker_index} failed:\n{traceback.format_exc()}"
        with suppress(Exception):  # an environment that has failed may fail to close
            runner.env.close()
        runner.make_env()
        return RunnerFailure(text)
    return rollout


def _episodes(runner: Any) -> tuple[int, dict[str, Any]]:
    return runner.worker_index or 0, runner.episodes()
