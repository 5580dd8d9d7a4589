"""One contract that every algorithm of the catalogue keeps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets_io import Shards
from off2on.batches import ONLINE, Batch
from off2on.errors import RecipeError
from off2on.policy import Policy
from off2on.recipe import Recipe
from off2on.transforms import Transforms

Build = Callable[..., Any]


def names(recipe: Any) -> list[str]:
    return [objective.name for objective in recipe.plan()]


def parameters(nets: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in nets.state_dict().items()}


def test_its_losses_and_metrics_are_finite_scalars(problem: Build, recipe: Any):
    case = problem(recipe)
    batch = case.prepared()
    for name in names(recipe):
        loss, metrics = getattr(recipe, f"compute_{name}_loss")(case.nets, batch, case.hp)
        assert loss.shape == ()
        assert loss.isfinite()
        for key, value in metrics.items():
            assert value.shape == (), key
            assert value.isfinite(), key
            assert not value.requires_grad, key


def test_its_losses_do_not_change_the_data_or_the_networks(problem: Build, recipe: Any):
    case = problem(recipe)
    columns = {name: value.clone() for name, value in vars(case.batch).items()}
    before = parameters(case.nets)
    batch = case.prepared()
    for name in names(recipe):
        case.loss(name, batch)
    assert all(torch.equal(getattr(batch, name), value) for name, value in columns.items())
    assert all(torch.equal(value, before[name]) for name, value in parameters(case.nets).items())


def test_it_learns_on_its_declared_columns_alone(problem: Build, recipe: Any):
    case = problem(recipe)
    assert set(recipe.columns) <= set(ONLINE)
    case.batch = Batch(**{name: getattr(case.batch, name) for name in recipe.columns})
    for name in names(recipe):
        assert case.loss(name).isfinite()


def test_its_losses_reach_their_own_network(problem: Build, recipe: Any):
    case = problem(recipe)
    for name in names(recipe):
        own = list(getattr(case.nets, name).parameters())
        gradients = torch.autograd.grad(case.loss(name), own)
        assert any(gradient.abs().max() > 0 for gradient in gradients), name


def test_each_objective_changes_its_own_network_and_nothing_else(build_learner: Build, recipe: Any):
    """The real machine, with a recipe whose other objectives are taken away."""
    for objective in recipe.plan():
        alone = type("Alone", (recipe,), {"objectives": (objective.name,), "targets_every": 1_000_000})
        learner = build_learner(alone, "wide")
        before = parameters(learner.nets)
        learner.advance(3)
        after = parameters(learner.nets)
        changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
        assert changed == {objective.name}


def vector(network: Any) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_targets_move_by_polyak_exactly_at_every_update_that_is_due(build_learner: Build, recipe: Any):
    learner = build_learner(recipe, "wide", polyak=0.1)
    nets = learner.nets
    for update in range(1, 7):
        before = {name: vector(getattr(nets.target, name)) for name in nets.targets}
        learner.advance(1)
        for name in nets.targets:
            now, network = vector(getattr(nets.target, name)), vector(getattr(nets, name))
            due = update % recipe.targets_every == 0
            assert torch.equal(now, torch.lerp(before[name], network, 0.1) if due else before[name])
    assert all(
        not torch.equal(vector(getattr(nets.target, name)), vector(getattr(nets, name)))
        for name in nets.targets
    )


def test_delayed_objectives_wait_for_their_turn(build_learner: Build, recipe: Any):
    learner = build_learner(recipe, "wide")
    for update in range(1, 5):
        before = {name: learner.flat[name].vector.clone() for name in names(recipe)}
        logged = learner.advance(1)
        for objective in recipe.plan():
            due = update % objective.every == 0
            assert torch.equal(before[objective.name], learner.flat[objective.name].vector) is not due
            assert (f"{objective.name}/loss" in logged) is due


def test_the_same_seed_gives_the_same_numbers_and_another_seed_does_not(build_learner: Build, recipe: Any):
    one, two, other = (build_learner(recipe, "wide", seed=seed) for seed in (3, 3, 4))
    torch.manual_seed(99)  # whatever else draws random numbers in this process
    assert one.advance(8) == two.advance(8)
    other.advance(8)
    first = parameters(one.nets)
    assert all(torch.equal(value, first[name]) for name, value in parameters(two.nets).items())
    assert not torch.equal(one.flat["actor"].vector, other.flat["actor"].vector)


def test_the_future_after_the_end_does_not_count(problem: Build, recipe: Any):
    if "critic" not in names(recipe):
        assert "next_obs" not in recipe.columns
        return
    losses = {}
    for mask in (0.0, 1.0):
        for shift in (0.0, 5.0):
            case = problem(recipe)
            case.batch.mask = torch.full_like(case.batch.mask, mask)
            case.batch.next_obs = case.batch.next_obs + shift
            batch = case.prepared()
            if hasattr(batch, "proposals"):  # CQL proposes actions at s', whose values are not bootstrapped
                batch.proposals = problem(recipe).prepared().proposals
            losses[mask, shift] = case.loss("critic", batch)
    assert torch.equal(losses[0.0, 0.0], losses[0.0, 5.0])
    assert not torch.isclose(losses[1.0, 0.0], losses[1.0, 5.0])


def test_a_larger_discount_weighs_the_future_more(problem: Build, recipe: Any):
    if "critic" in names(recipe):
        none, some = (problem(recipe, discount=discount).loss("critic") for discount in (0.0, 0.9))
        assert not torch.isclose(none, some)
        case = problem(recipe, discount=0.0)
        case.batch.mask = torch.zeros_like(case.batch.mask)
        assert torch.equal(none, case.loss("critic", None))


@pytest.mark.parametrize("explore", [False, True])
def test_its_actions_fit_the_box(problem: Build, recipe: Any, wide: Shards, explore: bool):
    case = problem(recipe, normalise_obs=True)
    for parameter in case.nets.actor.parameters():
        parameter.data *= 3
    policy = Policy(recipe, case.nets, case.hp, Transforms.of(wide, case.hp))
    obs = torch.from_numpy(wide.read_all(["obs"])["obs"])
    with torch.no_grad():
        within = recipe.act(case.nets, obs, case.hp, False)
        action = policy(obs, explore=explore).numpy()
    assert within.shape == (len(obs), 3)
    assert within.abs().max() <= 1
    box = wide.action_space
    assert action.dtype == np.float32
    assert (action >= box.low).all()
    assert (action <= box.high).all()
    assert np.ptp(action, 0).max() > 0.5  # it does not say the same everywhere


def test_without_exploring_it_says_the_same_again(problem: Build, recipe: Any):
    case = problem(recipe)
    one, two = (recipe.act(case.nets, case.batch.obs, case.hp, False) for _ in range(2))
    assert torch.equal(one, two)


def test_acting_needs_only_what_it_declares(problem: Build, recipe: Any):
    case = problem(recipe)
    whole = recipe.act(case.nets, case.batch.obs, case.hp, False)
    case.nets.keep(recipe.acting)
    assert torch.equal(recipe.act(case.nets, case.batch.obs, case.hp, False), whole)


def test_a_user_changes_one_loss_by_overriding_it(build_learner: Build, recipe: Any):
    class Hesitant(recipe):
        """The user's own: the policy is drawn towards doing nothing."""

        @classmethod
        def compute_actor_loss(cls, nets: Any, batch: Any, hp: Any) -> Any:
            loss, metrics = super().compute_actor_loss(nets, batch, hp)
            size = cls.act(nets, batch.obs, hp, False).square().mean()
            return loss + 10 * size, metrics | {"actor/size": size.detach()}

    plain, own = (build_learner(kind, "wide", actor_lr=3e-3) for kind in (recipe, Hesitant))
    obs = plain.rows.data[: plain.rows.offline, :5]
    assert "actor/size" not in plain.advance(40)
    assert "actor/size" in own.advance(40)
    with torch.no_grad():
        sizes = [it.recipe.act(it.nets, obs, it.hp, False).square().mean() for it in (plain, own)]
    assert sizes[1] < sizes[0]


