"""Captured updates, with a capture that repeats the work on the CPU: fixed memory gives the same numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from real_learners import ask, configured, everything, same
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

from off2on.algorithms import find_algorithm
from off2on.algorithms.td3 import TD3
from off2on.algorithms.td3_bc import TD3BC
from off2on.recipe.hooks import Objective
from off2on.rllib.traced.captured import SLOTS, CapturedUpdates
from off2on.rllib.traced.draws import DIRECT, FILL, LIKE, lift_draws, make_draws

Build = Callable[..., Any]
aten = torch.ops.aten


class Recorder:
    """Repeats the work instead of what it did on a GPU; like a capture, does nothing at first."""

    def __init__(self) -> None:
        self.replays = 0

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        def replay() -> None:
            self.replays += 1
            work()

        return replay


def capture(learner: Any) -> CapturedUpdates:
    """Let a learner trace its second update of a kind, and capture traces."""
    learner.traced.after = 1
    learner.traced.captured = CapturedUpdates(Recorder())
    return learner.traced.captured


def plain(learner: Any) -> None:
    """Let a learner make all updates by the recipe's own code."""
    learner.traced.after = 10_000


def counts(learner: Any) -> tuple[int, int, int]:
    """Numbers of repeated updates, of captures and of replays."""
    captured = learner.traced.captured
    return learner.traced.repeated, captured.captures, captured.record.replays


def compare(build_learner: Build, recipe: Any, updates: tuple[int, ...], **given: Any) -> Any:
    """Make updates with and without captures, compare everything, and return the learner with captures."""
    data = "toy-cartpole" if recipe.actions == "discrete" else "wide"
    own, other = (build_learner(recipe, data, **given) for _ in range(2))
    plain(own)
    capture(other)
    for count in updates:
        assert repr(own.advance(count)) == repr(other.advance(count))
        assert same(everything(other), everything(own))
    assert other.traced.reason is None
    return other


@pytest.mark.parametrize(
    "name", ["td3_bc", "td3", "iql", "cql", "edac", "redq", "fql", "dt", "discrete_cql", "discrete_sac"]
)
def test_captured_updates_are_bit_equal(build_learner: Build, name: str):
    found = compare(build_learner, find_algorithm(name), (30, 17, 33))
    repeated, captures, replays = counts(found)
    assert repeated > 70
    assert replays < repeated / 2
    assert captures <= 6


def test_one_kind_of_update_is_captured_twice(build_learner: Build):
    found = compare(build_learner, find_algorithm("iql"), (3 + 2 * SLOTS + 4, 5 * SLOTS, 1))
    assert counts(found) == (7 * SLOTS + 5, 2, 7 + 5)  # alone, and ten at once


