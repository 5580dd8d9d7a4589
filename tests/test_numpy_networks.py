"""Networks evaluated with NumPy act as those of torch: same random numbers, actions up to rounding."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from off2on.policy import Policy
from off2on.recipe.actors import DeterministicActor, GaussianActor, SquashedGaussianActor, StateGaussianActor
from off2on.recipe.histories import context_of
from off2on.recipe.networks import MLP, Critic, Nets
from off2on.recipe.numpy_networks import MAX_ROWS, with_numpy
from off2on.replay.transforms import Transforms
from off2on.rllib.step_policy import StepPolicy

ROUNDING = 4e-6
"""Bound of the difference of two actions in [-1, 1]: some steps of float32, through three layers."""
HIDDEN = (256, 256)
ACTORS = [DeterministicActor, GaussianActor, StateGaussianActor, SquashedGaussianActor]


def drawn(network: Any, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """An exploring action, and the state of the random numbers after it."""
    torch.manual_seed(1)
    with torch.no_grad():
        found = network(obs)
        return found if isinstance(found, torch.Tensor) else found.draw(), torch.get_rng_state()


@pytest.mark.parametrize("rows", [1, MAX_ROWS])
@pytest.mark.parametrize("kind", ACTORS)
def test_actors_draw_the_same_actions(kind: Any, rows: int):
    torch.manual_seed(0)
    actor = kind(17, 6, HIDDEN)
    for parameter in actor.parameters():
        parameter.data *= 1.5  # sigma differs from its initial value, and actions reach the ends
    copied, obs = with_numpy(actor), 3 * torch.randn(rows, 17)
    (expected, after), (found, after_copy) = drawn(actor, obs), drawn(copied, obs)
    assert type(copied) is not type(actor)
    torch.testing.assert_close(found, expected, rtol=ROUNDING, atol=ROUNDING)  # some are far beyond 1
    assert torch.equal(after, after_copy)


@pytest.mark.parametrize("kind", ACTORS)
def test_many_observations_and_gradients_use_torch(kind: Any):
    actor = kind(17, 6, HIDDEN)
    copied, obs = with_numpy(actor), torch.randn(MAX_ROWS + 1, 17)
    assert torch.equal(drawn(copied, obs)[0], drawn(actor, obs)[0])
    found = copied(obs[:1])
    (found if isinstance(found, torch.Tensor) else found.draw()).sum().backward()
    assert actor.mlp[0].weight.grad.abs().sum() > 0


def test_a_network_of_linear_layers_is_evaluated_with_numpy():
    network, obs = MLP((17, *HIDDEN, 6)), torch.randn(1, 17)
    copied = with_numpy(network)
    with torch.no_grad():
        assert (copied(obs) - network(obs)).abs().max() < ROUNDING
        torch.manual_seed(0)
        expected = network(obs, dropout=0.5)
        torch.manual_seed(0)
        assert torch.equal(copied(obs, dropout=0.5), expected)


class OwnActor(DeterministicActor):
    """A user's actor; its forward is its own."""


@pytest.mark.parametrize(
    "network",
    [
        MLP((4, 8, 2), "gelu"),
        MLP((4, 8, 2), layer_norm="before"),
        MLP((4, 8, 2), layer_norm="after"),
        Critic(3, 1, (8,)),
        OwnActor(4, 2, ()),
        nn.Linear(4, 2),
    ],
    ids=["gelu", "norm before", "norm after", "critic", "own", "linear"],
)
def test_other_networks_stay_as_they_are(network: nn.Module):
    assert type(with_numpy(network)) is type(network)


@pytest.mark.parametrize("part", [lambda actor: actor, lambda actor: actor.mlp, lambda actor: actor.mlp[0]])
@pytest.mark.parametrize("kind", ACTORS)
def test_hooks_of_a_network_are_called(kind: Any, part: Callable[[Any], nn.Module]):
    actor, seen = kind(17, 6, HIDDEN), []
    part(actor).register_forward_pre_hook(lambda *given: seen.append(given))
    drawn(with_numpy(actor), torch.randn(1, 17))
    assert len(seen) == 1


@pytest.mark.parametrize("kind", ACTORS[1:])
def test_an_action_stays_when_others_are_drawn(kind: Any):
    copied, obs = with_numpy(kind(17, 6, HIDDEN)), torch.randn(1, 17)
    with torch.no_grad():
        first = copied(obs).draw()
        before = first.clone()
        second = copied(obs).draw()
    assert torch.equal(first, before)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind", ACTORS[1:])
def test_distributions_have_the_tensors_of_those_of_torch(kind: Any):
    actor, obs = kind(17, 6, HIDDEN), torch.randn(1, 17)
    with torch.no_grad():
        found, expected = with_numpy(actor)(obs), actor(obs)
        action = expected.mode
        assert (found.mode - action).abs().max() < ROUNDING
        assert torch.allclose(found.log_density(action), expected.log_density(action), atol=1e-4)


@pytest.mark.parametrize("kind", ACTORS)
def test_weights_that_change_in_place_are_followed(kind: Any):
    actor, other, obs = kind(17, 6, HIDDEN), kind(17, 6, HIDDEN), torch.randn(1, 17)
    copied = with_numpy(actor)
    before = drawn(copied, obs)[0]
    actor.load_state_dict(other.state_dict())
    assert (drawn(copied, obs)[0] - drawn(other, obs)[0]).abs().max() < ROUNDING
    assert (drawn(copied, obs)[0] - before).abs().max() > 1e3 * ROUNDING


@pytest.mark.parametrize(
    ("low", "high", "exact"),
    [(-1.0, 1.0, True), (-2.0, 2.0, True), (3.0, 5.0, True), (-0.3, 0.1, False), (-0.4, 0.4, False)],
)
def test_actions_of_a_box_are_bit_equal_to_those_of_torch(low: float, high: float, exact: bool):
    class Echo:
        @classmethod
        def act(cls, nets: Any, obs: torch.Tensor, hp: Any, explore: bool) -> torch.Tensor:
            return obs

    transforms = Transforms((0.0,) * 5, (1.0,) * 5, (low,) * 5, (high,) * 5)
    policy = Policy(Echo, Nets(), None, transforms)
    step = StepPolicy(policy)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.5, 1.5, (100_000, 5)) * rng.choice([1, 1e-6], (100_000, 1))
    actions[:3] = [[-1] * 5, [0] * 5, [1] * 5]
    assert step._exact == exact
    assert (
        step(actions).tobytes() == policy(torch.from_numpy(actions).float(), explore=True).numpy().tobytes()
    )


def test_a_policy_explores_step_by_step_as_it_does_at_once(problem: Callable[..., Any], recipe: Any):
    case, discrete = problem(recipe), recipe.actions == "discrete"
    if context_of(case.hp):
        pytest.skip("a policy with a history has no online phase")
    low, high = ((), ()) if discrete else ((-1.0, -0.3, 2.0), (1.0, 0.1, 7.0))
    transforms = Transforms((0.5,) * 5, (1.7,) * 5, low, high, discrete=discrete)
    policy = Policy(recipe, case.nets, case.hp, transforms)
    step = StepPolicy(policy)
    for seed in range(10):
        obs = np.random.default_rng(seed).normal(size=(1, 5))
        with torch.no_grad():
            torch.manual_seed(seed)
            expected = policy(torch.from_numpy(obs.astype(np.float32)), explore=True).numpy()
            after = torch.get_rng_state()
            torch.manual_seed(seed)
            found = step(obs)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=0, atol=0 if discrete else 5 * ROUNDING)
        assert torch.equal(torch.get_rng_state(), after)
