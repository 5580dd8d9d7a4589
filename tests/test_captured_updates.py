"""Captured updates, with a capture that repeats the work on the CPU: fixed memory gives the same numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from real_learners import everything, same

from off2on.algorithms import find_algorithm
from off2on.rllib.traced.captured import CapturedUpdate, capture_trace


def record(work: Callable[[], None]) -> Callable[[], None]:
    """Repeat the work instead of what it did on a GPU; like a capture, do nothing yet."""
    return work


def captured(learner: Any) -> list[CapturedUpdate]:
    """Let every trace of a learner be captured; return the captured ones."""
    found = []
    for kind in learner.traced._kinds.values():
        for trace in kind.traces:
            trace.run = capture_trace(trace, record)
            found.append(trace.run)
    return found


@pytest.mark.parametrize("name", ["td3_bc", "iql", "cql", "edac", "redq", "fql", "discrete_cql"])
def test_captured_updates_are_bit_equal(build_learner: Callable[..., Any], name: str):
    recipe = find_algorithm(name)
    own, other = (build_learner(recipe, "toy-cartpole" if "discrete" in name else "wide") for _ in range(2))
    for learner in (own, other):
        learner.traced.after = 1
        learner.advance(30)
    updates = captured(other)
    assert updates
    assert repr(own.advance(20)) == repr(other.advance(20))
    assert same(everything(other), everything(own))
    assert [one.captures for one in updates] == [1] * len(updates)


def test_replaced_tensors_are_captured_again(build_learner: Callable[..., Any]):
    own, other = (build_learner(find_algorithm("iql")) for _ in range(2))
    for learner in (own, other):
        learner.traced.after = 1
        learner.advance(10)
    (update,) = captured(other)
    for learner in (own, other):
        learner.advance(5)
        (optimizer,) = (learner.step.optimizers["value"],)
        optimizer.load_state_dict(optimizer.state_dict())  # copies the state
        state = optimizer.state[learner.flat["value"].vector]
        state["exp_avg"] = state["exp_avg"].clone()
        learner.advance(5)
    assert update.captures == 2
    assert same(everything(other), everything(own))


def on_gpu(name: str) -> Any:
    config = find_algorithm(name).configure("wide").offline(100).learners(num_gpus_per_learner=1)
    config.training(hidden=(16, 16), batch_size=16)
    learner = config.get_default_learner_class()(config=config, module_spec=config.get_rl_module_spec())
    learner.build()
    assert learner.device.type == "cuda"
    return learner


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.parametrize("name", ["td3_bc", "iql", "cql", "sac_n", "edac"])
def test_a_gpu_repeats_what_the_recipe_computes(data_root: Any, name: str):
    own, other = on_gpu(name), on_gpu(name)
    own.traced.after, other.traced.after = 1_000, 1
    assert repr(own.advance(50)) == repr(other.advance(50))
    assert other.traced.repeated > 30
    assert same(everything(other), everything(own))
