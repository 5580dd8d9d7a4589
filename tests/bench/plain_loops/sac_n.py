"""SAC-N and EDAC: An, Moon, Kim & Song, arXiv:2110.01548; ten critics as one batched network."""

from collections.abc import Callable

import torch
from torch import Tensor

from plain_loops.parts import (
    DISCOUNT,
    Rows,
    SquashedPolicy,
    VectorizedCritic,
    adam,
    minimise,
    soft_update,
    with_target,
)

HIDDEN, MEMBERS = (256, 256, 256), 10


def similarity(critic: VectorizedCritic, obs: Tensor, action: Tensor, einsum: bool) -> Tensor:
    """Return the mean over the batch of the sum of cosines of action gradients over (E - 1)."""
    tiled_obs = obs.unsqueeze(0).repeat(MEMBERS, 1, 1)
    tiled = action.unsqueeze(0).repeat(MEMBERS, 1, 1).requires_grad_(True)
    values = critic(tiled_obs, tiled)
    (slope,) = torch.autograd.grad(values.sum(), tiled, retain_graph=True, create_graph=True)
    unit = (slope / (torch.norm(slope, p=2, dim=2).unsqueeze(-1) + 1e-10)).transpose(0, 1)
    cosines = torch.einsum("bik,bjk->bij", unit, unit) if einsum else unit @ unit.permute(0, 2, 1)
    same = torch.eye(MEMBERS).unsqueeze(0).repeat(len(action), 1, 1)
    return ((1 - same) * cosines).sum(dim=(1, 2)).mean() / (MEMBERS - 1)


def corl(rows: Rows, eta: float) -> Callable[[], None]:
    actor = SquashedPolicy(rows, *HIDDEN, keepdim=False)
    critic, target = with_target(VectorizedCritic(rows, *HIDDEN, members=MEMBERS, einsum=False))
    log_alpha = torch.zeros(1, requires_grad=True)
    actor_adam, critic_adam = adam(actor), adam(critic)
    alpha_adam = torch.optim.Adam([log_alpha], lr=3e-4)

    def once() -> None:
        obs, action, reward, next_obs, done = rows.sample()
        with torch.no_grad():
            _, log_prob = actor(obs)
        alpha_loss = (-log_alpha * (log_prob - rows.action)).mean()
        minimise(alpha_loss, alpha_adam)
        alpha = log_alpha.exp().detach()

        own, log_prob = actor(obs)
        values = critic(obs, own).squeeze(-1)
        lowest = values.min(0).values
        values.std(0).mean().item(), -log_prob.mean().item()
        actor_loss = (alpha * log_prob - lowest).mean()
        minimise(actor_loss, actor_adam)

        with torch.no_grad():
            following, log_prob = actor(next_obs)
            future = target(next_obs, following).squeeze(-1).min(0).values - alpha * log_prob
            wanted = reward + DISCOUNT * (1 - done) * future.unsqueeze(-1)
        values = critic(obs, action).squeeze(-1)
        loss = ((values - wanted.view(1, -1)) ** 2).mean(dim=1).sum(dim=0)
        if eta:
            loss = loss + eta * similarity(critic, obs, action, einsum=False)
        minimise(loss, critic_adam)
        with torch.no_grad():
            soft_update(target, critic)
            critic(obs, -1 + 2 * torch.rand_like(action)).std(0).mean().item()  # CORL logs this spread
        alpha_loss.item(), loss.item(), actor_loss.item(), alpha.item()

    return once


def offlinerl_kit(rows: Rows, eta: float) -> Callable[[], None]:
    actor = SquashedPolicy(rows, *HIDDEN, keepdim=True)
    critic, target = with_target(VectorizedCritic(rows, *HIDDEN, members=MEMBERS, einsum=True))
    log_alpha = torch.zeros(1, requires_grad=True)
    actor_adam, critic_adam = adam(actor), adam(critic)
    alpha_adam = torch.optim.Adam([log_alpha], lr=3e-4)
    alpha = log_alpha.detach().exp()

    def once() -> None:
        nonlocal alpha
        obs, action, reward, next_obs, done = rows.sample()
        if eta:
            action.requires_grad_(True)
        own, log_prob = actor(obs)
        actor_loss = -torch.min(critic(obs, own), 0)[0].mean() + alpha * log_prob.mean()
        minimise(actor_loss, actor_adam)
        alpha_loss = -(log_alpha * (log_prob.detach() - rows.action)).mean()
        minimise(alpha_loss, alpha_adam)
        alpha = log_alpha.detach().exp().clamp(0.0, 1.0)

        with torch.no_grad():
            following, log_prob = actor(next_obs)
            future = target(next_obs, following).min(0)[0] - alpha * log_prob
        wanted = reward + DISCOUNT * (1 - done) * future
        loss = squared_sum(critic(obs, action), wanted)
        if eta:
            loss = loss + eta * similarity(critic, obs, action, einsum=True)
        minimise(loss, critic_adam)
        soft_update(target, critic)
        actor_loss.item(), loss.item(), alpha_loss.item(), alpha.item()

    return once


def squared_sum(values: Tensor, wanted: Tensor) -> Tensor:
    """Return the squared errors [E, B, 1], averaged over the batch and summed over the members."""
    return (values - wanted.unsqueeze(0)).pow(2).mean(dim=(1, 2)).sum()
