"""DSRL at the ends of its dials, its frozen flow online, and where a Gaussian policy must fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from real_learners import online_config
from torch import Tensor
from toy_bandit import FLOW, seeds, shares, trained

from off2on.algorithms.dsrl import DSRL
from off2on.recipe.flows import euler

Make = Callable[..., Any]


def test_without_noise_it_plays_one_action_of_a_state(problem: Make):
    case = problem(DSRL, noise_scale=0.0, flow_steps=3)
    obs = case.batch.obs
    one = euler(case.nets.target.flow, obs, torch.zeros(64, 3), 3)
    for explore in (False, True):
        torch.testing.assert_close(DSRL.act(case.nets, obs, case.hp, explore), one)


def test_a_policy_that_passes_its_noise_on_is_the_flow_with_that_noise(problem: Make):
    """With a small sigma tanh(u) is u, so that the draws are normal with that sigma."""
    case = problem(DSRL, noise_scale=100.0, flow_steps=3)
    actor, obs = case.nets.actor, case.batch.obs
    last = actor.mlp[-1]
    last.weight.data.zero_()
    last.bias.data = torch.tensor([0.0, 0.0, 0.0, -4.60517, -4.60517, -4.60517])  # log 0.01
    torch.manual_seed(3)
    noise = torch.randn(1, 64, 3)[0]
    torch.manual_seed(3)
    found = DSRL.act(case.nets, obs, case.hp, True)
    torch.testing.assert_close(found, euler(case.nets.target.flow, obs, noise, 3), atol=2e-3, rtol=0)


def test_the_deterministic_action_is_that_of_the_mode(problem: Make):
    case = problem(DSRL, noise_scale=0.8, samples=5, flow_steps=3)
    mode = 0.8 * case.nets.actor(case.batch.obs).mode
    expected = euler(case.nets.target.flow, case.batch.obs, mode, 3)
    torch.testing.assert_close(DSRL.act(case.nets, case.batch.obs, case.hp, False), expected)


def test_actions_come_from_the_flows_target(problem: Make):
    case = problem(DSRL)
    before = DSRL.act(case.nets, case.batch.obs, case.hp, False)
    for parameter in case.nets.flow.parameters():
        parameter.data += 1
    assert torch.equal(DSRL.act(case.nets, case.batch.obs, case.hp, False), before)
    for parameter in case.nets.target.flow.parameters():
        parameter.data += 1
    assert not torch.equal(DSRL.act(case.nets, case.batch.obs, case.hp, False), before)


def test_more_samples_are_never_worse(problem: Make):
    """The first of the drawn actions is that of one sample."""
    case = problem(DSRL, samples=16)
    obs, nets = case.batch.obs, case.nets
    noise = torch.randn(16, 64, 3)
    few, many = (
        nets.critic(obs, DSRL.best_action(nets, obs, draws, case.hp)).mean(0) for draws in (noise[:1], noise)
    )
    assert (many >= few - 1e-6).all()
    assert (many > few + 1e-6).any()


def test_noise_critics_of_a_flow_that_does_not_move_learn_what_the_critics_say(problem: Make):
    """With velocity 0 the action is the clipped noise: networks with equal weights have no error."""
    case = problem(DSRL)
    for parameter in case.nets.target.flow.parameters():
        parameter.data.zero_()
    case.nets.noise_critic.load_state_dict(case.nets.critic.state_dict())
    batch = case.prepared()
    inside = batch.latent.abs().amax(-1) < 1
    found = case.nets.noise_critic(batch.obs, batch.latent)
    assert 0 < inside.sum() < 64
    torch.testing.assert_close(batch.latent_q[:, inside], found[:, inside])
    assert not torch.allclose(batch.latent_q[:, ~inside], found[:, ~inside])


# The online phase.


def state(network: torch.nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in network.state_dict().values()]).clone()


@pytest.mark.parametrize("frozen", [True, False])
def test_the_flow_learns_offline_and_then_only_if_it_is_not_frozen(data_root: Path, frozen: bool):
    config = online_config(DSRL, offline=6, strategy="append", freeze_base=False).online(
        60, strategy="append", freeze_base=frozen
    )
    learner = config.get_default_learner_class()(config=config, module_spec=config.get_rl_module_spec())
    learner.build()
    parts = {"flow": learner.nets.flow, "target": learner.nets.target.flow, "actor": learner.nets.actor}
    seen = [{name: state(network) for name, network in parts.items()}]
    learner.advance(6)
    seen.append({name: state(network) for name, network in parts.items()})
    learner.go_online()
    logged = learner.advance(6)
    seen.append({name: state(network) for name, network in parts.items()})
    assert not any(torch.equal(seen[0][name], seen[1][name]) for name in parts)
    assert torch.equal(seen[1]["flow"], seen[2]["flow"]) is frozen
    assert torch.equal(seen[1]["target"], seen[2]["target"]) is frozen
    assert not torch.equal(seen[1]["actor"], seen[2]["actor"])
    assert ("flow/loss" in logged) is not frozen


def test_a_runner_holds_the_flows_target_and_no_other_and_acts_as_the_learner_does(build_learner: Make):
    learner = build_learner(DSRL, "toy-pendulum")
    learner.advance(5)
    spec = learner.config.get_rl_module_spec()
    spec.inference_only = True
    runner = spec.build()
    runner.set_state(learner.module["default_policy"].get_state(inference_only=True))
    held = runner.policy.nets
    assert sorted(held.names()) == ["actor", "critic"]
    assert [name for name, _ in held.target.named_children()] == ["flow"] == list(held.targets)
    obs = torch.randn(8, 3)
    expected = learner.module["default_policy"].policy(obs)
    torch.testing.assert_close(runner.policy(obs), expected)


# Two equally good actions and a bad mean.


@pytest.mark.slow
@seeds(3)
def test_dsrl_avoids_the_bad_mean_of_good_actions(seed: int):
    fast = {"noise_critic_lr": 1e-3, "temperature_lr": 1e-3, "polyak": 0.02, "critics": 2}
    low, high = shares(trained(DSRL, seed, 800, **FLOW, **fast))
    assert low + high > 0.8
