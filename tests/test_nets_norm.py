"""Layer normalisation inside a critic, beside a loop over members and layers."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from off2on.recipe.ensembles import EnsembleNorm
from off2on.recipe.networks import Critic

PLACES = (None, "before", "after")


def made(place: Any, hidden: tuple[int, ...] = (16, 8), members: int = 3) -> Critic:
    """Return a critic with normalisations that are not at their initial values."""
    critic = Critic(5, 3, hidden, members, layer_norm=place)
    with torch.no_grad():
        for parameter in critic.norms.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return critic


def by_hand(critic: Critic, member: int, obs: Tensor, action: Tensor) -> Tensor:
    """One member's values [B], by torch's own layers, in double precision."""
    x = torch.cat((obs, action), 1).double()
    last = len(critic.layers) - 1
    for number, layer in enumerate(critic.layers):
        weight, bias = layer.weight[member].double(), layer.bias[member, 0].double()
        x = x @ weight.T + bias
        if number == last:
            return x[:, 0]
        if critic.layer_norm == "after":
            x = x.relu()
        if critic.layer_norm is not None:
            mean = x.mean(1, keepdim=True)
            spread = ((x - mean).square().mean(1, keepdim=True) + 1e-5).sqrt()
            norm: Any = critic.norms[number]
            x = (x - mean) / spread * norm.weight[member, 0].double() + norm.bias[member, 0].double()
        if critic.layer_norm != "after":
            x = x.relu()
    raise AssertionError


@pytest.mark.parametrize("hidden", [(16,), (16, 8)])
@pytest.mark.parametrize("place", PLACES)
def test_every_member_is_a_network_of_its_own(place: Any, hidden: tuple[int, ...]):
    critic = made(place, hidden)
    obs, action = torch.randn(6, 5), torch.rand(6, 3)
    loops = torch.stack([by_hand(critic, member, obs, action) for member in range(3)])
    torch.testing.assert_close(critic(obs, action).double(), loops, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(critic.first(obs, action).double(), loops[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", PLACES)
def test_the_gradients_are_the_loops_too(place: Any):
    critic = made(place)
    twin = copy.deepcopy(critic)
    obs, action = torch.randn(6, 5), torch.rand(6, 3, requires_grad=True)
    critic(obs, action).square().sum().backward()
    mine = action.grad
    action.grad = None
    torch.stack([by_hand(twin, member, obs, action) for member in range(3)]).square().sum().backward()
    torch.testing.assert_close(mine, action.grad, rtol=1e-3, atol=1e-5)
    for ours, theirs in zip(critic.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)
    for network in (critic, twin):
        network.zero_grad()
    critic.first(obs, action).square().sum().backward()
    by_hand(twin, 0, obs, action).square().sum().backward()
    for ours, theirs in zip(critic.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("place", PLACES)
def test_many_actions_at_once_are_many_calls(place: Any):
    critic = made(place)
    obs, actions = torch.randn(6, 5), torch.rand(10, 6, 3)
    one_by_one = torch.stack([critic(obs, action) for action in actions], 1)
    torch.testing.assert_close(critic(obs, actions), one_by_one)


@pytest.mark.parametrize("place", PLACES)
def test_some_members_are_some_of_all(place: Any):
    critic = made(place)
    obs, action = torch.randn(6, 5), torch.rand(6, 3)
    some = critic.subset(obs, action, torch.tensor([2, 0]))
    torch.testing.assert_close(some, critic(obs, action)[[2, 0]])


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_place_matters_and_the_size_of_the_input_then_hardly_does(place: Any):
    critic = Critic(5, 3, (16, 16), 1, layer_norm=place)
    obs, action = 1e3 * torch.randn(6, 5), torch.rand(6, 3)
    torch.testing.assert_close(critic(obs, action), critic(2 * obs, 2 * action), rtol=1e-2, atol=1e-2)
    other = copy.deepcopy(critic)
    other.layer_norm = "after" if place == "before" else "before"
    assert not torch.allclose(critic(obs, action), other(obs, action), atol=1e-3)


def test_it_starts_like_torchs_own():
    norm, theirs = EnsembleNorm(2, 8), nn.LayerNorm(8)
    x = torch.randn(2, 6, 8)
    torch.testing.assert_close(norm(x), theirs(x))


def test_without_it_there_is_nothing_of_it():
    assert [name.partition(".")[0] for name in Critic(5, 3, (16, 8)).state_dict()] == ["layers"] * 6
    assert len(Critic(5, 3, (16, 8), layer_norm="after").norms) == 2
