"""AWAC: Nair, Gupta, Dalal & Levine, arXiv:2006.09359, with CORL's three layers and its clipped weights."""

from collections.abc import Callable

import torch
from torch import Tensor

from plain_loops.parts import (
    DISCOUNT,
    Critic,
    GaussianPolicy,
    Rows,
    adam,
    minimise,
    soft_update,
    twin_loss,
    with_target,
)

HIDDEN, TEMPERATURE = (256, 256, 256), 0.3333


def corl(rows: Rows) -> Callable[[], None]:
    (first, first_target), (second, second_target) = (with_target(Critic(rows, *HIDDEN)) for _ in range(2))
    actor = GaussianPolicy(rows, *HIDDEN, tanh=False)
    actor_adam, first_adam, second_adam = map(adam, (actor, first, second))

    def drawn(obs: Tensor) -> Tensor:
        distribution = actor(obs)
        action = distribution.rsample()
        action.clamp_(-1.0, 1.0)
        distribution.log_prob(action).sum(-1, keepdim=True)  # CORL's policy computes it with every sample
        return action

    def once() -> None:
        obs, action, reward, next_obs, done = rows.sample()
        with torch.no_grad():
            following = drawn(next_obs)
            future = torch.min(first_target(next_obs, following), second_target(next_obs, following))
            target = reward + DISCOUNT * (1.0 - done) * future
        loss = twin_loss((first(obs, action), second(obs, action)), target)
        minimise(loss, first_adam, second_adam)
        loss.item()
        with torch.no_grad():
            own = drawn(obs)
            value = torch.min(first(obs, own), second(obs, own))
            advantage = torch.min(first(obs, action), second(obs, action)) - value
            weight = torch.clamp_max(torch.exp(advantage / TEMPERATURE), 100.0)
        loss = (-actor(obs).log_prob(action).sum(-1, keepdim=True) * weight).mean()
        minimise(loss, actor_adam)
        loss.item()
        soft_update(first_target, first)
        soft_update(second_target, second)

    return once
