"""What a plan asks for in numbers: operators and bytes, counted on networks made for that alone."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from off2on.replay.buffer import Layout
from off2on.replay.offline_rows import layout_of
from off2on.rllib.flat_parameters import FlatParameters
from off2on.training.cluster.costs import Job, Work
from off2on.training.plan import Plan, ResolvedPlan

UPDATES = 4
"""That are counted: networks that are updated at every other one come out right."""


def job_of(plan: Plan, checked: ResolvedPlan, **machines: Any) -> Job:
    """The plan in numbers.

    Args:
        plan: What to do.
        checked: What was found for it.
        **machines: Further fields of the job.
    """
    shards, hp, online_settings = checked.shards, checked.hp, checked.online_settings
    offline, online = plan.evaluations()
    scored = 0 if checked.env is None else plan.eval_episodes * len(offline + online)
    return Job(
        updates=plan.updates,
        online=0 if checked.new is not None else plan.online,
        due=online_settings.updates_due(plan.online),
        held=4 * shards.rows * layout_of(shards, checked.recipe.columns, checked.recipe.relabelled).width,
        env=checked.env,
        evaluated=round(scored * float(np.mean(shards.manifest.lengths))),
        learners=plan.learners,
        workers=plan.workers,
        envs=plan.envs,
        rollout=online_settings.rollout,
        asynchronous=online_settings.asynchronous,
        **networks(checked.recipe, hp, shards.observation_space, shards.action_space),
        **machines,
    )


def networks(recipe: Any, hp: Any, observations: gym.Space[Any], actions: gym.Space[Any]) -> dict[str, Any]:
    """What is the same for every number of machines: the work of an update, and what has to be moved."""
    with torch.random.fork_rng(devices=[]):
        program = Program(recipe, hp, observations, actions)
        whole, half = program.work(hp.batch_size), program.work(hp.batch_size // 2)
    acting = [name for name in recipe.acting if name in program.flat]
    return {
        "batch": hp.batch_size,
        "whole": whole,
        "half": half,
        "gradients": tuple(program.gradients.values()),
        "policy": sum(4 * program.flat[name].vector.numel() for name in acting),
        "step": step_bytes(observations, actions),
    }


def step_bytes(observations: gym.Space[Any], actions: gym.Space[Any]) -> int:
    """Bytes of an environment step as runners hand it in: two observations, action, reward, ends, number."""

    def size(space: gym.Space[Any]) -> int:
        return int(np.prod(space.shape or ())) * int(np.dtype(space.dtype).itemsize)

    observation, action = size(observations), size(actions)
    return 2 * observation + action + 8 + 1 + 1 + 8


class Program:
    """The updates of a recipe on made-up batches, as `learner.RecipeLearner` makes them, without a learner.

    Attributes:
        flat: The parameters of each network.
        gradients: Of each objective, how many parameters, and in which share of the updates it was due.
    """

    def __init__(self, recipe: Any, hp: Any, observations: Any, actions: Any) -> None:
        self.recipe, self.hp = recipe, hp
        self.nets = recipe.build_nets(observations, actions, hp)
        shapes = Shapes(observations, actions)
        self.layout: Layout = layout_of(shapes, recipe.columns, recipe.relabelled)  # type: ignore[arg-type]
        self.flat = {name: FlatParameters(getattr(self.nets, name)) for name in self.nets.names()}
        self.following = [
            (FlatParameters(getattr(self.nets.target, name)), self.flat[name]) for name in self.nets.targets
        ]
        self.optimizers = {
            objective.name: recipe.optimizer(objective.name, hp, self.flat[objective.name].vector)
            for objective in recipe.objectives_in_order()
        }
        self.gradients: Mapping[str, tuple[int, float]] = {}

    def work(self, size: int) -> Work:
        """Of an update with so many rows, on average."""
        for number in range(1, UPDATES + 1):  # optimisers make their state
            self.update(number, size)
        due: dict[str, int] = {}
        with Counter() as counter:
            for number in range(UPDATES + 1, 2 * UPDATES + 1):
                for name in self.update(number, size):
                    due[name] = due.get(name, 0) + 1
        self.gradients = {
            name: (self.flat[name].vector.numel(), count / UPDATES) for name, count in due.items()
        }
        return Work(counter.operators / UPDATES, counter.flop / UPDATES, counter.elements / UPDATES)

    def update(self, number: int, size: int) -> list[str]:
        """One update; which objectives were due."""
        recipe, hp = self.recipe, self.hp
        batch = self.layout.split(0.1 * torch.rand(size, self.layout.width))
        batch.real, batch.progress = size, 0.5
        batch = recipe.prepare(self.nets, batch, hp)
        due = [
            objective.name
            for objective in recipe.objectives_in_order()
            if recipe.due(objective, hp, number, 0.5)
        ]
        for name in due:
            loss, _ = getattr(recipe, f"compute_{name}_loss")(self.nets, batch, hp)
            self.flat[name].set_gradient(torch.autograd.grad(loss, self.flat[name].parameters))
            self.optimizers[name].step()
            self.flat[name].stepped()
        if recipe.targets_due(hp, number, 0.5):
            for target, network in self.following:
                target.follow(network, hp.polyak)
        return due


class Shapes:
    """As much of a data set as a layout asks for."""

    def __init__(self, observations: gym.Space[Any], actions: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = observations, actions


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what torch does: operators that write something, their FLOP, the elements they write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators, self.flop, self.elements = 0, 0, 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        if not function.is_view:
            self.operators += 1
            written = found if isinstance(found, tuple | list) else (found,)
            self.elements += sum(each.numel() for each in written if isinstance(each, torch.Tensor))
        count: Callable[..., int] | None = flop_registry.get(function._overloadpacket)
        if count is not None:
            self.flop += count(*args, **(kwargs or {}), out_val=found)
        return found
