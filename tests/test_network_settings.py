"""Activation and layer normalisation as hyperparameters: they reach every network."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datasets_io import Shards
from off2on.algorithms import find_algorithm
from off2on.algorithms.bred import BRED
from off2on.algorithms.cal_ql import CalQL
from off2on.algorithms.cql import CQL
from off2on.algorithms.iql import IQL
from off2on.algorithms.rebrac import ReBRAC
from off2on.errors import HyperparameterError
from off2on.recipe.actors import EnsembleActor, SquashedGaussianActor

Build = Callable[..., Any]
GELU = nn.GELU(approximate="tanh")
SAC_LIKE = ("sac", "sac_n", "edac", "redq", "rlpd", "cql", "cal_ql", "e2o", "bred", "mopo", "mobile", "combo")


def activations(network: nn.Module) -> set[type]:
    return {type(layer) for layer in network.modules() if isinstance(layer, nn.ReLU | nn.GELU)}


@pytest.mark.parametrize("name", ["iql", "pex", "rebrac", *SAC_LIKE])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_activation_is_that_of_every_network_but_the_dynamics(problem: Build, name: str, activation: str):
    case = problem(find_algorithm(name), activation=activation)
    expected = {nn.ReLU if activation == "relu" else nn.GELU}
    found = {key: activations(getattr(case.nets, key)) for key in case.nets.names()}
    with_layers = {
        key for key in found if key not in ("temperature", "merged_temperature", "multiplier", "dynamics")
    }
    assert {key: found[key] for key in with_layers} == dict.fromkeys(with_layers, expected)
    for objective in case.recipe.objectives_in_order():
        assert case.loss(objective.name).isfinite()


@pytest.mark.parametrize("name", SAC_LIKE)
def test_critics_and_policy_are_normalised_each_by_its_own_setting(problem: Build, name: str):
    for critic, actor in ((True, False), (False, True)):
        case = problem(find_algorithm(name), layer_norm=critic, actor_layer_norm=actor, norm_place="after")
        assert (case.nets.critic.layer_norm == "after") is critic
        found = case.nets.actor
        normalised = bool(getattr(found, "norms", ())) or any(
            isinstance(layer, nn.LayerNorm) for layer in found.modules()
        )
        assert normalised is actor


def by_hand(layers: list[tuple[Tensor, Tensor]], x: Tensor, place: str | None) -> Tensor:
    """Layers with GELU and, before or after it, normalisation with weight 1 and bias 0."""
    *hidden, (last, offset) = layers
    for weight, bias in hidden:
        x = x @ weight.T + bias
        if place == "before":
            x = GELU((x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt())
        else:
            x = GELU(x)
            if place == "after":
                x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    return x @ last.T + offset


@pytest.mark.parametrize("place", ["before", "after", None])
def test_policies_are_what_the_settings_say(place: Any):
    obs = torch.randn(7, 5)
    one = SquashedGaussianActor(5, 3, (16, 16), activation="gelu", layer_norm=place)
    layers = [(layer.weight, layer.bias) for layer in one.mlp if isinstance(layer, nn.Linear)]
    torch.testing.assert_close(one.mlp(obs), by_hand(layers, obs, place))
    many = EnsembleActor(5, 3, (16, 16), 2, activation="gelu", layer_norm=place)
    found = many(obs)
    for member in range(2):
        layers = [(layer.weight[member], layer.bias[member, 0]) for layer in many.layers]
        mean = by_hand(layers, obs, place)[:, :3]
        torch.testing.assert_close(found.location[member], mean)


@pytest.mark.parametrize("recipe", [IQL, ReBRAC])
def test_the_place_of_normalisation_reaches_the_critics(problem: Build, recipe: Any):
    given = {"layer_norm": True} if recipe is IQL else {}
    for place in ("before", "after"):
        case = problem(recipe, norm_place=place, **given)
        assert case.nets.critic.layer_norm == place
    assert problem(IQL).nets.critic.layer_norm is None
    assert problem(ReBRAC).nets.critic.layer_norm == "after"


def test_iqls_value_is_normalised_with_its_critics(problem: Build):
    found = problem(IQL, layer_norm=True, activation="gelu").nets.value.mlp
    kinds = [type(layer) for layer in found]
    assert kinds == [nn.Linear, nn.GELU, nn.LayerNorm] * 2 + [nn.Linear]
    found = problem(IQL, layer_norm=True, norm_place="before").nets.value.mlp
    assert [type(layer) for layer in found] == [nn.Linear, nn.LayerNorm, nn.ReLU] * 2 + [nn.Linear]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("bred", {"actor_layer_norm": True, "norm_place": "after", "activation": "gelu"}),
        ("cal_ql", {"preset": "wsrl", "backup_actions": 2}),
        ("iql", {"layer_norm": True, "norm_place": "before", "activation": "gelu", "dropout": 0.1}),
    ],
)
def test_updates_in_a_trace_are_bit_equal(build_learner: Build, name: str, given: dict[str, Any]):
    own, traced = (build_learner(find_algorithm(name), "wide", **given) for _ in range(2))
    own.traced.after, traced.traced.after = 1000, 1
    own.advance(30)
    traced.advance(30)
    assert traced.traced.repeated > 15
    for network in own.flat:
        assert torch.equal(own.flat[network].vector, traced.flat[network].vector), network


OGBENCH = [
    (name, preset)
    for name in ("iql", "rebrac", "rlpd", "cal_ql")
    for preset in find_algorithm(name).Hyperparameters.presets
    if preset.split("-")[0] in ("cube", "scene", "puzzle", "humanoidmaze", "antsoccer")
    or "navigate" in preset
]


@pytest.mark.parametrize(("name", "preset"), OGBENCH)
def test_ogbenchs_presets_have_its_networks(problem: Build, name: str, preset: str):
    recipe = find_algorithm(name)
    hp = recipe.Hyperparameters.parse({"preset": preset}, name)
    assert (hp.activation, hp.norm_place, len(hp.hidden)) == ("gelu", "after", 4)
    assert name == "rebrac" or hp.layer_norm
    far = "giant" in preset or preset in ("humanoidmaze", "antsoccer")
    assert hp.discount == (0.995 if far else 0.99)


# WSRL.


@pytest.mark.parametrize("recipe", [CQL, CalQL])
def test_wsrls_networks_and_target(problem: Build, recipe: Any):
    case = problem(recipe, preset="wsrl")
    nets, batch = case.nets, case.batch
    assert nets.critic.members == 10
    assert nets.critic.layer_norm == "before"
    assert any(isinstance(layer, nn.LayerNorm) for layer in nets.actor.modules())
    q = nets.target.critic(batch.next_obs, batch.action)
    pairs = {(i, j): torch.minimum(q[i], q[j]) for i in range(10) for j in range(i)}
    drawn = set()
    for _ in range(20):
        found = recipe.target_value(nets, batch, case.hp, batch.action)
        (pair,) = (names for names, value in pairs.items() if torch.equal(value, found))
        drawn.add(pair)
    assert len(drawn) > 5, "another pair for every update"


def test_a_subset_of_all_critics_is_their_minimum(problem: Build):
    case = problem(CQL, critics=4, subset=4)
    found = CQL.target_value(case.nets, case.batch, case.hp, case.batch.action)
    assert torch.equal(found, case.nets.target.critic(case.batch.next_obs, case.batch.action).amin(0))


def test_bred_whose_agents_have_their_own_critics_refuses_a_subset(toy: Shards):
    hp = BRED.Hyperparameters.parse({"critics": 10, "subset": 2}, "bred")
    with pytest.raises(HyperparameterError, match="subset"):
        BRED.resolve(hp, toy)
    assert BRED.resolve(BRED.Hyperparameters(), toy) == BRED.Hyperparameters()
