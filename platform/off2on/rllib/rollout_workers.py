"""The runners as the algorithm sees them: they collect, in step with the learner or beside it.

In step, every runner makes its share of a rollout with the same weights, then the learner updates. Beside it
(asynchronous), every runner has one request under way while the learner updates; results are taken as
they come. Weights travel with the request, so that whoever answers it acts with them, and it is known how
many updates they had. Runners are other processes that may die: what a dead one had under way was not
counted, and is collected again by the one in its place. So are environments that fail in them; when
nothing but failures comes back, the run ends with what failed.
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

EPISODES = "episodes.pt"
"""What a checkpoint keeps of the simulators; see `runner.RecipeEnvRunner`."""

TICK = 0.005
"""Seconds that a look at what has arrived waits for the last to arrive."""

FAILURES = 3
"""Failures per runner, and no step in between, after which a run gives up."""

PATIENCE = 600
"""Seconds of waiting for any runner after which it does: a cluster may take minutes to find a machine."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """A rollout that was asked for: how many steps, with weights of how many updates."""

    steps: int
    updates: int


@dataclass(frozen=True)
class Failure:
    """What a runner hands in whose environment failed, and is made anew: the traceback."""

    told: str


class RolloutWorkers:
    """A group of runners and the weights they act with.

    Args:
        group: RLlib's group.
        learners: RLlib's learners, where weights come from.
        due: Environment steps to all updates that are due after them.
        staleness: Most updates by which weights may be behind when a rollout arrives; None collects in step.
    """

    def __init__(
        self, group: Any, learners: Any, due: Callable[[int], int], staleness: int | None = None
    ) -> None:
        self.group, self.learners, self.due = group, learners, due
        self.is_asynchronous, self.staleness = staleness is not None, staleness or 0
        self.is_held = False
        """Whether runners go on with the weights they have, until `serve`."""
        self.under_way: dict[int, Request] = {}
        """Of each runner that was asked and has not answered."""
        self.weights: Any = None
        """Those that runners in other processes are to act with: a reference into Ray's store."""
        self.synced = 0
        """How many updates they had."""
        self.failures = 0
        """Of runners, since the last rollout arrived."""
        self.waited = 0
        """Seconds, for any runner to come up."""

    # Weights.

    def sync(self, updates: int) -> None:
        """Let the runners act with the learners' policy, after so many updates, unless theirs is held."""
        if not self.is_held:
            self.serve(updates)

    def serve(self, updates: int) -> None:
        """Let the runners act with the learners' policy as it is, older than theirs perhaps."""
        path = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
        state = self.learners.get_state(components=path, inference_only=True)[COMPONENT_LEARNER]
        # Without the number of the weights: RLlib's runners refuse a smaller one than theirs.
        state = {COMPONENT_RL_MODULE: state[COMPONENT_RL_MODULE]}
        self.synced = updates
        if self.group.local_env_runner is not None:
            self.group.local_env_runner.set_state(state)
            return
        self.weights = ray.put(state)
        if not self.under_way:  # otherwise with the next request: a busy runner is not waited for
            self.group.foreach_env_runner(partial(_act_with, weights=self.weights))

    # Collecting.

    def collect(self, steps: int, room: int, taken: int, updates: int) -> Iterator[tuple[Rollout, int]]:
        """Rollouts of at least so many steps in all, or, asynchronous, those that have arrived.

        Args:
            steps: How many, of all runners together.
            room: Most steps that are wanted at all, those under way included.
            taken: Steps taken before, which choose the random numbers.
            updates: Updates made so far.

        Yields:
            A rollout, and by how many updates its weights were behind.

        Raises:
            RuntimeError: Nothing but failures comes back.
        """
        each = -(-min(steps, room) // max(1, self.group.num_healthy_remote_env_runners()))
        if not self.is_asynchronous:
            sample = partial(_sample, steps=each, taken=taken, weights=self.weights)
            for answer in self.group.foreach_env_runner(sample):
                yield from self._rollout(answer, updates - self.synced)
            return
        end = taken + room
        self._request(each, end, taken)
        has_some = False
        while self.under_way and not (has_some and self._is_timely(self._oldest(), taken)):
            for rollout, behind in self.arrived(updates):
                has_some = True
                taken += len(rollout.columns["rewards"])
                yield rollout, behind
        if self._is_timely(self.synced, taken):
            self._request(each, end, taken)  # otherwise once they can have newer weights

    def _oldest(self) -> int:
        return min(asked.updates for asked in self.under_way.values())

    def _is_timely(self, weights: int, taken: int) -> bool:
        """Whether what such weights collect may arrive after the updates that are due now."""
        return self.is_held or self.due(taken) - weights <= self.staleness

    def _request(self, steps: int, end: int, taken: int) -> None:
        """Ask living runners without a request for one more rollout each, for no step beyond the end."""
        self._forget_dead()
        left = end - taken - sum(request.steps for request in self.under_way.values())
        for worker in sorted(set(self.group.healthy_worker_ids()) - self.under_way.keys()):
            if left <= 0:
                break
            share = min(steps, left)
            sample = partial(_sample, steps=share, taken=taken, weights=self.weights)
            if self.group.foreach_env_runner_async(sample, tag=EPISODES, remote_worker_ids=[worker]):
                self.under_way[worker] = Request(share, self.synced)
                left -= share

    def arrived(self, updates: int) -> Iterator[tuple[Rollout, int]]:
        """What has arrived of the requests under way; those of runners that died are forgotten."""
        for worker, answer in self.group.fetch_ready_async_reqs(tags=EPISODES, timeout_seconds=TICK):
            yield from self._rollout(answer, updates - self.under_way.pop(worker).updates)
        self._forget_dead()

    def rest(self, updates: int) -> Iterator[tuple[Rollout, int]]:
        """All that is under way, until nothing is: what a checkpoint must not leave out."""
        while self.under_way:
            yield from self.arrived(updates)

    # Faults.

    def _rollout(self, answer: Rollout | Failure, behind: int) -> Iterator[tuple[Rollout, int]]:
        if isinstance(answer, Failure):
            self._failed(answer.told)
        else:
            self.failures = 0
            yield answer, behind

    def _failed(self, told: str) -> None:
        """Say what happened to a runner; too often in a row, and it is no accident."""
        logger.warning("%s", told)
        self.failures += 1
        if self.failures > FAILURES * max(1, self.group.num_remote_env_runners()):
            last = told.strip().splitlines()[-1]
            raise RuntimeError(f"no runner makes a step, {self.failures} failed in a row; the last: {last}")

    def _forget_dead(self) -> None:
        alive = set(self.group.healthy_worker_ids())
        self.under_way = {worker: asked for worker, asked in self.under_way.items() if worker in alive}

    def restore(self) -> list[int]:
        """Take those that came up in the place of dead ones into the group; their numbers.

        Raises:
            RuntimeError: None comes up.
        """
        back = list(self.group.probe_unhealthy_env_runners())
        if back:
            give = partial(_act_with, weights=self.weights)
            self.group.foreach_env_runner(give, remote_worker_ids=back, local_env_runner=False)
        for worker in back:
            self._failed(f"the process of runner {worker} ended; another is in its place")
        self._wait_for_life()
        return back

    def _wait_for_life(self) -> None:
        if self.group.num_healthy_remote_env_runners() or not self.group.num_remote_env_runners():
            self.waited = 0
        elif self.waited >= PATIENCE:
            raise RuntimeError(f"no runner is left, and none came up in {PATIENCE} s")
        else:
            time.sleep(1)  # RLlib logs every attempt to reach one
            self.waited += 1

    # Checkpoints.

    def save(self, folder: Path) -> None:
        """Write where the simulators are."""
        torch.save(dict(self.group.foreach_env_runner(_episodes)), folder / EPISODES)

    def go_on(self, folder: Path) -> None:
        """Bring the simulators to where they were when `save` wrote into this folder, if it did."""
        file = folder / EPISODES
        states = torch.load(file, weights_only=True) if file.is_file() else {}
        lost = self.group.foreach_env_runner(
            lambda runner: runner.go_on(states.get(runner.worker_index or 0, {}))
        )
        if sum(lost):
            logger.warning("%d episodes could not be brought to where they were and begin anew", sum(lost))


def _act_with(runner: Any, weights: Any) -> None:
    if weights is not None and runner.acts_with != weights:
        runner.set_state(ray.get(weights))
        runner.acts_with = weights


def _sample(runner: Any, steps: int, taken: int, weights: Any) -> Rollout | Failure:
    _act_with(runner, weights)
    try:
        rollout: Rollout = runner.sample(num_timesteps=steps, taken=taken)
    except Exception:
        if not runner.worker_index:  # here, an error is one as any other
            raise
        told = f"the environment of runner {runner.worker_index} failed:\n{traceback.format_exc()}"
        with suppress(Exception):  # what has failed may fail at this, too
            runner.env.close()
        runner.make_env()
        return Failure(told)
    return rollout


def _episodes(runner: Any) -> tuple[int, dict[str, Any]]:
    return runner.worker_index or 0, runner.episodes()
