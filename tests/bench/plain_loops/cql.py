"""CQL and Cal-QL: Kumar et al., arXiv:2006.04779; Nakamoto et al., arXiv:2303.05479; ten actions."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from plain_loops.parts import (
    DISCOUNT,
    Critic,
    Rows,
    SquashedPolicy,
    adam,
    minimise,
    mlp,
    soft_update,
    squared,
    twin_loss,
    with_target,
)

HIDDEN, ACTIONS, WEIGHT = (256, 256, 256), 10, 5.0


class TransformedPolicy(nn.Module):
    """tanh(N) by torch's transformed distributions, with log sigma scaled and shifted (CORL)."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.net = mlp(rows.obs, *HIDDEN, 2 * rows.action)
        self.scale, self.shift = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(-1.0))
        self.width = rows.action

    def forward(self, obs: Tensor, repeat: int | None = None) -> tuple[Tensor, Tensor]:
        if repeat is not None:
            obs = obs.unsqueeze(1).repeat_interleave(repeat, dim=1)
        mean, log_std = torch.split(self.net(obs), self.width, dim=-1)
        std = torch.exp(torch.clamp(self.scale * log_std + self.shift, -20.0, 2.0))
        distribution = TransformedDistribution(Normal(mean, std), TanhTransform(cache_size=1))
        action = distribution.rsample()
        return action, torch.sum(distribution.log_prob(action), dim=-1)


class ManyCritic(Critic):
    """One action value of actions [B, A] or [B, n, A]: [B] or [B, n] (CORL)."""

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        if action.dim() == 2:
            return super().forward(obs, action).squeeze(-1)
        count = action.shape[1]
        repeated = obs.unsqueeze(1).repeat_interleave(count, dim=1).reshape(-1, obs.shape[-1])
        return super().forward(repeated, action.reshape(-1, action.shape[-1])).reshape(-1, count)


def corl(rows: Rows, calibrated: bool) -> Callable[[], None]:
    """Return an update of CQL, or of Cal-QL with its target over the best of ten actions."""
    actor = TransformedPolicy(rows)
    twins = [with_target(ManyCritic(rows, *HIDDEN)) for _ in range(2)]
    (first, first_target), (second, second_target) = twins
    log_alpha = nn.Parameter(torch.tensor(0.0))
    actor_adam, first_adam, second_adam = adam(actor, 3e-5), adam(first), adam(second)
    alpha_adam = torch.optim.Adam([log_alpha], lr=3e-5)

    def target_value(next_obs: Tensor) -> Tensor:
        following, _ = actor(next_obs, ACTIONS if calibrated else None)
        future = torch.min(first_target(next_obs, following), second_target(next_obs, following))
        return torch.max(future, dim=-1)[0] if calibrated else future

    def once() -> None:
        obs, action, reward, next_obs, done, *more = rows.sample()
        own, log_prob = actor(obs)
        alpha_loss = -(log_alpha * (log_prob - rows.action).detach()).mean()
        alpha = log_alpha.exp()
        actor_loss = (alpha * log_prob - torch.min(first(obs, own), second(obs, own))).mean()
        log_prob.mean().item(), actor_loss.item(), alpha_loss.item(), alpha.item()

        values = first(obs, action), second(obs, action)
        future = target_value(next_obs)
        wanted = (reward + (1.0 - done) * DISCOUNT * future.detach().unsqueeze(-1)).squeeze(-1)
        loss = twin_loss(values, wanted)
        uniform = action.new_empty((len(obs), ACTIONS, rows.action)).uniform_(-1, 1)
        here, here_log_prob = (part.detach() for part in actor(obs, ACTIONS))
        there, there_log_prob = (part.detach() for part in actor(next_obs, ACTIONS))
        logged = [*values, future]
        for q, critic in zip(values, (first, second), strict=True):
            at_uniform, at_here, at_there = (critic(obs, actions) for actions in (uniform, here, there))
            if calibrated:
                bound = more[0].reshape(-1, 1).repeat(1, ACTIONS)
                (torch.sum(at_here < bound) / bound.numel()).item()
                at_here, at_there = torch.maximum(at_here, bound), torch.maximum(at_there, bound)
            every = torch.cat([at_uniform, q.unsqueeze(1), at_there, at_here], dim=1)
            density = math.log(0.5**rows.action)
            proposals = at_uniform - density, at_there - there_log_prob, at_here - here_log_prob
            gap = (torch.logsumexp(torch.cat(proposals, dim=1), dim=1) - q).mean()
            loss = loss + WEIGHT * gap
            logged += [torch.std(every, dim=1), at_uniform, at_here, at_there, gap]
        for number in logged:
            number.mean().item()

        minimise(alpha_loss, alpha_adam)
        minimise(actor_loss, actor_adam)
        minimise(loss, first_adam, second_adam, retain_graph=True)
        soft_update(first_target, first)
        soft_update(second_target, second)

    return once


def offlinerl_kit(rows: Rows) -> Callable[[], None]:
    actor = SquashedPolicy(rows, *HIDDEN, keepdim=True)
    (first, first_target), (second, second_target) = (with_target(Critic(rows, *HIDDEN)) for _ in range(2))
    log_alpha = torch.zeros(1, requires_grad=True)
    actor_adam, first_adam, second_adam = adam(actor, 1e-4), adam(first), adam(second)
    alpha_adam = torch.optim.Adam([log_alpha], lr=1e-4)
    alpha = log_alpha.detach().exp()

    def tiled(obs: Tensor) -> Tensor:
        return obs.unsqueeze(1).repeat(1, ACTIONS, 1).view(-1, rows.obs)

    def values_of(obs: Tensor, obs_of_policy: Tensor) -> tuple[Tensor, Tensor]:
        drawn, log_prob = actor(obs_of_policy)  # as in the original, with gradient to the policy, unused
        return first(obs, drawn) - log_prob.detach(), second(obs, drawn) - log_prob.detach()

    def once() -> None:
        nonlocal alpha
        obs, action, reward, next_obs, done = rows.sample()
        own, log_prob = actor(obs)
        actor_loss = (alpha * log_prob - torch.min(first(obs, own), second(obs, own))).mean()
        minimise(actor_loss, actor_adam)
        alpha_loss = -(log_alpha * (log_prob.detach() - rows.action)).mean()
        minimise(alpha_loss, alpha_adam)
        alpha = log_alpha.detach().exp()

        with torch.no_grad():
            following, _ = actor(next_obs)
            future = torch.min(first_target(next_obs, following), second_target(next_obs, following))
        wanted = reward + DISCOUNT * (1 - done) * future
        values = first(obs, action), second(obs, action)
        uniform = torch.FloatTensor(len(obs) * ACTIONS, rows.action).uniform_(-1, 1)
        here, there = tiled(obs), tiled(next_obs)
        at_here, at_there = values_of(here, here), values_of(here, there)
        density = math.log(0.5**rows.action)
        at_uniform = first(here, uniform) - density, second(here, uniform) - density
        losses = []
        for q, *proposals in zip(values, at_here, at_there, at_uniform, strict=True):
            conservative = torch.logsumexp(torch.cat(proposals, 1), dim=1).mean() * WEIGHT - q.mean() * WEIGHT
            losses.append(squared(q, wanted) + conservative)
        minimise(losses[0], first_adam, retain_graph=True)
        minimise(losses[1], second_adam)
        soft_update(first_target, first)
        soft_update(second_target, second)
        actor_loss.item(), losses[0].item(), losses[1].item(), alpha_loss.item(), alpha.item()

    return once