def test_its_losses_fall_when_it_learns_one_batch(problem: Build, recipe: Any):
    """Gradient steps go down, not up: the sign of every loss, by its own gradient."""
    case = problem(recipe)
    for name in names(recipe):
        network = getattr(case.nets, name)
        first = case.loss(name)
        for parameter, gradient in zip(
            network.parameters(), torch.autograd.grad(first, list(network.parameters())), strict=True
        ):
            parameter.data -= 1e-4 * gradient
        assert case.loss(name) < first


def test_the_rewards_transform_reaches_the_rows_and_nothing_else(build_learner: Build, recipe: Any):
    if "reward" not in recipe.columns:
        return
    raw, shifted = (build_learner(recipe, "wide", reward=kind) for kind in ("raw", "minus_one"))
    one, other = (it.rows.layout.split(it.rows.data) for it in (raw, shifted))
    for name in recipe.columns:
        difference = getattr(one, name) - getattr(other, name)
        assert torch.allclose(difference, torch.full_like(difference, float(name == "reward")), atol=1e-5), (
            name
        )


def test_an_objective_without_a_loss_is_refused_with_the_nearest():
    with pytest.raises(RecipeError) as refusal:
        type(
            "Wrong",
            (Recipe,),
            {"objectives": ("critics",), "compute_critic_loss": classmethod(lambda cls: None)},
        )
    assert "'critics'" in refusal.value.what
    assert "compute_critics_loss" in refusal.value.what
    assert "critic" in refusal.value.expected


def test_an_algorithm_with_a_misspelt_objective_is_refused_when_it_is_written(recipe: Any):
    with pytest.raises(RecipeError, match="compute_acter_loss"):
        type("Wrong", (recipe,), {"objectives": (*recipe.objectives, "acter")})
