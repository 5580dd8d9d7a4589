"""Estimate what a run needs before it starts: memory, bytes moved, and time.

Times are a short measurement on this machine (updates on random batches, environment steps) times the
numbers of the plan. They assume a core or a GPU like the measured one for each process, and leave out the
start of processes, reading of data, checkpoints, model rollouts, the work of a strategy, and the network.
"""

import logging
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from off2on.recipe.objectives import apply_objectives
from off2on.replay.augmentation.compose import layout_for
from off2on.replay.buffer import Layout
from off2on.rllib.env_runner import RecipeEnvRunner
from off2on.rllib.flat_parameters import FlatParameters
from off2on.rllib.gradient_steps import GradientSteps
from off2on.rllib.threads import fastest_threads
from off2on.training.plan import Plan, ResolvedPlan

MEASURED_S = 1.0
"""Duration of each measurement in seconds."""


class EstimatedQuantity(NamedTuple):
    """A quantity of the estimate, in bytes or seconds; None if unknown."""

    group: str
    name: str
    value: float | None
    meaning: str


class SyntheticLearner:
    """The updates of a recipe on random batches, as `rllib.learner` makes them, without data or processes."""

    def __init__(self, recipe: Any, hp: Any, observations: Any, actions: Any, layout: Layout) -> None:
        self.recipe, self.hp, self.layout = recipe, hp, layout
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.nets = recipe.build_nets(observations, actions, hp).to(self.device)
        self.flat = {name: FlatParameters(getattr(self.nets, name)) for name in self.nets.names()}
        self.target_pairs = [
            (FlatParameters(getattr(self.nets.target, name)), self.flat[name]) for name in self.nets.targets
        ]
        names = [objective.name for objective in recipe.objectives_in_order()]
        self.optimizers = {name: recipe.optimizer(name, hp, self.flat[name].vector) for name in names}
        self.updates, self._bytes = 0, 0

    def update(self, rows: int) -> None:
        """Make one update on a random batch [rows, …]."""
        self.updates += 1
        batch = self.layout.split(0.1 * torch.rand(rows, self.layout.width, device=self.device))
        batch.real, batch.progress = rows, 0.5
        steps = GradientSteps(self.recipe, self.hp, self.flat, self._step)

        def differentiate(name: str, loss: Tensor, _: float) -> None:
            flat = self.flat[name]
            self._bytes += flat.set_gradient(torch.autograd.grad(loss, flat.parameters)).nbytes
            steps.add(name)

        apply_objectives(self.recipe, self.nets, batch, self.hp, self.updates, differentiate)
        steps.finish()
        for name, (target, network) in zip(self.nets.targets, self.target_pairs, strict=True):
            if rate := self.recipe.target_rate(name, self.hp, self.updates, 0.5):
                target.move_towards(network, rate)
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _step(self, name: str) -> None:
        self.optimizers[name].step()
        self.flat[name].mark_changed()

    @property
    def gradient_bytes(self) -> float:
        """Bytes of the gradients of an update, averaged over the updates so far."""
        return self._bytes / self.updates

    @property
    def network_bytes(self) -> int:
        """Bytes of all networks, target networks, gradients and optimiser states."""
        vectors = [flat.vector for flat in self.flat.values()]
        held = vectors + [target.vector for target, _ in self.target_pairs]
        held += [vector.grad for vector in vectors if vector.grad is not None]
        states = [state for optimizer in self.optimizers.values() for state in optimizer.state.values()]
        held += [value for state in states for value in state.values() if torch.is_tensor(value)]
        return sum(tensor.nbytes for tensor in held)

    @property
    def policy_bytes(self) -> int:
        """Bytes of the acting networks."""
        acting = (*self.recipe.acting_networks, *self.recipe.acting_targets)
        return sum(self.flat[name].vector.nbytes for name in acting if name in self.flat)


