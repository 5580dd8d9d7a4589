"""Traced updates: the same numbers, bit for bit, as the recipe's own code; for every algorithm."""

import logging
import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from real_learners import ask, everything, online_config, same

from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.algorithms.rebrac import ReBRAC
from off2on.algorithms.td3_bc import TD3BC
from off2on.rllib.traced.watched import Condition, WatchedNumber

Build = Callable[..., Any]
UPDATES = 100


def advance(learner: Any, *, trace_after: int) -> str:
    """Make 100 updates in three calls; return the metrics as text, in which NaN equals NaN."""
    learner.traced.after = trace_after
    return repr([learner.advance(updates) for updates in (7, 50, 43)])


def compare(build_learner: Build, recipe: Any, data: str | None = None, **given: Any) -> Any:
    """Make updates with and without traces, compare everything, and return the learner with traces."""
    own, traced = (build_learner(recipe, data, **given) for _ in range(2))
    assert advance(own, trace_after=UPDATES) == advance(traced, trace_after=1)
    assert same(everything(traced), everything(own))
    assert own.traced.repeated == 0
    return traced


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_hundred_updates_are_bit_equal(build_learner: Build, name: str):
    recipe = find_algorithm(name)
    data = "toy-cartpole" if recipe.actions == "discrete" else "wide"
    traced = compare(build_learner, recipe, data)
    assert traced.traced.reason is None
    assert traced.traced.repeated > UPDATES // 2


@pytest.mark.parametrize("clip", ["value", "norm", "global_norm"])
def test_a_clipped_gradient_is_clipped_in_a_trace(build_learner: Build, clip: str):
    class Clipped(TD3BC):
        """With a limit that is reached."""

    config = Clipped.configure("wide").offline(UPDATES).training(
        threads=1, hidden=(16, 16), batch_size=16, grad_clip=0.01, grad_clip_by=clip
    )  # fmt: skip

    def build(*_: Any) -> Any:
        learner = config.get_default_learner_class()(config=config, module_spec=config.get_rl_module_spec())
        learner.build()
        return learner

    assert compare(build, Clipped).traced.repeated > UPDATES // 2


@pytest.mark.parametrize(
    ("recipe", "strategy", "online"),
    [
        (ReBRAC, "symmetric", {"online_floor": 0.1}),  # its weights follow the progress online
        (TD3BC, "adaptive", {}),  # the strategy scales a hyperparameter
        (ReBRAC, "adaptive", {"online_floor": 0.1}),  # the product of a scaled weight and the progress
        (TD3BC, "balanced", {"resets": 17}),  # new networks and new optimisers every 17 updates
    ],
)
def test_the_online_phase_is_bit_equal(data_root: Any, recipe: Any, strategy: str, online: dict[str, Any]):
    found = []
    for after in (10_000, 1):
        algo = online_config(recipe, strategy=strategy, steps=80, **online).build_algo()
        with algo:
            ask(algo, set_after, after=after)
            while not algo.finished:
                algo.train()
            found.append((ask(algo), ask(algo, repeated)[0]))
    (expected, none), (traced, some) = found
    assert none == 0
    assert some > 30
    assert same(expected, traced)


def set_after(learner: Any, after: int) -> None:
    learner.traced.after = after


def repeated(learner: Any) -> int:
    return int(learner.traced.repeated)


class ReadsAValue(TD3BC):
    """Reads a value of a tensor in the second of two losses, so that the first is stepped before it fails."""

    @classmethod
    def compute_actor_loss(cls, nets: Any, batch: Any, hp: Any) -> Any:
        loss, metrics = super().compute_actor_loss(nets, batch, hp)
        return (loss * 2 if float(loss.detach()) > 0 else loss), metrics


class ReadsAnotherGenerator(TD3BC):
    """Draws from NumPy's generator, which a trace would repeat as a constant."""

    @classmethod
    def compute_critic_loss(cls, nets: Any, batch: Any, hp: Any) -> Any:
        loss, metrics = super().compute_critic_loss(nets, batch, hp)
        return loss * float(np.random.default_rng(int(1e6 * batch.progress)).random()), metrics


class CountsCalls(TD3BC):
    """Depends on a state outside the networks."""

    calls = 0

    @classmethod
    def compute_critic_loss(cls, nets: Any, batch: Any, hp: Any) -> Any:
        cls.calls += 1
        loss, metrics = super().compute_critic_loss(nets, batch, hp)
        return loss * (1 + cls.calls % 7), metrics


