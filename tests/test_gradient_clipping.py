"""Gradients clipped by the recipe, alone and together, and target networks with rates of their own."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from real_learners import everything, same
from torch import Tensor, nn

from off2on.algorithms.iql import IQL
from off2on.algorithms.td3 import TD3
from off2on.recipe.batch import Batch
from off2on.recipe.networks import Nets
from off2on.rllib.batched.learners import BatchedLearners
from off2on.rllib.flat_parameters import FlatParameters
from off2on.rllib.gradient_steps import clip_norm
from off2on.rllib.update_step import UpdateStep

Build = Callable[..., Any]
SMALL = {"hidden": (16, 16), "batch_size": 16}


class Apart(IQL):
    """Each objective has a limit of its own, all but the value's, which has none."""

    @classmethod
    def max_gradient_norm(cls, objective: str, hp: Any) -> float | None:
        """Return limits that are reached."""
        return {"actor": 0.02, "critic": 0.1}.get(objective)


class Together(IQL):
    """All gradients have one limit."""

    @classmethod
    def max_joint_gradient_norm(cls, hp: Any) -> float | None:
        """Return a limit that is reached."""
        return 0.1


class Unreached(IQL):
    """Both kinds of limit, far away."""

    @classmethod
    def max_gradient_norm(cls, objective: str, hp: Any) -> float | None:
        """Return a limit that is never reached."""
        return 1e9


