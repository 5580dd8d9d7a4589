"""TD3+BC: Fujimoto & Gu, arXiv:2106.06860."""

from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from plain_loops.parts import (
    DISCOUNT,
    Critic,
    Rows,
    adam,
    minimise,
    mlp,
    soft_update,
    squared,
    twin_loss,
    with_target,
)

HIDDEN, ALPHA, NOISE, CLIP = (256, 256), 2.5, 0.2, 0.5


def corl(rows: Rows) -> Callable[[], None]:
    return _update(rows, one_backward=True)


def offlinerl_kit(rows: Rows) -> Callable[[], None]:
    return _update(rows, one_backward=False)


def _update(rows: Rows, one_backward: bool) -> Callable[[], None]:
    actor, actor_target = with_target(mlp(rows.obs, *HIDDEN, rows.action, last=nn.Tanh()))
    (first, first_target), (second, second_target) = (with_target(Critic(rows, *HIDDEN)) for _ in range(2))
    actor_adam, first_adam, second_adam = adam(actor), adam(first), adam(second)
    pairs = (first_target, first), (second_target, second), (actor_target, actor)
    numbers = count(1)

    def target_value(action: Tensor, reward: Tensor, next_obs: Tensor, done: Tensor) -> Tensor:
        with torch.no_grad():
            noise = (torch.randn_like(action) * NOISE).clamp(-CLIP, CLIP)
            following = (actor_target(next_obs) + noise).clamp(-1, 1)
            future = torch.min(first_target(next_obs, following), second_target(next_obs, following))
            return reward + (1 - done) * DISCOUNT * future

    def once() -> None:
        obs, action, reward, next_obs, done = rows.sample()
        target = target_value(action, reward, next_obs, done)
        values = first(obs, action), second(obs, action)
        if one_backward:
            loss = twin_loss(values, target)
            loss.item()
            minimise(loss, first_adam, second_adam)
        else:
            for value, optimizer in zip(values, (first_adam, second_adam), strict=True):
                loss = squared(value, target)
                minimise(loss, optimizer)
                loss.item()
        if next(numbers) % 2 == 0:
            own = actor(obs)
            q = first(obs, own)
            scale = ALPHA / q.abs().mean().detach()
            loss = -scale * q.mean() + F.mse_loss(own, action)
            loss.item()
            minimise(loss, actor_adam)
            for old, new in pairs:
                soft_update(old, new)

    return once
