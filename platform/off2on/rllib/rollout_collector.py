"""Collect rollouts with RLlib's environment runners, between updates or at the same time.

Synchronous: every runner makes its part of a rollout with the same weights, then the learner updates.
Asynchronous: every runner has one outstanding request while the learner updates, and results are received as
they arrive. The weights are sent with the request, so that the staleness of a rollout is known: the number of
updates made since its weights.

Runners are processes that may die. The outstanding request of a dead runner is dropped, and the runner that
replaces it collects the steps. An environment that fails is built again. If only failures arrive, the run
ends with the last of them.
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

from off2on.errors import UserError
from off2on.rllib.env_runner import Rollout

REQUEST_TAG = "rollout"
"""Tag of the asynchronous requests in RLlib."""

EPISODES_FILE = "episodes.pt"
"""File of a checkpoint with the unfinished episodes; see `env_runner.RecipeEnvRunner.episodes`."""

POLL_S = 0.005
"""Seconds that one check for finished requests waits."""

FAILURES = 3
"""Number of failures per runner without a rollout in between; after more the run ends."""

RECOVERY_TIMEOUT_S = 600
"""Seconds without any runner after which a run ends; a cluster may take minutes to add a machine."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RolloutRequest:
    """A request for a rollout whose result has not arrived.

    Attributes:
        steps: Number of environment steps.
        updates: Number of updates that its weights had at the request.
    """

    steps: int
    updates: int


@dataclass(frozen=True)
class RunnerFailure:
    """Result of a runner whose environment failed; the runner has built a new environment.

    Attributes:
        traceback: The error's text.
        error: An error that would come again; it ends the run.
    """

    traceback: str
    error: UserError | None = None


