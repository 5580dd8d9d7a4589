"""Algorithms with real learners, and questions to each of these."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from ray import cloudpickle

from off2on.rllib.algorithm import OfflineToOnline
from off2on.rllib.learner import RecipeLearner

# Workers cannot import the tests: what is defined here travels by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def configured(recipe: Any, data: str = "toy-pendulum", *, offline: int = 20, **given: Any) -> Any:
    options = {"hidden": (32, 32), "batch_size": 32, "threads": 1, "updates_per_call": 10} | given
    return recipe.configure(data).training(**options).offline(offline)


def everything(learner: RecipeLearner) -> dict[str, Any]:
    """All that an update depends on, and what it leaves behind."""
    optimizers = {
        name: learner.get_optimizer("default_policy", name).state_dict()["state"]
        for name in learner.flat
        if name in {objective.name for objective in learner.recipe.objectives_in_order()}
    }
    return {
        "updates": learner.updates,
        "nets": dict(learner.nets.state_dict()),
        "optimizers": optimizers,
        "rows": learner.rows.data[: learner.rows.offline + learner.rows.online],
        "added": learner.rows.added,
        "strategy": (type(learner.sampler.strategy).__name__, learner.sampler.strategy.state()),
    }


def ask(algo: OfflineToOnline, function: Callable[..., Any] = everything, **kwargs: Any) -> list[Any]:
    """The answer of every learner, in the order of their ranks."""

    def ranked(learner: RecipeLearner, **kwargs: Any) -> Any:
        return learner.rank, function(learner, **kwargs)

    answers = [result.get() for result in algo.learner_group.foreach_learner(ranked, **kwargs)]
    return [answer for _, answer in sorted(answers, key=lambda pair: pair[0])]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def online_config(
    recipe: Any, *, offline: int = 10, steps: int = 60, strategy: str = "balanced", **given: Any
) -> Any:
    return configured(recipe, offline=offline).online(steps, strategy=strategy, rollout=20, **given)