def test_sequences_of_two_kinds_are_captured(build_learner: Build):
    assert SLOTS % 2 == 0
    found = compare(
        build_learner, find_algorithm("td3"), (2 * SLOTS, 2 * SLOTS, 2 * SLOTS, SLOTS + 1, SLOTS + 1)
    )
    kinds = [kind.traces for kind in found.traced._kinds.values()]
    assert [len(traces) for traces in kinds] == [1, 1]
    sequences = found.traced.captured._captured
    (critic,), (both,) = kinds
    assert set(sequences) == {
        (critic,),
        (both,),
        (critic, both) * (SLOTS // 2),
        (both, critic) * (SLOTS // 2),
    }
    assert found.traced.captured.captures == 4


class SlowActor(TD3):
    """Trains its actor and moves its target networks in every fifth update."""

    objectives = ("critic", Objective("actor", every=5))
    target_update_interval = 5


def test_other_updates_are_made_after_those_that_wait(build_learner: Build, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("off2on.rllib.traced.updates.CHECK_EVERY", 17)
    found = compare(build_learner, SlowActor, (12, 25, 20))  # the actor is traced in update 10
    kinds = [kind.traces for kind in found.traced._kinds.values()]
    assert [len(traces) for traces in kinds] == [1, 1]


def test_rare_sequences_are_not_captured(build_learner: Build, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("off2on.rllib.traced.captured.MOST_SEQUENCES", 1)
    found = compare(build_learner, find_algorithm("iql"), (5, 20, 10))
    repeated, captures, replays = counts(found)
    assert (captures, replays) == (1, repeated)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("mopo", {"rollout_every": 13, "rollout_starts": 8, "horizon": 2}),  # networks draw rows of batches
        ("awr", {"value_updates": 7, "actor_updates": 16}),  # networks compute columns of the batches
    ],
)
def test_networks_are_read_between_updates(build_learner: Build, name: str, given: dict[str, Any]):
    found = compare(build_learner, find_algorithm(name), (40, 40), **given)
    repeated, _, replays = counts(found)
    assert repeated > 50
    assert replays < repeated


class ChangesItsDraws(TD3BC):
    """Changes random draws and a column in place."""

    @classmethod
    def compute_critic_loss(cls, nets: Any, batch: Any, hp: Any) -> Any:
        loss, metrics = super().compute_critic_loss(nets, batch, hp)
        noise = torch.randn_like(loss).add_(1).mul_(2) + torch.empty(3, 2).uniform_().exp_().sum()
        return loss * noise + batch.reward.clone().mul_(noise.detach()).mean(), metrics


def test_draws_may_be_changed_in_place(build_learner: Build):
    compare(build_learner, ChangesItsDraws, (25, 12))


class DrawsPartOfATensor(TD3BC):
    """Draws into a part of a tensor, so that the draw is not all that is read."""

    @classmethod
    def compute_critic_loss(cls, nets: Any, batch: Any, hp: Any) -> Any:
        loss, metrics = super().compute_critic_loss(nets, batch, hp)
        noise = torch.zeros(2, 3)
        noise[0].uniform_()
        return loss * noise.sum(), metrics


def test_a_draw_that_cannot_be_separated_is_noticed(build_learner: Build):
    own, other = (build_learner(DrawsPartOfATensor) for _ in range(2))
    plain(own)
    capture(other)
    assert repr(own.advance(30)) == repr(other.advance(30))
    assert "differs in" in other.traced.reason
    assert same(everything(other), everything(own))


def test_replaced_tensors_are_captured_again(build_learner: Build):
    own, other = (build_learner(find_algorithm("iql")) for _ in range(2))
    plain(own)
    capture(other)
    for learner in (own, other):
        learner.advance(3 + SLOTS + 1)
    assert counts(other)[1] == 2
    for learner in (own, other):
        (optimizer,) = (learner.step.optimizers["value"],)
        optimizer.load_state_dict(optimizer.state_dict())  # copies the state
        state = optimizer.state[learner.flat["value"].vector]
        state["exp_avg"] = state["exp_avg"].clone()
        learner.advance(SLOTS + 1)
    assert counts(other)[1] == 4
    assert same(everything(other), everything(own))


@pytest.mark.parametrize(
    ("recipe", "strategy", "given", "least_captures"),
    [
        ("td3", "balanced", {"rollout": 20, "resets": 27}, 6),  # the strategy learns after every update
        ("td3_bc", "adaptive", {"rollout": 20}, 3),  # the strategy scales a hyperparameter
        ("iql", "symmetric", {"rollout": 13}, 2),  # some updates of each call are made alone
    ],
)
def test_a_handover_is_bit_equal(
    data_root: Path, recipe: str, strategy: str, given: dict[str, Any], least_captures: int
):
    found = []
    for prepare in (plain, capture):
        config = configured(find_algorithm(recipe), offline=35, updates_per_call=35)
        with config.online(80, strategy=strategy, **given).build_algo() as algo:
            ask(algo, prepare)
            logged = []
            while not algo.finished:
                algo.train()
                logged.append(repr(algo.latest_metrics))
            found.append((logged, ask(algo)))
            if prepare is capture:
                ((repeated, captures, replays),) = ask(algo, counts)
    assert same(*found)
    assert captures >= least_captures
    assert replays < repeated / 2


def advance(learner: Any, updates: int, prepare: Callable[[Any], Any]) -> dict[str, Any]:
    if learner.traced.captured is None:
        prepare(learner)
    learner.advance(updates)
    return everything(learner)


def test_a_resumed_run_is_bit_equal(data_root: Path, tmp_path: Path):
    config = configured(find_algorithm("td3"), offline=70, updates_per_call=35)
    found = []
    for prepare in (plain, capture):
        with config.build_algo() as whole:
            ask(whole, advance, updates=35, prepare=prepare)
            whole.updates = 35
            whole.save_to_path(str(tmp_path / prepare.__name__))
            ask(whole, advance, updates=35, prepare=prepare)
            found += ask(whole)
            with config.build_algo() as resumed:
                resumed.restore_from_path(str(tmp_path / prepare.__name__))
                ask(resumed, advance, updates=35, prepare=prepare)
                found += ask(resumed)
            if prepare is capture:  # a checkpoint is loaded into a learner that has captured its updates
                (before,) = ask(whole, counts)
                whole.restore_from_path(str(tmp_path / prepare.__name__))
                ask(whole, advance, updates=35, prepare=prepare)
                found += ask(whole)
                assert ask(whole, counts)[0][1] > before[1]
    assert all(same(found[0], other) for other in found[1:])


@pytest.mark.parametrize(
    ("target", "draw"),
    [
        (aten.randn.default, lambda x: torch.randn(5, 7)),
        (aten.rand.default, lambda x: torch.rand(33)),
        (aten.randint.default, lambda x: torch.randint(9, (40,))),
        (aten.randint.low, lambda x: torch.randint(-3, 9, (40,), dtype=torch.float32)),
        (aten.randperm.default, lambda x: torch.randperm(19)),
        (aten.randn_like.default, lambda x: torch.randn_like(x.t())),
        (aten.rand_like.default, torch.rand_like),
        (aten.normal_.default, lambda x: torch.empty(6, 4).normal_(mean=1, std=3)),
        (aten.uniform_.default, lambda x: torch.empty(40).uniform_(-2, 5)),
        (aten.exponential_.default, lambda x: torch.empty(40).exponential_(0.5)),
        (aten.bernoulli_.float, lambda x: torch.empty(40).bernoulli_(0.3)),
    ],
)
def test_a_separated_draw_is_the_same(target: Any, draw: Callable[[torch.Tensor], torch.Tensor]):
    given = torch.ones(5, 8)
    traced = make_fx(lambda x: (draw(x), torch.rand(2)))(given)
    lifted = lift_draws(traced.graph)
    assert target in DIRECT | LIKE | FILL
    assert target in [node.target for node in traced.graph.nodes]
    assert lifted is not None
    graph, draws = lifted
    separated = fx.GraphModule(traced, graph)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected, after = draw(given), torch.rand(2)
        torch.manual_seed(0)
        found, later = separated(given, *make_draws(draws))
    assert torch.equal(later, after)
    assert found.stride() == expected.stride()
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


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
    assert other.traced.captured.captures > 1
    assert same(everything(other), everything(own))
