"""Critics with heads learn known values, and the distribution of a return by chance."""

from typing import Any

import gymnasium as gym
import pytest
import torch
from plain_training import learn
from torch import Tensor

from off2on.algorithms.cql import CQL
from off2on.algorithms.dqn import DQN
from off2on.algorithms.fql import FQL
from off2on.algorithms.iql import IQL
from off2on.algorithms.sac import SAC
from off2on.algorithms.td3_bc import TD3BC
from off2on.recipe.batch import Batch
from off2on.recipe.critic_heads import HEADS

CHAIN = 4.0 * 0.5 ** torch.arange(2, -1, -1.0)
"""Values 1, 2 and 4 of three states in a row, whose last one ends with the reward 4; the discount is 1/2."""


def chain_batch(recipe: Any, size: int = 64) -> Batch:
    state = torch.randint(3, (size,))
    action = (
        torch.randint(2, (size,)).float() if recipe.actions == "discrete" else 2 * torch.rand(size, 1) - 1
    )
    states = torch.eye(4)[:, :3]
    end = (state == 2).float()
    return Batch(
        obs=states[state], action=action, reward=4 * end, next_obs=states[state + 1], mask=1 - end, last=end
    )


def learned_values(recipe: Any, updates: int, **given: Any) -> Tensor:
    """Train on the chain, and return the mean value of each state over actions and critics [3]."""
    torch.manual_seed(0)
    settings = {"hidden": (32, 32), "discount": 0.5, "critic_lr": 3e-3, "polyak": 0.1, "v_min": -6.0}
    known = recipe.Hyperparameters.rules()
    settings |= {"v_max": 6.0, "atoms": 25} | given
    hp = recipe.Hyperparameters.parse({k: v for k, v in settings.items() if k in known}, recipe.__name__)
    discrete = recipe.actions == "discrete"
    space = gym.spaces.Discrete(2) if discrete else gym.spaces.Box(-1, 1, (1,))
    nets = recipe.build_nets(gym.spaces.Box(-1, 1, (3,)), space, hp)
    learn(recipe, nets, hp, (chain_batch(recipe) for _ in range(updates)))
    with torch.no_grad():
        obs = torch.eye(3)
        if discrete:
            return nets.critic(obs).mean((0, 2))
        return nets.critic(obs, torch.linspace(-1, 1, 11).view(11, 1, 1).expand(11, 3, 1)).mean((0, 1))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("recipe", "given"),
    [
        (DQN, {}),
        (TD3BC, {}),
        (IQL, {"expectile": 0.5, "value_lr": 3e-3}),
        pytest.param(SAC, {"entropy_backup": False}, marks=pytest.mark.slow),
        pytest.param(FQL, {"flow_steps": 2, "flow_lr": 1e-3}, marks=pytest.mark.slow),
        pytest.param(CQL, {"conservative_weight": 0.0, "samples": 2}, marks=pytest.mark.slow),
    ],
    ids=["dqn", "td3_bc", "iql", "sac", "fql", "cql"],
)
def test_values_are_learned_through_the_next_states(recipe: Any, given: dict[str, Any], head: str):
    found = learned_values(recipe, 600, critic_head=head, **given)
    assert (found - CHAIN).abs().max() < 0.3


@pytest.mark.parametrize("head", HEADS)
def test_a_return_by_chance_is_learned_as_its_distribution_or_mean(head: str):
    """The reward is -2 or 2, each half of the time, and the episode ends."""
    torch.manual_seed(0)
    given = {"critic_head": head, "hidden": (16,), "v_min": -4.0, "v_max": 4.0, "atoms": 9}
    hp = DQN.Hyperparameters.parse(given, "dqn")
    nets = DQN.build_nets(gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(2), hp)
    optimizer = torch.optim.Adam(nets.critic.parameters(), 3e-3)
    obs, ended = torch.zeros(128, 1), torch.zeros(128)
    for _ in range(500):
        action, reward = torch.randint(2, (128,)).float(), 4.0 * torch.randint(2, (128,)) - 2
        batch = Batch(obs=obs, action=action, reward=reward, next_obs=obs, mask=ended)
        batch = DQN.prepare(nets, batch, hp)
        optimizer.zero_grad()
        DQN.compute_critic_loss(nets, batch, hp)[0].backward()
        optimizer.step()
    with torch.no_grad():
        assert nets.critic(obs[:1]).abs().max() < 0.4
        if head in ("quantile", "c51"):
            found = nets.critic.future(obs[:1])
            spread = (found.probabilities * found.returns.square()).sum(-1)
            # A critic of values alone would have 0; Huber's error moves quantiles towards the mean.
            assert (spread > 2).all()
            assert (spread < 4.4).all()
        if head == "c51":
            shares = found.probabilities[0, 0, 0]
            assert shares[[2, 6]].tolist() == pytest.approx([0.5, 0.5], abs=0.1)
