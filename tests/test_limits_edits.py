"""EXPO and FEdit at the ends of their dials, and where a Gaussian policy must fail."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients import gradient
from torch import Tensor, nn
from toy_bandit import FLOW, seeds, shares, trained

from off2on.algorithms.bfn import BFN
from off2on.algorithms.expo import EXPO
from off2on.recipe.flows import euler

Make = Callable[..., Any]
FEDIT: dict[str, Any] = {"samples": 1, "keep_unedited": False}


def acts(case: Any) -> Tensor:
    """Deterministic actions [64, 3]."""
    return case.recipe.act(case.nets, case.batch.obs, case.hp, False)  # type: ignore[no-any-return]


def bases(case: Any) -> Tensor:
    """The flow's actions [N, 64, 3] that are edited."""
    noise = case.nets.flow.draws.expand(-1, 64, -1)
    return euler(case.nets.flow, case.batch.obs, noise, case.hp.flow_steps)


def test_an_edit_of_length_0_is_the_flow_from_noise_0(problem: Make):
    case = problem(EXPO, edit_scale=0.0, **FEDIT)
    torch.testing.assert_close(acts(case), bases(case)[0])
    middle = euler(case.nets.flow, case.batch.obs, torch.zeros(64, 3), case.hp.flow_steps)
    torch.testing.assert_close(acts(case), middle)


def test_edits_of_length_0_beside_their_actions_are_the_best_of_n(problem: Make):
    case, bfn = problem(EXPO, edit_scale=0.0, samples=5), problem(BFN, samples=5)
    for name in ("flow", "critic"):
        setattr(bfn.nets, name, getattr(case.nets, name))
    bfn.batch = case.batch
    torch.testing.assert_close(acts(case), acts(bfn))


def test_an_edit_of_length_0_learns_its_entropy_alone(problem: Make):
    case = problem(EXPO, edit_scale=0.0, **FEDIT)
    mine = gradient(case.loss("actor"), case.nets.actor)
    torch.testing.assert_close(mine, gradient(case.prepared().edit_log_prob.mean(), case.nets.actor))


@pytest.mark.parametrize("scale", [0.05, 0.5])
def test_no_edit_is_longer_than_its_scale(problem: Make, scale: float):
    case = problem(EXPO, edit_scale=scale, **FEDIT)
    case.nets.actor.mlp[-1].weight.data *= 100
    length = (acts(case) - bases(case)[0]).abs().max()
    assert 0.9 * scale < length <= scale + 1e-6


def test_the_choice_is_never_worse_than_any_action_or_edit(problem: Make):
    case = problem(EXPO, edit_scale=0.5, samples=4)
    edited = problem(EXPO, edit_scale=0.5, samples=4, keep_unedited=False)
    edited.nets.load_state_dict(case.nets.state_dict())

    def value(action: Tensor) -> Tensor:
        return case.nets.critic(case.batch.obs, action).mean(0)  # type: ignore[no-any-return]

    unedited = value(bases(case)).amax(0)
    torch.testing.assert_close(value(acts(case)), torch.maximum(unedited, value(acts(edited))))
    assert (value(acts(case)) > unedited + 1e-6).any()
    assert (value(acts(case)) > value(acts(edited)) + 1e-6).any()


def test_the_flow_learns_from_the_data_alone(problem: Make):
    case = problem(EXPO)
    loss = case.loss("actor")
    assert gradient(loss, case.nets.actor).any()
    inside = torch.autograd.grad(case.loss("actor"), list(case.nets.flow.parameters()), allow_unused=True)
    assert all(part is None for part in inside)


class Slope(nn.Module):
    """Q(s, a) = the sum of the actions."""

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        return action.sum(-1).unsqueeze(0)


def test_edits_climb_where_the_value_rises(problem: Make):
    case = problem(EXPO, edit_scale=0.3, **FEDIT)
    case.nets.critic = Slope()
    case.nets.temperature.value.data.fill_(-10)
    optimizer = torch.optim.Adam(case.nets.actor.parameters(), 1e-2)
    for seed in range(60):
        optimizer.zero_grad()
        case.loss("actor", seed=seed).backward()
        optimizer.step()
    torch.testing.assert_close(acts(case), (bases(case)[0] + 0.3).clamp(max=1), atol=0.01, rtol=0)


def test_alpha_grows_while_the_entropy_is_below_minus_half_the_dimensions(problem: Make):
    case = problem(EXPO)
    batch = case.prepared()
    for entropy, sign in ((-1.6, -1), (-1.4, 1)):
        batch.edit_log_prob = torch.full((64,), -entropy)
        assert gradient(case.loss("temperature", batch), case.nets.temperature).sign() == sign


@pytest.mark.slow
@seeds(3)
@pytest.mark.parametrize("more", [FEDIT, {"samples": 4}], ids=["fedit", "expo"])
def test_edits_keep_the_flow_away_from_the_bad_mean_of_good_actions(more: dict[str, Any], seed: int):
    low, high = shares(trained(EXPO, seed, 800, critics=2, edit_scale=0.1, **FLOW, **more))
    assert low + high > 0.8
