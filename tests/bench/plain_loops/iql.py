"""IQL: Kostrikov, Nair & Levine, arXiv:2110.06169."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import CosineAnnealingLR

from plain_loops.parts import (
    DISCOUNT,
    Critic,
    GaussianPolicy,
    Rows,
    adam,
    minimise,
    mlp,
    soft_update,
    squared,
    with_target,
)

HIDDEN, EXPECTILE, BETA = (256, 256), 0.7, 3.0


class Twin(nn.Module):
    """Two critics with one optimiser; returns both values [B]."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.first, self.second = (mlp(rows.obs + rows.action, *HIDDEN, 1) for _ in range(2))

    def forward(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([obs, action], 1)
        return self.first(x).squeeze(-1), self.second(x).squeeze(-1)


def corl(rows: Rows) -> Callable[[], None]:
    critic, critic_target = with_target(Twin(rows))
    value, actor = mlp(rows.obs, *HIDDEN, 1), GaussianPolicy(rows, *HIDDEN)
    value_adam, critic_adam, actor_adam = adam(value), adam(critic), adam(actor)
    schedule = CosineAnnealingLR(actor_adam, 1_000_000)

    def once() -> None:
        obs, action, reward, next_obs, done = rows.sample()
        with torch.no_grad():
            next_value = value(next_obs).squeeze(-1)
            target = torch.min(*critic_target(obs, action))
        advantage = target - value(obs).squeeze(-1)
        loss = (torch.abs(EXPECTILE - (advantage < 0).float()) * advantage**2).mean()
        loss.item()
        minimise(loss, value_adam)

        wanted = reward.squeeze(-1) + (1.0 - done.squeeze(-1)) * DISCOUNT * next_value
        loss = sum(F.mse_loss(q, wanted) for q in critic(obs, action)) / 2
        loss.item()
        minimise(loss, critic_adam)
        soft_update(critic_target, critic)

        weight = torch.exp(BETA * advantage.detach()).clamp(max=100.0)
        loss = torch.mean(weight * -actor(obs).log_prob(action).sum(-1))
        loss.item()
        minimise(loss, actor_adam)
        schedule.step()

    return once


def offlinerl_kit(rows: Rows) -> Callable[[], None]:
    (first, first_target), (second, second_target) = (with_target(Critic(rows, *HIDDEN)) for _ in range(2))
    value, actor = mlp(rows.obs, *HIDDEN, 1), GaussianPolicy(rows, *HIDDEN)
    value_adam, first_adam, second_adam, actor_adam = map(adam, (value, first, second, actor))

    def once() -> None:
        obs, action, reward, next_obs, done = rows.sample()
        with torch.no_grad():
            q = torch.min(first_target(obs, action), second_target(obs, action))
        error = q - value(obs)
        value_loss = (torch.where(error > 0, EXPECTILE, 1 - EXPECTILE) * error**2).mean()
        minimise(value_loss, value_adam)

        values = first(obs, action), second(obs, action)
        with torch.no_grad():
            target = reward + DISCOUNT * (1 - done) * value(next_obs)
        for one, optimizer in zip(values, (first_adam, second_adam), strict=True):
            loss = squared(one, target)
            minimise(loss, optimizer)
            loss.item()

        with torch.no_grad():
            q = torch.min(first_target(obs, action), second_target(obs, action))
            weight = torch.exp((q - value(obs)) * BETA).clip(None, 100.0)
        loss = -(weight * actor(obs).log_prob(action).sum(-1, keepdim=True)).mean()
        minimise(loss, actor_adam)
        soft_update(first_target, first)
        soft_update(second_target, second)
        loss.item(), value_loss.item()

    return once
