"""One whole update of AWAC, BEAR and UWAC beside their authors' order, in plain torch and float64.

The reference computes each loss when the authors' code does, with the same random numbers, and steps and
averages with torch's own Adam: aviralkumar2907/BEAR, apple/ml-uwac, CORL and rlkit.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from off2on.algorithms.awac import AWAC
from off2on.algorithms.bear import BEAR
from off2on.algorithms.uwac import UWAC
from off2on.recipe.batch import Batch
from off2on.recipe.objectives import apply_objectives
from off2on.rllib.flat_parameters import FlatParameters

VAE = {"vae_hidden": (16,), "actor_lr": 1e-2, "critic_lr": 1e-2}
UWAC_SMALL = VAE | {"passes": 3, "target_samples": 2}


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Normal numbers in float64 that depend on the shape alone, not on the order of the draws."""

    def drawn(*shape: Any, **_: Any) -> Tensor:
        sizes = [*shape[0]] if shape and not isinstance(shape[0], int) else [*shape]
        return torch.linspace(-1, 1, int(torch.tensor(sizes).prod())).double().sin().reshape(sizes) * 1.3

    monkeypatch.setattr(torch, "randn", drawn)
    monkeypatch.setattr(torch, "randn_like", lambda x, **_: drawn(*x.shape))
    monkeypatch.setattr("torch.nn.functional.dropout", lambda x, rate: x * (1 + 0.1 * x.cos()))
    return {}


def doubled(case: Any) -> Any:
    """The problem in float64."""
    case.nets.double()
    for name, value in vars(case.batch).items():
        if isinstance(value, Tensor):
            setattr(case.batch, name, value.double())
    case.batch.progress = 0.5
    return case


def ours(case: Any) -> Any:
    """The networks after one update as the learner makes it."""
    nets, hp = copy.deepcopy(case.nets), case.hp
    flat = {name: FlatParameters(getattr(nets, name)) for name in nets.names()}
    pairs = [(FlatParameters(getattr(nets.target, name)), flat[name]) for name in nets.targets]
    names = [objective.name for objective in case.recipe.objectives_in_order()]
    optimizers = {name: case.recipe.optimizer(name, hp, flat[name].vector) for name in names}

    def step(name: str, loss: Tensor, progress: float) -> None:
        flat[name].set_gradient(torch.autograd.grad(loss, flat[name].parameters))
        optimizers[name].step()
        flat[name].mark_changed()

    apply_objectives(case.recipe, nets, Batch(**vars(case.batch)), hp, 1, step)
    for target, network in pairs:
        target.move_towards(network, hp.polyak)
    return nets


def theirs(case: Any, groups: list[list[str]]) -> Any:
    """The networks after one update: each group's losses are computed together, then their steps are made."""
    nets, hp, recipe = copy.deepcopy(case.nets), case.hp, case.recipe
    batch = Batch(**vars(case.batch))
    if recipe is AWAC:
        with torch.no_grad():
            batch.own_action = nets.actor(batch.obs).sample().clamp(-1, 1)
            batch.own_next_action = nets.actor(batch.next_obs).sample().clamp(-1, 1)
            both = nets.actor(torch.cat((batch.obs, batch.next_obs))).sample().clamp(-1, 1)
            batch.own_action, batch.own_next_action = both.chunk(2)
    for group in groups:
        slopes = {}
        for name in group:
            if recipe is UWAC and name == "critic":
                with torch.no_grad():
                    batch.next_actions = UWAC.next_actions(nets, batch, hp)
            if recipe is AWAC and name == "actor":
                batch.advantage = AWAC.advantage(nets, batch)
            network = getattr(nets, name)
            loss, _ = recipe.loss(name, nets, batch, hp)
            slopes[name] = torch.autograd.grad(loss, [*network.parameters()], retain_graph=True)
        for name, gradients in slopes.items():
            network = getattr(nets, name)
            decay = hp.weight_decay if recipe is AWAC and name == "actor" else 0.0
            adam = torch.optim.Adam(network.parameters(), lr=getattr(hp, f"{name}_lr"), weight_decay=decay)
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.grad = gradient
            adam.step()
    with torch.no_grad():
        for name in nets.targets:
            pairs = zip(
                getattr(nets.target, name).parameters(), getattr(nets, name).parameters(), strict=True
            )
            for old, new in pairs:
                old.copy_((1 - hp.polyak) * old + hp.polyak * new)
    return nets


def difference(one: Any, other: Any) -> float:
    state = dict(other.state_dict())
    return max(
        float((value - state[name]).abs().max()) for name, value in one.state_dict().items() if value.numel()
    )


ORDERS = {
    "rlkit": [["critic", "actor"]],
    "CORL": [["critic"], ["actor"]],
    "BEAR": [["vae"], ["critic"], ["actor", "multiplier"]],
    "ml-uwac": [["vae"], ["critic", "actor", "multiplier"]],
}


@pytest.mark.parametrize(
    ("recipe", "given", "order", "wrong"),
    [
        (AWAC, {"weight": "softmax", "actor_lr": 1e-2, "critic_lr": 1e-2}, "rlkit", "CORL"),
        (AWAC, {"weight": "exp_clip", "actor_lr": 1e-2, "critic_lr": 1e-2}, "CORL", "rlkit"),
        (BEAR, VAE, "BEAR", "ml-uwac"),
        (BEAR, VAE | {"slow_actor": False}, "BEAR", "ml-uwac"),
        (UWAC, UWAC_SMALL, "ml-uwac", "BEAR"),
    ],
)
def test_one_update_is_in_the_authors_order(
    problem: Callable[..., Any], noise: Any, recipe: Any, given: dict[str, Any], order: str, wrong: str
):
    case = doubled(problem(recipe, **given))
    found = ours(case)
    assert difference(found, case.nets) > 1e-3
    assert difference(found, theirs(case, ORDERS[order])) < 1e-10
    assert difference(found, theirs(case, ORDERS[wrong])) > 1e-6
