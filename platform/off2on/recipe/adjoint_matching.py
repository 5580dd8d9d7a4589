"""Adjoint matching: move a flow to better actions without a gradient through its steps.

Domingo-Enrich et al., "Adjoint Matching", ICLR 2025, arXiv:2409.08861, as Li & Levine, "Q-learning with
Adjoint Matching", ICLR 2026, arXiv:2601.14234, use it. Two fields are followed in steps of h = 1 / T at the
times t_i = i h: f, which learns, and v, which stays behind it. Paths are random, with
sigma_i = sqrt(2 (1 - t_i + h) / (t_i + h)).

Shapes: ``B`` observations, ``D`` observation width, ``A`` action width, ``T`` steps of the path.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from off2on.recipe.flows import Velocity


def random_path(fast: Velocity, slow: Velocity, obs: Tensor, start: Tensor, noise: Tensor) -> Tensor:
    """Return the points [T + 1, B, A] of random paths; call it without gradient.

    x_{i+1} = x_i + h (2 f(s, x_i, t_i) - x_i / (t_i + h)) + sqrt(h) sigma_i n_i. The last step has no noise:
    x_T = x_{T-1} + h v(s, x_{T-1}, t_{T-1}).

    Args:
        fast: f.
        slow: v.
        obs: Observations [B, D].
        start: Starting points x_0 [B, A], from N(0, 1).
        noise: n [T - 1, B, A], from N(0, 1).
    """
    points, h = [start], 1 / (len(noise) + 1)
    for number, draw in enumerate(noise):
        point, t = points[-1], number * h
        velocity = 2 * fast(obs, point, _time(point, t)) - point / (t + h)
        points.append(point + h * velocity + math.sqrt(h) * _sigma(t, h) * draw)
    return torch.stack((*points, points[-1] + h * slow(obs, points[-1], _time(start, 1 - h))))


def adjoints(slow: Velocity, obs: Tensor, points: Tensor, cost: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the adjoints g_0 ... g_{T-1} [T, B, A] of a cost at the ends of paths.

    g_T is the gradient of the cost at x_T, and g_i = g_{i+1} + h J_i^T g_{i+1} with the Jacobian J_i at x_i
    of x -> 2 v(s, x, t_i + h) - x / (t_i + h). On a path that follows this velocity, g_i is the gradient of
    the cost with respect to x_i.

    Args:
        slow: v.
        obs: Observations [B, D].
        points: Points [T + 1, B, A].
        cost: Function from actions [B, A] to the sum [] of their costs.
    """
    steps, last = len(points) - 1, points[-1].detach().requires_grad_()
    with torch.enable_grad():
        (adjoint,) = torch.autograd.grad(cost(last), last)
    found = []
    for number in reversed(range(steps)):
        point, t = points[number].detach().requires_grad_(), (number + 1) / steps
        with torch.enable_grad():
            drift = 2 * slow(obs, point, _time(point, t)) - point / t
            (change,) = torch.autograd.grad((drift * adjoint).sum(), point)
        adjoint = adjoint + change / steps
        found.append(adjoint)
    return torch.stack(found[::-1])


def adjoint_matching(fast: Velocity, slow: Velocity, obs: Tensor, points: Tensor, adjoint: Tensor) -> Tensor:
    """Compute the loss E[ sum_i |2 (f(s, x_i, t_i) - v(s, x_i, t_i)) / sigma_i + sigma_i g_i|^2 ].

    The square is a sum over action dimensions. With adjoints of 0 the loss is smallest, 0, at f = v.

    Args:
        fast: f, which learns.
        slow: v, used without gradient.
        obs: Observations [B, D].
        points: Points [T + 1, B, A].
        adjoint: Adjoints [T, B, A].
    """
    h, points = 1 / len(adjoint), points[:-1]
    time = torch.stack([_time(point, number * h) for number, point in enumerate(points)])
    sigma = (2 * (1 - time + h) / (time + h)).sqrt()
    with torch.no_grad():
        base = slow(obs, points, time)
    error = 2 * (fast(obs, points, time) - base) / sigma + sigma * adjoint
    return error.square().sum((0, 2)).mean()


def _time(point: Tensor, time: float) -> Tensor:
    return torch.full_like(point[..., :1], time)


def _sigma(time: float, h: float) -> float:
    return math.sqrt(2 * (1 - time + h) / (time + h))