class ChangesLater(TD3BC):
    """Depends on a number outside the networks, which changes long after a trace was checked."""

    factor = 1.0

    @classmethod
    def compute_critic_loss(cls, nets: Any, batch: Any, hp: Any) -> Any:
        loss, metrics = super().compute_critic_loss(nets, batch, hp)
        return loss * cls.factor, metrics


def test_a_trace_is_compared_again(build_learner: Build, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("off2on.rllib.traced.updates.CHECK_EVERY", 20)
    learner = build_learner(ChangesLater)
    learner.traced.after = 1
    learner.advance(30)
    assert learner.traced.reason is None
    monkeypatch.setattr(ChangesLater, "factor", 2.0)
    learner.advance(15)
    assert "differs in" in learner.traced.reason


class FailsAtFirst(TD3BC):
    """Fails in the second of two losses while it is traced for the first time, before any step was made."""

    @classmethod
    def compute_actor_loss(cls, nets: Any, batch: Any, hp: Any) -> Any:
        if not isinstance(batch.progress, float):
            raise RuntimeError("traced")
        return super().compute_actor_loss(nets, batch, hp)


def test_a_first_update_that_cannot_be_traced_is_undone(build_learner: Build):
    expected, learner = build_learner(FailsAtFirst), build_learner(FailsAtFirst)
    own, found = advance(expected, trace_after=UPDATES), advance(learner, trace_after=0)
    assert "traced" in learner.traced.reason
    assert found == own
    assert same(everything(learner), everything(expected))


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (ReadsAValue, "_local_scalar_dense"),
        (ReadsAnotherGenerator, "unsupported operand|WatchedNumber"),
        (CountsCalls, "a repeated update differs in "),
    ],
)
def test_what_cannot_be_traced_runs_as_it_is(
    build_learner: Build, caplog: pytest.LogCaptureFixture, recipe: Any, reason: str
):
    expected = build_learner(recipe)
    learner = build_learner(recipe)
    CountsCalls.calls = 0
    own = advance(expected, trace_after=UPDATES)
    CountsCalls.calls = 0
    with caplog.at_level(logging.WARNING):
        found = advance(learner, trace_after=1)
    assert learner.traced.reason is not None
    assert "are not traced" in caplog.text
    if recipe is not CountsCalls:  # its calls are counted also when the two are compared
        assert found == own
        assert same(everything(learner), everything(expected))
    assert re.search(reason, learner.traced.reason)


def test_a_watched_number_is_compared_and_computed_with():
    conditions: list[Condition] = []
    number = WatchedNumber(
        0.25, torch.tensor(0.25, dtype=torch.float64), lambda given: given["p"], conditions
    )
    assert number < 1
    assert not 2 - number <= 1.5
    assert max(0.5, 2 - number).value == 1.75
    found = 3 * (2 - number) * torch.tensor(2.0)
    assert found.dtype == torch.float32
    assert float(found) == 10.5
    for value, valid in ((0.1, True), (0.4, True), (0.5, False), (1.0, False)):
        assert all(condition.holds({"p": value}) for condition in conditions) is valid
    assert number.fixed() == 0.25
    assert conditions[-1].holds({"p": 0.25})
    assert not conditions[-1].holds({"p": 0.2})
    with pytest.raises(TypeError):
        float(number)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        torch.tensor(1.0).clamp(min=number)  # type: ignore[call-overload]


def watched(name: str, value: float, conditions: list[Condition]) -> WatchedNumber:
    return WatchedNumber(
        value, torch.tensor(value, dtype=torch.float64), lambda given: given[name], conditions
    )


def test_two_watched_numbers_are_computed_with_but_not_compared():
    conditions: list[Condition] = []
    weight, progress = watched("w", 0.5, conditions), watched("p", 1.5, conditions)
    product = weight * (2 - progress)
    assert (product.value, float(product.tensor)) == (0.25, 0.25)
    assert product < 0.3
    assert conditions[-1].holds({"w": 0.1, "p": 1.0})
    assert not conditions[-1].holds({"w": 0.5, "p": 1.0})
    for compare in (operator.lt, operator.eq, operator.ge):
        with pytest.raises(TypeError, match="two watched numbers"):
            compare(weight, progress)


def test_whether_a_watched_number_is_zero_is_a_condition():
    conditions: list[Condition] = []
    assert watched("w", 0.5, conditions)
    assert not conditions[-1].holds({"w": 0.0})
    assert conditions[-1].holds({"w": 0.1})
    assert not watched("w", 0.0, conditions)
