"""The runners as the algorithm sees them: they collect, in step with the learner or beside it.

In step, every runner makes its share of a rollout with the same weights, then the learner updates. Beside it
(asynchronous), every runner has one request under way while the learner updates; results are taken as
they come. Weights travel with the request, so that whoever answers it acts with them, and it is known how
many updates they had. Runners are other processes that may die: what a dead one had under way was not
counted, and is collected again by the one in its place.
"""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE

from off2on.runner import Rollout

EPISODES = "episodes.pt"
"""What a checkpoint keeps of the simulators; see `runner.RecipeRunner`."""

TICK = 0.005
"""Seconds that a look at what has arrived waits for the last to arrive."""

logger = logging.getLogger(__name__)


class Runners:
    """A group of runners and the weights they act with.

    Args:
        group: RLlib's group.
        learners: RLlib's learners, where weights come from.
        staleness: Most updates by which weights may be behind when a rollout arrives; None collects in step.
    """

    def __init__(self, group: Any, learners: Any, staleness: int | None) -> None:
        self.group, self.learners, self.staleness = group, learners, staleness
        self.is_held = False
        """Whether runners go on with the weights they have, until `serve`."""
        self.under_way: dict[int, int] = {}
        """Of each runner with a request: how many updates the weights had that it acts with."""
        self.weights: Any = None
        """Those that runners in other processes are to act with: a reference into Ray's store."""
        self.synced = 0
        """How many updates they had."""

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

    def collect(self, steps: int, taken: int, updates: int) -> Iterator[tuple[Rollout, int]]:
        """Rollouts of at least so many steps in all, or, asynchronous, those that have arrived.

        Args:
            steps: How many.
            taken: Steps taken before, which choose the random numbers.
            updates: Updates made so far.

        Yields:
            A rollout, and by how many updates its weights were behind.
        """
        each = -(-steps // max(1, self.group.num_healthy_remote_env_runners()))
        if self.staleness is None:
            sample = partial(_sample, steps=each, taken=taken, weights=self.weights)
            yield from ((rollout, updates - self.synced) for rollout in self.group.foreach_env_runner(sample))
            return
        self._request(each, taken)
        while self.under_way:
            arrived = list(self.arrived(updates))
            taken += sum(len(rollout.columns["rewards"]) for rollout, _ in arrived)
            yield from arrived
            oldest = min(self.under_way.values(), default=updates)
            if arrived and updates - oldest <= self.staleness:
                break
        self._request(each, taken)

    def _request(self, steps: int, taken: int) -> None:
        """Ask every living runner without a request for one more rollout."""
        alive = set(self.group.healthy_worker_ids())
        self.under_way = {worker: then for worker, then in self.under_way.items() if worker in alive}
        idle = sorted(alive - self.under_way.keys())
        if idle:
            sample = partial(_sample, steps=steps, taken=taken, weights=self.weights)
            self.group.foreach_env_runner_async(sample, tag=EPISODES, remote_worker_ids=idle)
            self.under_way |= dict.fromkeys(idle, self.synced)

    def arrived(self, updates: int, wait: float = TICK) -> Iterator[tuple[Rollout, int]]:
        """What has arrived of the requests under way; those of runners that died are forgotten."""
        for worker, rollout in self.group.fetch_ready_async_reqs(tags=EPISODES, timeout_seconds=wait):
            yield rollout, updates - self.under_way.pop(worker, self.synced)
        alive = self.group.healthy_worker_ids()
        self.under_way = {worker: then for worker, then in self.under_way.items() if worker in alive}

    def rest(self, updates: int) -> Iterator[tuple[Rollout, int]]:
        """All that is under way, until nothing is: what a checkpoint must not leave out."""
        while self.under_way:
            yield from self.arrived(updates)

    # Faults, and checkpoints.

    def restore(self) -> list[int]:
        """Take those that came up in the place of dead ones into the group; their numbers."""
        back = list(self.group.probe_unhealthy_env_runners())
        if back:
            give = partial(_act_with, weights=self.weights)
            self.group.foreach_env_runner(give, remote_worker_ids=back, local_env_runner=False)
        return back

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


def _sample(runner: Any, steps: int, taken: int, weights: Any) -> Rollout:
    _act_with(runner, weights)
    rollout: Rollout = runner.sample(num_timesteps=steps, taken=taken)
    return rollout


def _episodes(runner: Any) -> tuple[int, dict[str, Any]]:
    return runner.worker_index or 0, runner.episodes()