def estimate(plan: Plan, resolved: ResolvedPlan) -> list[EstimatedQuantity]:
    """Measure updates and environment steps for some seconds; return the estimated quantities of the run."""
    settings, online, learners = resolved.settings, resolved.settings.online, max(1, plan.learners)
    layout = layout_for(resolved.shards, settings.recipe, settings.hp)
    spaces = resolved.shards.observation_space, resolved.shards.action_space
    with torch.random.fork_rng(devices=[]):
        learner = SyntheticLearner(settings.recipe, settings.hp, *spaces, layout)
        update_s = _measure_updates(learner, settings.hp.batch_size // learners, learners, plan.threads)
        step_s, step_bytes = (None, 0.0) if resolved.env is None else _measure_steps(resolved.config)

    row = 4 * layout.width
    capacity = min(resolved.config.replay_capacity, plan.online)
    offline_rows = min(row * -(-resolved.shards.rows // learners), plan.memory)
    online_rows, networks = row * -(-capacity // learners), learner.network_bytes
    gradients = 2 * (learners - 1) / learners * learner.gradient_bytes
    policy = learner.policy_bytes * plan.workers if plan.online else 0
    rollout = online.rollout * step_bytes * (1 + plan.learners) if plan.online and plan.learners else 0

    updating = online.updates_due(plan.online) * update_s
    each = math.ceil(online.rollout / (max(1, plan.workers) * plan.envs)) * plan.envs
    collecting = plan.online / online.rollout * each * (step_s or 0.0)
    together = max(collecting, updating) if online.asynchronous else collecting + updating
    passes = plan.updates * settings.hp.batch_size / resolved.shards.rows
    evaluations = sum(map(len, plan.evaluations())) * plan.eval_episodes
    evaluating = evaluations * float(np.mean(resolved.shards.manifest.lengths)) * (step_s or 0.0)
    return [
        EstimatedQuantity("memory", "offline_rows", offline_rows, "the data, or a window on them"),
        EstimatedQuantity("memory", "online_rows", online_rows, "replay buffer of the online phase"),
        EstimatedQuantity(
            "memory", "networks", networks, "with target networks, gradients and optimiser states"
        ),
        EstimatedQuantity(
            "memory", "learner", offline_rows + online_rows + networks, "sum, for each learner"
        ),
        EstimatedQuantity(
            "transfer", "gradients", gradients, "sent by each learner per update (ring all-reduce)"
        ),
        EstimatedQuantity("transfer", "policy", policy, "sent to all workers per rollout"),
        EstimatedQuantity("transfer", "rollout", rollout, "to the object store and all learners per rollout"),
        EstimatedQuantity("measured", "update", update_s, f"an update of one learner on {learner.device}"),
        EstimatedQuantity("measured", "step", step_s, "an environment step of one process, policy included"),
        EstimatedQuantity(
            "time",
            "offline",
            plan.updates * update_s,
            f"updates of the offline phase: {passes:,.1f} passes over the rows",
        ),
        EstimatedQuantity("time", "collecting", collecting, "environment steps of the online phase"),
        EstimatedQuantity("time", "updating", updating, "updates of the online phase"),
        EstimatedQuantity(
            "time", "online", together, "at once" if online.asynchronous else "one after the other"
        ),
        EstimatedQuantity("time", "evaluation", evaluating, "episodes of all evaluations, one by one"),
    ]


def _measure_updates(learner: SyntheticLearner, rows: int, learners: int, threads: int | None) -> float:
    """Return the seconds of an update, with the number of threads that a learner would choose."""
    before = torch.get_num_threads()
    try:
        chosen = threads or fastest_threads(lambda: learner.update(rows), learners, rounds=3)
        torch.set_num_threads(chosen)
        return mean_seconds(lambda: learner.update(rows))
    finally:
        torch.set_num_threads(before)


def _measure_steps(config: Any) -> tuple[float, float]:
    """Return the seconds and the bytes of an environment step of one worker."""
    logging.getLogger("ray").setLevel(logging.ERROR)  # RLlib warns of its own deprecated calls
    runner, steps = RecipeEnvRunner(config=config, worker_index=1), 10 * config.num_envs_per_env_runner
    try:
        columns = runner.sample(num_timesteps=steps).columns
        seconds = mean_seconds(lambda: runner.sample(num_timesteps=steps))
    finally:
        runner.stop()
    return seconds / steps, sum(column.nbytes for column in columns.values()) / steps


def mean_seconds(work: Callable[[], object], min_calls: int = 4) -> float:
    """Return the mean duration in seconds of a call, over `MEASURED_S` and at least `min_calls` calls."""
    work()  # the first call allocates
    started, calls, taken = time.perf_counter(), 0, 0.0
    while calls < min_calls or taken < MEASURED_S:
        work()
        calls, taken = calls + 1, time.perf_counter() - started
    return taken / calls