class RolloutCollector:
    """Collects rollouts with a group of environment runners, and sends them the weights.

    Args:
        group: RLlib's group.
        learners: RLlib's group of learners, from which the weights come.
        updates_due: Maps a number of environment steps to the number of updates due after them.
        staleness: Largest number of updates by which weights may be old when a rollout arrives; None:
            synchronous collection.
    """

    def __init__(
        self, group: Any, learners: Any, updates_due: Callable[[int], int], staleness: int | None = None
    ) -> None:
        self.group, self.learners, self.updates_due = group, learners, updates_due
        self.is_asynchronous, self.staleness = staleness is not None, staleness or 0
        self.weights_frozen = False
        """True if the runners keep their weights until `send_weights`."""
        self.outstanding: dict[int, RolloutRequest] = {}
        """Outstanding request of each runner, by the runner's number."""
        self.weights: Any = None
        """Reference to the weights in Ray's object store; None with a local runner."""
        self.weights_version = 0
        """Number of updates that these weights had."""
        self.failures = 0
        """Number of failures since the last rollout."""
        self.seconds_without_runner = 0
        """Seconds without any runner."""

    # Weights.

    def update_weights(self, updates: int) -> None:
        """Send the policy after this number of updates to the runners, unless their weights are frozen."""
        if not self.weights_frozen:
            self.send_weights(updates)

    def send_weights(self, updates: int) -> None:
        """Send the learners' policy to the runners, also if it is older than the runners' own."""
        path = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
        state = self.learners.get_state(components=path, inference_only=True)[COMPONENT_LEARNER]
        # Without the version number of the weights: RLlib's runners ignore weights with a smaller one.
        state = {COMPONENT_RL_MODULE: state[COMPONENT_RL_MODULE]}
        self.weights_version = updates
        if self.group.local_env_runner is not None:
            self.group.local_env_runner.set_state(state)
            return
        self.weights = ray.put(state)
        if not self.outstanding:  # otherwise sent with the next request, without a wait for a busy runner
            self.group.foreach_env_runner(partial(_set_weights, weights=self.weights))

    # Collection.

    def collect(self, steps: int, limit: int, taken: int, updates: int) -> Iterator[tuple[Rollout, int]]:
        """Yield rollouts of at least `steps` steps; in asynchronous collection, those that have arrived.

        Args:
            steps: Number of steps of all runners together.
            limit: Largest number of steps, including those of outstanding requests.
            taken: Number of steps taken before, which determines the random numbers.
            updates: Number of updates made so far.

        Yields:
            A rollout, and its staleness in updates.

        Raises:
            RuntimeError: The runners return only failures.
        """
        each = -(-min(steps, limit) // max(1, self.group.num_healthy_remote_env_runners()))
        if not self.is_asynchronous:
            sample = partial(_sample, steps=each, taken=taken, weights=self.weights)
            for result in self.group.foreach_env_runner(sample):
                yield from self._rollout(result, updates - self.weights_version)
            return
        end = taken + limit
        self._request(each, end, taken)
        has_some = False
        while self.outstanding and not (has_some and self._arrives_in_time(self._oldest(), taken)):
            for rollout, staleness in self.receive(updates):
                has_some = True
                taken += len(rollout.columns["rewards"])
                yield rollout, staleness
        if self._arrives_in_time(self.weights_version, taken):
            self._request(each, end, taken)  # otherwise at the next call, with newer weights

    def _oldest(self) -> int:
        return min(request.updates for request in self.outstanding.values())

    def _arrives_in_time(self, version: int, taken: int) -> bool:
        """Return True if a rollout with weights of this version is not too old after the updates due now."""
        return self.weights_frozen or self.updates_due(taken) - version <= self.staleness

    def _request(self, steps: int, end: int, taken: int) -> None:
        """Request a rollout from each live runner without an outstanding one, up to step `end`."""
        self._forget_dead()
        left = end - taken - sum(request.steps for request in self.outstanding.values())
        for worker in sorted(set(self.group.healthy_worker_ids()) - self.outstanding.keys()):
            if left <= 0:
                break
            count = min(steps, left)
            sample = partial(_sample, steps=count, taken=taken, weights=self.weights)
            if self.group.foreach_env_runner_async(sample, tag=REQUEST_TAG, remote_worker_ids=[worker]):
                self.outstanding[worker] = RolloutRequest(count, self.weights_version)
                left -= count

    def receive(self, updates: int) -> Iterator[tuple[Rollout, int]]:
        """Yield the outstanding rollouts that have arrived, and drop the requests of runners that died."""
        for worker, result in self.group.fetch_ready_async_reqs(tags=REQUEST_TAG, timeout_seconds=POLL_S):
            yield from self._rollout(result, updates - self.outstanding.pop(worker).updates)
        self._forget_dead()

    def collect_outstanding(self, updates: int) -> Iterator[tuple[Rollout, int]]:
        """Wait for all outstanding rollouts and yield them, so that a checkpoint contains them."""
        while self.outstanding:
            yield from self.receive(updates)

    # Failures.

    def _rollout(self, result: Rollout | RunnerFailure, staleness: int) -> Iterator[tuple[Rollout, int]]:
        if isinstance(result, RunnerFailure):
            if result.error is not None:
                raise result.error
            self._count_failure(result.traceback)
        else:
            self.failures = 0
            yield result, staleness

    def _count_failure(self, text: str) -> None:
        """Log a runner's failure.

        Raises:
            RuntimeError: There were too many failures without a rollout in between.
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
        """Add replacements of dead runners to the group; return their numbers.

        Raises:
            RuntimeError: No runner is alive, and none was replaced in time.
        """
        restored = list(self.group.probe_unhealthy_env_runners())
        if restored:
            set_weights = partial(_set_weights, weights=self.weights)
            self.group.foreach_env_runner(set_weights, remote_worker_ids=restored, local_env_runner=False)
        for worker in restored:
            self._count_failure(f"the process of environment runner {worker} ended and was replaced")
        self._wait_for_any()
        return restored

    def _wait_for_any(self) -> None:
        if self.group.num_healthy_remote_env_runners() or not self.group.num_remote_env_runners():
            self.seconds_without_runner = 0
        elif self.seconds_without_runner >= RECOVERY_TIMEOUT_S:
            limit = f"{RECOVERY_TIMEOUT_S} s"
            raise RuntimeError(f"no environment runner is alive, and none was replaced in {limit}")
        else:
            time.sleep(1)  # RLlib logs every attempt, so not more often
            self.seconds_without_runner += 1

    # Checkpoints.

    def save_episodes(self, folder: Path) -> None:
        """Write the unfinished episodes of all environments into a checkpoint."""
        torch.save(dict(self.group.foreach_env_runner(_episodes)), folder / EPISODES_FILE)

    def restore_episodes(self, folder: Path) -> None:
        """Continue the episodes in the file of `save_episodes`, if there is one."""
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
    except Exception as error:
        if not runner.worker_index:  # the local runner, in this process
            raise
        text = f"the environment of runner {runner.worker_index} failed:\n{traceback.format_exc()}"
        with suppress(Exception):  # a failed environment may also fail to close
            runner.env.close()
        runner.make_env()
        return RunnerFailure(text, error if isinstance(error, UserError) else None)
    return rollout


def _episodes(runner: Any) -> tuple[int, dict[str, Any]]:
    return runner.worker_index or 0, runner.episodes()