def flattened(sizes: list[tuple[int, int]]) -> tuple[list[nn.Module], list[FlatParameters]]:
    networks = [nn.Linear(*size) for size in sizes]
    flat = [FlatParameters(network) for network in networks]
    for one in flat:
        one.set_gradient([10 * torch.randn_like(parameter) for parameter in one.parameters])
    return networks, flat


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_gradients_are_clipped_together_as_torch_does(limit: float):
    networks, flat = flattened([(3, 2), (4, 1), (1, 5)])
    parameters = [parameter for network in networks for parameter in network.parameters()]
    before = torch.cat([one.vector.grad for one in flat])
    parts = before.split([parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter).clone()
    torch.nn.utils.clip_grad_norm_(parameters, limit)
    clip_norm(flat, limit)
    found = torch.cat([one.vector.grad for one in flat])
    torch.testing.assert_close(found, torch.cat([parameter.grad.flatten() for parameter in parameters]))
    assert torch.equal(found, before) is (limit == 1e6)


def test_stacked_learners_are_clipped_by_themselves():
    alone = [flattened([(3, 2), (4, 1)])[1] for _ in range(3)]
    for scale, learner in zip((0.01, 1.0, 100.0), alone, strict=True):
        for one in learner:
            one.vector.grad.mul_(scale)
    stacked = []
    for number in range(2):
        network = nn.Module()
        for place in range(2):
            parts = [learner[number].parameters[place] for learner in alone]
            network.register_parameter(f"p{place}", nn.Parameter(torch.stack([p.detach() for p in parts])))
        stacked.append(FlatParameters(network))
        sizes = [parameter.numel() for parameter in alone[0][number].parameters]
        gradients = [learner[number].vector.grad.split(sizes) for learner in alone]
        stacked[-1].set_gradient([torch.stack(blocks) for blocks in zip(*gradients, strict=True)])
    for learner in alone:
        clip_norm(learner, 5.0)
    clip_norm(stacked, 5.0, learners=3)
    for number, flat in enumerate(stacked):
        sizes = [parameter.numel() for parameter in flat.parameters]
        blocks = [block.view(3, -1) for block in flat.vector.grad.split(sizes)]
        for place, learner in enumerate(alone):
            expected = learner[number].vector.grad
            torch.testing.assert_close(torch.cat([block[place] for block in blocks]), expected)


def test_without_a_limit_nothing_changes():
    _, flat = flattened([(3, 2)])
    before = flat[0].vector.grad.clone()
    clip_norm(flat, None)
    assert torch.equal(flat[0].vector.grad, before)


def one_update(recipe: Any, case: Any, **given: Any) -> tuple[Nets, dict[str, Tensor]]:
    """Networks after one update of the machine with plain gradient steps, and the gradients it used."""
    nets = copy.deepcopy(case.nets)
    flat = {name: FlatParameters(getattr(nets, name)) for name in nets.names()}
    pairs = [(FlatParameters(getattr(nets.target, name)), flat[name]) for name in nets.targets]
    names = [objective.name for objective in recipe.objectives_in_order()]
    optimizers = {name: torch.optim.SGD([flat[name].vector], lr=1.0) for name in names}
    step = UpdateStep(recipe, nets, flat, pairs, optimizers, **given)
    torch.manual_seed(5)
    step.run(Batch(**vars(case.batch)), case.hp, 1, lambda name: 1.0)
    before = {name: torch.cat([p.flatten() for p in getattr(case.nets, name).parameters()]) for name in names}
    return nets, {name: (before[name] - flat[name].vector).detach() for name in names}


def test_each_objective_is_scaled_to_its_own_limit(problem: Build):
    case = problem(IQL)
    _, plain = one_update(IQL, case)
    _, found = one_update(Apart, case)
    assert torch.equal(found["value"], plain["value"])
    assert plain["critic"].norm() > 0.2
    assert float(found["critic"].norm()) == pytest.approx(0.1, rel=1e-3)
    assert float(found["actor"].norm()) == pytest.approx(0.02, rel=1e-3)


def test_a_joint_limit_scales_the_gradients_at_the_old_networks(problem: Build):
    case = problem(IQL)
    torch.manual_seed(5)
    batch = IQL.prepare(case.nets, Batch(**vars(case.batch)), case.hp)
    old = {}
    for objective in IQL.objectives_in_order():
        loss, _ = IQL.loss(objective.name, case.nets, batch, case.hp)
        own = list(getattr(case.nets, objective.name).parameters())
        gradients = torch.autograd.grad(loss, own, retain_graph=True)
        old[objective.name] = torch.cat([g.flatten() for g in gradients])
    norm = torch.cat([*old.values()]).norm()
    assert norm > 0.2
    _, found = one_update(Together, case)
    for name, gradient in old.items():
        torch.testing.assert_close(found[name], gradient * 0.1 / norm, rtol=1e-3, atol=2e-6)
    _, plain = one_update(IQL, case)  # whose second loss is computed with the first network's step
    assert not torch.allclose(plain["critic"], old["critic"], rtol=1e-3, atol=2e-6)


def test_the_limit_of_the_user_comes_after_that_of_the_recipe(problem: Build):
    case = problem(IQL)
    _, found = one_update(Apart, case, clip=(0.01, "global_norm"))
    assert float(found["actor"].norm()) == pytest.approx(0.01, rel=1e-3)
    assert float(found["value"].norm()) == pytest.approx(0.01, rel=1e-3)


def advance(learner: Any, trace_after: int) -> str:
    learner.traced.after = trace_after
    return repr([learner.advance(updates) for updates in (7, 33)])


@pytest.mark.parametrize("recipe", [Apart, Together])
def test_clipping_is_traced(build_learner: Build, recipe: Any):
    own, traced = (build_learner(recipe, **SMALL) for _ in range(2))
    assert advance(own, 40) == advance(traced, 1)
    assert same(everything(traced), everything(own))
    assert traced.traced.reason is None
    assert traced.traced.repeated > 20
    assert advance(build_learner(IQL, **SMALL), 40) != advance(build_learner(recipe, **SMALL), 40)


def test_a_limit_that_is_not_reached_changes_nothing(build_learner: Build):
    one, other = build_learner(IQL, **SMALL), build_learner(Unreached, **SMALL)
    assert advance(one, 40) == advance(other, 40)
    assert same(everything(one), everything(other))


@pytest.mark.parametrize("recipe", [Apart, Together])
def test_several_seeds_are_clipped_as_each_alone(build_learner: Build, recipe: Any):
    alone, abreast = ([build_learner(recipe, seed=seed, **SMALL) for seed in (3, 4)] for _ in range(2))
    together = BatchedLearners(abreast)
    for mine, its in zip(abreast, alone, strict=True):
        its.advance(5)
        together.advance(mine, 5)
        for name, flat in its.flat.items():
            torch.testing.assert_close(mine.flat[name].vector, flat.vector, rtol=1e-3, atol=1e-4)


class Slow(TD3):
    """Its actor's target waits, and then moves by another rate than the critics' one."""

    @classmethod
    def target_rate(cls, name: str, hp: Any, update: int, progress: float) -> float:
        """Return 0.2 in every third update from the sixth on, or the usual rate."""
        if name == "actor":
            return 0.2 if update >= 6 and update % 3 == 0 else 0.0
        return super().target_rate(name, hp, update, progress)


@pytest.mark.parametrize("trace_after", [100, 1])
def test_a_target_has_a_rate_of_its_own(build_learner: Build, trace_after: int):
    learner = build_learner(Slow, polyak=0.1, **SMALL)
    learner.traced.after = trace_after
    targets = dict(zip(learner.nets.targets, learner.target_pairs, strict=True))
    assert targets.keys() == {"actor", "critic"}
    for update in range(1, 31):
        before = {name: target.vector.clone() for name, (target, _) in targets.items()}
        learner.advance(1)
        for name, (target, network) in targets.items():
            rate = Slow.target_rate(name, learner.hp, update, 0.0)
            expected = torch.lerp(before[name], network.vector, rate) if rate else before[name]
            assert torch.equal(target.vector, expected), (name, update)
    assert learner.traced.reason is None
    assert (learner.traced.repeated > 10) is (trace_after == 1)
