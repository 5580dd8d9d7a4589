"""Check that several seeds as one program learn the same as each alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F  # noqa: N812

from datasets_io import Shards
from off2on.algorithms.cql import CQL
from off2on.algorithms.edac import EDAC
from off2on.algorithms.iql import IQL
from off2on.errors import RecipeError
from off2on.rllib.batched.learners import BatchedLearners
from off2on.rllib.batched.random_draws import PerNetworkRandom
from off2on.rllib.batched.stackable import check_batchable

Build = Callable[..., Any]
SEEDS = (3, 4)
TINY = {"hidden": (16, 16), "vae_hidden": (16, 16), "passes": 5, "dynamics_hidden": (16, 16, 16, 16)}


class SGDs(IQL):
    """IQL with plain gradient steps, whose size a limit of the gradient changes."""

    @classmethod
    def optimizer(cls, objective: str, hp: Any, vector: Tensor) -> torch.optim.Optimizer:
        return torch.optim.SGD([vector], lr=0.1)

    @classmethod
    def lr(cls, objective: str, hp: Any, progress: float) -> float:
        return 0.1


def data(recipe: Any) -> str:
    return "toy-cartpole" if recipe.actions == "discrete" else "wide"


def tiny(recipe: Any) -> dict[str, Any]:
    rules = recipe.Hyperparameters.rules()
    return {name: value for name, value in TINY.items() if name in rules}


def learnt(learner: Any) -> dict[str, Any]:
    """Everything that an update changes."""
    states = {
        objective.name: learner.step.optimizer_state(objective.name)
        for objective in learner.recipe.objectives_in_order()
    }
    return {"updates": learner.updates, "nets": dict(learner.nets.state_dict()), "optimizers": states}


def same(found: list[Any], expected: list[Any]) -> None:
    """Products of stacked matrices are summed in another order: hence no more than close."""
    for mine, its in zip(found, expected, strict=True):
        torch.testing.assert_close(learnt(mine), learnt(its), rtol=1e-3, atol=1e-4)


def pair(build: Build, recipe: Any, **given: Any) -> list[Any]:
    return [build(recipe, data(recipe), seed=seed, **tiny(recipe) | given) for seed in SEEDS]


def test_every_algorithm_learns_together_what_it_learns_alone(build_learner: Build, recipe_slow: Any):
    alone, abreast = pair(build_learner, recipe_slow), pair(build_learner, recipe_slow)
    together = BatchedLearners(abreast)
    for updates in (3, 2):
        expected = [one.advance(updates) for one in alone]
        found = [together.advance(one, updates) for one in abreast]
        for mine, its in zip(found, expected, strict=True):
            assert mine == pytest.approx(its, rel=1e-3, abs=1e-4)
    same(abreast, alone)
    first, second = (learnt(one)["nets"] for one in abreast)
    assert not all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("recipe", "given"),
    [
        (IQL, {"dropout": 0.3}),
        (CQL, {"augment": ("noise:0.1", "bootstrap:0.5"), "threshold": 1.0}),
        (EDAC, {"augment": ("top:0.5",), "layer_norm": True}),
    ],
    ids=["dropout", "expanded batches", "chosen episodes"],
)
def test_what_changes_batches_or_draws_masks_is_each_seeds_own(
    build_learner: Build, recipe: Any, given: dict[str, Any]
):
    alone, abreast = (pair(build_learner, recipe, **given) for _ in range(2))
    together = BatchedLearners(abreast)
    for one in alone:
        one.advance(4)
    for one in abreast:
        together.advance(one, 4)
    same(abreast, alone)


@pytest.mark.parametrize("by", ["value", "norm", "global_norm"])
def test_rllibs_grad_clip_clips_each_seed_by_itself(build_learner: Build, by: str):
    clip = {"grad_clip": 1e-3, "grad_clip_by": by}
    plain = build_learner(SGDs, "wide", seed=SEEDS[0], **tiny(IQL))
    alone, abreast = (pair(build_learner, SGDs, **clip) for _ in range(2))
    together = BatchedLearners(abreast)
    for one in (plain, *alone):
        one.advance(2)
    for one in abreast:
        together.advance(one, 2)
    for mine, its in zip(abreast, alone, strict=True):
        torch.testing.assert_close(learnt(mine)["nets"], learnt(its)["nets"], rtol=1e-4, atol=1e-7)
    assert not torch.allclose(plain.flat["critic"].vector, alone[0].flat["critic"].vector, atol=1e-3)


def test_long_after_they_are_still_close(build_learner: Build):
    alone, abreast = pair(build_learner, IQL), pair(build_learner, IQL)
    together = BatchedLearners(abreast)
    for _ in range(3):
        for one in alone:
            one.advance(60)
        for one in abreast:
            together.advance(one, 60)
    same(abreast, alone)


def test_the_data_are_held_once(build_learner: Build):
    first, second = pair(build_learner, IQL)
    BatchedLearners([first, second])
    assert first.rows.data.data_ptr() == second.rows.data.data_ptr()
    assert second.sampler.strategy.rows is first.rows


def test_who_is_behind_catches_up_alone(build_learner: Build):
    alone, abreast = pair(build_learner, IQL), pair(build_learner, IQL)
    for ahead, _ in (alone, abreast):
        ahead.advance(5)
    together = BatchedLearners(abreast)
    for updates in (2, 3):
        assert together.advance(abreast[1], updates) == alone[1].advance(updates)
    assert together.stack is None
    for mine, its in zip(abreast, alone, strict=True):
        together.advance(mine, 4)
        its.advance(4)
    assert together.updates == 9
    same(abreast, alone)


def test_who_is_left_out_keeps_no_other_from_the_program(build_learner: Build):
    alone, abreast = pair(build_learner, IQL), pair(build_learner, IQL)
    behind = build_learner(IQL, "wide", seed=5, **tiny(IQL))
    together = BatchedLearners([behind, *abreast])
    for one in (*alone, *abreast):
        one.advance(2)
    together.leave_out(behind)
    for mine, its in zip(abreast, alone, strict=True):
        together.advance(mine, 3)
        its.advance(3)
    assert together.updates == 5
    same(abreast, alone)


def test_several_steps_of_one_are_told_to_the_other_step_by_step(build_learner: Build):
    alone, (first, second) = pair(build_learner, IQL), pair(build_learner, IQL)
    together = BatchedLearners([first, second])
    mine = [together.advance(first, 3) for _ in range(2)]
    assert (first.updates, second.updates) == (6, 0)
    assert torch.equal(second.flat["actor"].vector, alone[1].flat["actor"].vector)
    its = [together.advance(second, 3) for _ in range(2)]
    assert its == [pytest.approx(alone[1].advance(3), rel=1e-3, abs=1e-4) for _ in range(2)]
    assert mine != its
    assert together.seconds[first] == together.seconds[second] > 0


# Random numbers.


def masked(x: Tensor) -> Tensor:
    return F.dropout(x, 0.3)


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: torch.randn(3, 4),
        lambda x: torch.rand((5,)),
        lambda x: torch.randn_like(x),
        lambda x: torch.rand_like(x[:, 0]),
        lambda x: torch.randperm(7)[:2],
        lambda x: torch.randint(9, (6,)),
        lambda x: torch.randint(2, 9, (6,)),
        lambda x: torch.multinomial(x.exp(), 1),
        lambda x: torch.bernoulli(x.sigmoid()),
        lambda x: torch.normal(x, 0.1),
        lambda x: x.new_empty(4, 2).uniform_(-1, 1),
        lambda x: torch.empty_like(x).exponential_(),
        lambda x: torch.empty_like(x).normal_(1, 2),
        lambda x: masked(x) + masked(x),
    ],
)
def test_every_seed_gets_the_numbers_that_it_would_draw_alone(draw: Callable[[Tensor], Tensor]):
    x = torch.randn(3, 20, 5)
    expected = []
    for seed, one in enumerate(x):
        torch.manual_seed(seed)
        expected.append(torch.stack((draw(one), draw(one))))
    before = torch.get_rng_state()
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]

    def program(one: Tensor) -> Tensor:
        with PerNetworkRandom(generators):
            return torch.stack((draw(one), draw(one)))

    assert torch.equal(vmap(program)(x), torch.stack(expected))
    assert torch.equal(torch.get_rng_state(), before)


# What cannot be.


class Looks(IQL):
    """Its loss goes by what it finds."""

    @classmethod
    def compute_actor_loss(cls, nets: Any, batch: Any, hp: Any) -> Any:
        loss, metrics = super().compute_actor_loss(nets, batch, hp)
        return (2 * loss if loss > 0 else loss), metrics


class Fills(IQL):
    """Draws numbers into a tensor that is the same for every network."""

    @classmethod
    def compute_value_loss(cls, nets: Any, batch: Any, hp: Any) -> Any:
        loss, metrics = super().compute_value_loss(nets, batch, hp)
        return loss + torch.zeros(4).uniform_().mean(), metrics


class Normed(IQL):
    """Its optimiser goes by all parameters at once."""

    @classmethod
    def optimizer(cls, objective: str, hp: Any, vector: Tensor) -> torch.optim.Optimizer:
        return torch.optim.LBFGS([vector])


@pytest.mark.parametrize(
    ("recipe", "told"), [(Looks, "torch.func.vmap"), (Fills, "torch.func.vmap"), (Normed, "LBFGS")], ids=str
)
def test_what_cannot_be_one_program_is_refused(wide: Shards, recipe: Any, told: str):
    hp = recipe.Hyperparameters.parse(tiny(recipe), "it")
    with pytest.raises(RecipeError) as refused:
        check_batchable(recipe, hp, wide)
    assert recipe.__name__ in str(refused.value)
    assert told in str(refused.value)
    assert "leave out --together" in str(refused.value)


def test_every_algorithm_is_tried_before_it_starts(recipe: Any, wide: Shards, cartpole: Shards, small: Build):
    shards = cartpole if recipe.actions == "discrete" else wide
    hp = recipe.Hyperparameters.parse(small(recipe) | tiny(recipe), recipe.__name__)
    before = torch.get_rng_state()
    check_batchable(recipe, recipe.resolve(hp, shards), shards)
    assert torch.equal(torch.get_rng_state(), before)
