"""ReBRAC: Tarasov, Kurenkov, Nikulin & Kolesnikov, arXiv:2305.09836; normalised critics."""

from collections.abc import Callable
from itertools import count

import torch
from torch import nn

from plain_loops.parts import (
    DISCOUNT,
    Critic,
    Rows,
    adam,
    minimise,
    mlp,
    soft_update,
    twin_loss,
    with_target,
)

HIDDEN, NOISE, CLIP, ACTOR_BETA, CRITIC_BETA = (256, 256, 256), 0.2, 0.5, 0.01, 0.01


def corl(rows: Rows) -> Callable[[], None]:
    actor, actor_target = with_target(mlp(rows.obs, *HIDDEN, rows.action, last=nn.Tanh()))
    twins = [with_target(Critic(rows, *HIDDEN, norm=True)) for _ in range(2)]
    (first, first_target), (second, second_target) = twins
    actor_adam, first_adam, second_adam = adam(actor, 1e-3), adam(first, 1e-3), adam(second, 1e-3)
    numbers = count(1)

    def once() -> None:
        obs, action, reward, next_obs, done, next_action = rows.sample()
        with torch.no_grad():
            noise = (torch.randn_like(action) * NOISE).clamp(-CLIP, CLIP)
            following = (actor_target(next_obs) + noise).clamp(-1, 1)
            penalty = (following - next_action).pow(2).sum(-1, keepdim=True)
            future = torch.min(first_target(next_obs, following), second_target(next_obs, following))
            target = reward + (1 - done) * DISCOUNT * (future - CRITIC_BETA * penalty)
        loss = twin_loss((first(obs, action), second(obs, action)), target)
        loss.item()
        minimise(loss, first_adam, second_adam)
        if next(numbers) % 2 == 0:
            own = actor(obs)
            q = torch.min(first(obs, own), second(obs, own))
            scale = 1 / q.abs().mean().detach()
            loss = (ACTOR_BETA * (own - action).pow(2).sum(-1, keepdim=True) - scale * q).mean()
            loss.item()
            minimise(loss, actor_adam)
            for network, target_network in (*twins, (actor, actor_target)):
                soft_update(target_network, network)

    return once
