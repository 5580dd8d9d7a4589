"""The runners as the algorithm sees them: they collect, in step with the learner or beside it.

In step, every runner makes its share of a rollout with the same weights, then the learner updates. Beside it
(asynchronous), every runner has one request under way while the learner updates; results are taken as
they come, and a request knows how many updates its weights had. Runners are other processes that may
die: what a dead one had under way was not counted, and is collected again by the one in its place.
"""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from off2on.runner import Rollout

EPISODES = "episodes.pt"
"""What a checkpoint keeps of the simulators; see `runner.RecipeRunner`."""

TICK = 0.02
"""Seconds between two looks at what has arrived."""

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
        self.synced = 0
        """How many updates the weights had that were sent last."""

    # Weights.

    def sync(self, updates: int) -> None:
        """Send the learners' weights, which have had so many updates, unless the runners' are held."""
        if self.is_held:
            return
        self.synced = updates
        wait = None if self.staleness is None else 0.0
        self.group.sync_weights(
            from_worker_or_learner_group=self.learners, inference_only=True, timeout_seconds=wait
        )

    def serve(self, updates: int) -> None:
        """Let the runners act with the learners' policy as it is, older than theirs perhaps."""
        held, self.is_held = self.is_held, False
        self.group.foreach_env_runner(_forget_weights)
        self.sync(updates)
        self.is_held = held

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
        sample = partial(_sample, steps=each, taken=taken)
        if self.staleness is None:
            yield from ((rollout, updates - self.synced) for rollout in self.group.foreach_env_runner(sample))
            return
        self._request(sample)
        while self.under_way:
            arrived = list(self.arrived(updates))
            yield from arrived
            oldest = min(self.under_way.values(), default=updates)
            if arrived and updates - oldest <= self.staleness:
                break
        self._request(partial(_sample, steps=each, taken=taken + 1))

    def _request(self, sample: Any) -> None:
        """Ask every living runner without a request for one more rollout."""
        alive = set(self.group.healthy_worker_ids())
        self.under_way = {worker: then for worker, then in self.under_way.items() if worker in alive}
        idle = sorted(alive - self.under_way.keys())
        if idle:
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

    def restore(self, updates: int) -> list[int]:
        """Bring back runners that died, with the weights the others have; their numbers."""
        back = list(self.group.probe_unhealthy_env_runners())
        if back and not self.is_held:
            self.sync(updates)
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


def _sample(runner: Any, steps: int, taken: int) -> Rollout:
    rollout: Rollout = runner.sample(num_timesteps=steps, taken=taken)
    return rollout


def _episodes(runner: Any) -> tuple[int, dict[str, Any]]:
    return runner.worker_index or 0, runner.episodes()


def _forget_weights(runner: Any) -> None:
    # Runners refuse weights with a smaller number than theirs, which older ones have.
    runner._weights_seq_no = 0
