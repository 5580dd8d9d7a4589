"""The contract of all algorithms: losses, actions, order of objectives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from histories import random_histories
from torch import Tensor

from datasets_io import Shards
from datasets_io.column_names import SHARD_COLUMNS
from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.errors import RecipeError
from off2on.policy import Policy
from off2on.recipe.batch import Batch
from off2on.recipe.chunks import chunk_of
from off2on.recipe.hooks import Recipe
from off2on.replay.transforms import Transforms

Build = Callable[..., Any]


SAME_PATHS = {"qam", "qam_e", "qam_f"}
"""Algorithms whose objective ``fast`` learns on paths that `prepare` draws along the same network."""
ORDER = {
    "bc filtered_bc dt discrete_bc": "actor",
    "td3_bc rebrac td3": "critic actor/2",
    "ispi_s": "critic reference/2 actor/2",
    "ispi_c": "critic actor rival_critic rival_actor",
    "ddpg": "critic actor",
    "bcq plas": "vae critic actor",
    "spot": "vae critic actor/2",
    "bear": "vae critic actor multiplier",
    "uwac": "vae actor critic multiplier",
    "awr": "value actor",
    "iql xql": "value actor critic",
    "pex": "value actor critic expansion",
    "crr": "actor critic",
    "awac": "critic actor",
    "fql qc_fql": "actor flow critic",
    "ifql": "critic value flow",
    "bfn qc": "flow critic",
    "diffusion_ql": "critic actor",
    "idql": "actor value critic",
    "fan": "actor flow upper critic",
    "dsrl": "actor temperature flow noise_critic critic",
    "expo": "actor temperature flow critic",
    "qam": "flow fast critic",
    "qam_e": "actor temperature flow fast critic",
    "qam_f": "actor flow fast critic",
    "sac sac_n edac mopo mobile": "temperature actor critic",
    "redq rlpd": "critic temperature actor",
    "cql combo e2o cal_ql": "temperature actor multiplier critic",
    "bred": "temperature merged_temperature actor multiplier critic",
    "dqn double_dqn nfq discrete_bcq discrete_cql": "critic",
    "discrete_sac": "critic actor temperature",
}
"""The order of each algorithm's updates, as in its paper or its authors' code; /2: on every second update.
A loss sees the networks that were updated before it."""


@pytest.mark.parametrize("name", CATALOGUE)
def test_objectives_are_in_the_order_of_the_paper(name: str):
    (expected,) = (order for algorithms, order in ORDER.items() if name in algorithms.split())
    found = find_algorithm(name).objectives_in_order()
    assert [f"{it.name}/{it.every}" if it.every > 1 else it.name for it in found] == expected.split()


def names(recipe: Any) -> list[str]:
    return [objective.name for objective in recipe.objectives_in_order()]


def data(recipe: Any) -> str:
    """Recorded actions that the recipe can learn from."""
    return "toy-cartpole" if recipe.actions == "discrete" else "wide"


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
    columns = {name: value.clone() for name, value in vars(case.batch).items() if isinstance(value, Tensor)}
    before = parameters(case.nets)
    batch = case.prepared()
    for name in names(recipe):
        case.loss(name, batch)
    assert all(torch.equal(getattr(batch, name), value) for name, value in columns.items())
    assert all(torch.equal(value, before[name]) for name, value in parameters(case.nets).items())


def test_it_learns_on_its_declared_columns_alone(problem: Build, recipe: Any):
    case = problem(recipe)
    assert set(recipe.columns) <= {*SHARD_COLUMNS, "ret"}
    known = (*recipe.columns, *recipe.relabelled_columns, "progress", "real")
    known += ("inside",) if chunk_of(case.hp) > 1 else ()
    case.batch = Batch(**{name: getattr(case.batch, name) for name in known})
    for name in names(recipe):
        assert case.loss(name).isfinite()


def test_its_losses_depend_on_the_random_seed_alone(problem: Build, recipe: Any):
    one, two = problem(recipe), problem(recipe)
    for name in names(recipe):
        first = one.loss(name)
        torch.rand(7)  # drawn by something else in this process
        np.random.rand(7)  # noqa: NPY002
        assert torch.equal(two.loss(name), first), name


def test_its_losses_reach_their_own_network(problem: Build, recipe: Any):
    case = problem(recipe)
    for name in names(recipe):
        own = list(getattr(case.nets, name).parameters())
        gradients = torch.autograd.grad(case.loss(name), own)
        assert any(gradient.abs().max() > 0 for gradient in gradients), name


NO_CRITIC = ("bc", "filtered_bc", "dt", "awr", "discrete_bc")
WITH_CRITIC = [name for name in CATALOGUE if name not in NO_CRITIC]


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_algorithm_has_a_critic_of_next_states_or_is_listed(name: str):
    recipe = find_algorithm(name)
    assert ("critic" in names(recipe) and "next_obs" in recipe.columns) is (name in WITH_CRITIC)


@pytest.mark.parametrize("name", WITH_CRITIC)
def test_the_future_counts_by_the_discount_and_not_after_the_end(problem: Build, name: str):
    recipe = find_algorithm(name)
    losses = {}
    for mask in (0.0, 1.0):
        for discount in (0.0, 0.9):
            case = problem(recipe, discount=discount)
            case.batch.mask = torch.full_like(case.batch.mask, mask)
            losses[mask, discount] = case.loss("critic")
    assert torch.equal(losses[0.0, 0.0], losses[0.0, 0.9])
    assert torch.equal(losses[0.0, 0.0], losses[1.0, 0.0])
    assert not torch.isclose(losses[1.0, 0.0], losses[1.0, 0.9])


@pytest.mark.parametrize("name", WITH_CRITIC)
def test_temporal_differences_count_by_their_weight(problem: Build, name: str):
    case = problem(find_algorithm(name))
    plain = case.loss("critic")
    case.batch.weight = torch.ones(64)
    torch.testing.assert_close(case.loss("critic"), plain)
    case.batch.weight = torch.zeros(64)
    none = case.loss("critic")
    assert not torch.isclose(none, plain)
    case.batch.reward = case.batch.reward + 1
    assert torch.equal(case.loss("critic"), none)


@pytest.mark.parametrize("explore", [False, True])
def test_its_actions_fit_the_space(data_root: Path, small: Build, recipe: Any, explore: bool):
    shards = Shards(data_root / data(recipe))
    hp = recipe.Hyperparameters.parse(small(recipe) | {"normalise_obs": True}, recipe.__name__)
    hp = recipe.resolve(hp, shards)
    space = shards.action_space
    nets = recipe.build_nets(shards.observation_space, space, hp)
    for name in recipe.acting_networks:
        for parameter in getattr(nets, name).parameters():
            parameter.data *= 3
    policy = Policy(recipe, nets, hp, Transforms.of(shards, hp))
    obs = torch.from_numpy(shards.read_all(["obs"])["obs"])
    obs = torch.cat((obs, 10 * torch.randn_like(obs)))  # and such as were never seen
    if policy.history is not None:
        obs = 10 * random_histories(200, policy.history[0], obs.shape[1], space.shape[0])
    with torch.no_grad():
        within = recipe.act(nets, obs, hp, False)
        action = policy(obs.view(len(obs), *(policy.history or (-1,))), explore=explore).numpy()
    if recipe.actions == "discrete":
        assert (action.dtype, within.dtype) == (np.int64, torch.int64)
        assert within.shape == (len(obs),)
        assert set(within.tolist()) <= set(range(int(space.n)))
        assert all(space.contains(value) for value in action)
    else:
        assert action.dtype == np.float32
        assert within.shape == (len(obs), chunk_of(hp) * space.shape[0])
        assert action.shape == (len(obs), *((chunk_of(hp),) if chunk_of(hp) > 1 else ()), *space.shape)
        assert within.abs().max() <= 1
        assert (action >= space.low).all()
        assert (action <= space.high).all()
    assert np.ptp(action, 0).max() > 0.1  # it does not say the same everywhere


def test_without_exploring_it_says_the_same_again(problem: Build, recipe: Any):
    case = problem(recipe)
    one, two = (recipe.act(case.nets, case.batch.obs, case.hp, False) for _ in range(2))
    assert torch.equal(one, two)


def test_acting_needs_only_what_it_declares(problem: Build, recipe: Any):
    case = problem(recipe)
    whole = recipe.act(case.nets, case.batch.obs, case.hp, False)
    case.nets.keep(recipe.acting_networks, recipe.acting_targets)
    assert torch.equal(recipe.act(case.nets, case.batch.obs, case.hp, False), whole)


def test_its_losses_fall_when_it_learns_one_batch(problem: Build, recipe: Any):
    """Gradient steps go down, not up: the sign of every loss, by its own gradient."""
    case = problem(recipe)
    for name in names(recipe):
        own = list(getattr(case.nets, name).parameters())
        batch = case.prepared()
        first = case.loss(name, batch)
        gradients = torch.autograd.grad(first, own)
        length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        for parameter, gradient in zip(own, gradients, strict=True):
            parameter.data -= 1e-3 * gradient / length
        keeps = name == "fast" and any(find_algorithm(known) is recipe for known in SAME_PATHS)
        assert case.loss(name, batch if keeps else None) < first


def test_an_objective_without_a_loss_is_refused_with_the_nearest():
    with pytest.raises(RecipeError) as refusal:
        type(
            "Wrong",
            (Recipe,),
            {"objectives": ("critics",), "compute_critic_loss": classmethod(lambda cls: None)},
        )
    assert "'critics'" in refusal.value.what
    assert "compute_critics_loss" in refusal.value.what
    assert refusal.value.nearest == "critic"


def test_an_algorithm_with_a_misspelt_objective_is_refused_when_it_is_written(recipe: Any):
    with pytest.raises(RecipeError, match="compute_acter_loss"):
        type("Wrong", (recipe,), {"objectives": (*recipe.objectives, "acter")})
