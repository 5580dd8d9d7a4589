"""QAM, QAM-E and QAM-F: loops over rows, steps and members, with explicit Jacobians, in double precision."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain import average
from plain_flows import bellman, combined, distillation, edit, matching, network, path, values
from torch import Tensor
from torch.autograd.functional import jacobian

from off2on.algorithms.qam import QAM
from off2on.algorithms.qam_e import QAME
from off2on.algorithms.qam_f import QAMF

STEPS, H, LAMBDA = 4, 0.25, 2.5
Make = Callable[..., Any]


def velocity(field: Any, obs: Tensor, point: Tensor, time: float) -> Tensor:
    return network(field.mlp, obs, point, torch.tensor([time]))


def random_path(nets: Any, obs: Tensor, start: Tensor, noise: Tensor) -> list[Tensor]:
    """The points of one row's path along f, and its last step along v'."""
    points = [start.double()]
    for i in range(STEPS - 1):
        t, point = i * H, points[-1]
        sigma = math.sqrt(2 * (1 - t + H) / (t + H))
        drift = 2 * velocity(nets.fast, obs, point, t) - point / (t + H)
        points.append((point + H * drift + math.sqrt(H) * sigma * noise[i].double()).detach())
    last = points[-1] + H * velocity(nets.target.flow, obs, points[-1], (STEPS - 1) * H)
    return [*points, last.detach()]


def adjoints(nets: Any, obs: Tensor, points: list[Tensor]) -> list[Tensor]:
    """g_0, g_1, … of one row, by the whole Jacobian of each step."""

    def cost(action: Tensor) -> Tensor:
        return -LAMBDA * average(values(nets.target.critic, obs, action.clamp(-1, 1)))

    adjoint = jacobian(cost, points[-1])
    found = []
    for i in reversed(range(STEPS)):
        later = (i + 1) * H

        def drift(point: Tensor, later: float = later) -> Tensor:
            return 2 * velocity(nets.target.flow, obs, point, later) - point / later

        adjoint = adjoint + H * jacobian(drift, points[i]).T @ adjoint
        found.insert(0, adjoint)
    return found


def fast_loss(nets: Any, batch: Any, start: Tensor, noise: Tensor) -> Tensor:
    """E sum_i |2 (f - v') / sigma_i + sigma_i g_i|^2."""
    errors = []
    for b in range(64):
        obs = batch.obs[b]
        points = random_path(nets, obs, start[b], noise[:, b])
        for i, adjoint in enumerate(adjoints(nets, obs, points)):
            sigma = math.sqrt(2 * (1 - i * H + H) / (i * H + H))
            base = velocity(nets.target.flow, obs, points[i], i * H).detach()
            error = 2 * (velocity(nets.fast, obs, points[i], i * H) - base) / sigma + sigma * adjoint
            errors.append((error**2).sum())
    return average(errors) * STEPS


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "recipe"), [("qam", QAM), ("qam_e", QAME), ("qam_f", QAMF)])
def test_qam(problem: Make, fidelity: Any, name: str, recipe: Any, seed: int):
    more: dict[str, Any] = {"qam_e": {"edit_scale": 0.4}, "qam_f": {"fql_alpha": 1.7}}.get(name, {})
    case = problem(recipe, seed=seed, inv_temp=LAMBDA, critics=3, flow_steps=STEPS, **more)
    nets = case.nets
    torch.manual_seed(7)
    start, path_start, next_noise = torch.randn(3, 64, 3)
    times, noise = torch.rand(64, 1), torch.randn(STEPS - 1, 64, 3)
    batch_noise = {"qam_e": 3, "qam_f": 1}.get(name, 0)
    others = [torch.randn(64, 3) for _ in range(batch_noise)]
    batch = case.prepared(7)
    assert torch.equal(batch.start, start)
    assert torch.equal(batch.time, times)

    def action(b: int) -> Tensor:
        if name == "qam_f":
            return network(nets.actor.mlp, batch.next_obs[b], next_noise[b]).clamp(-1, 1)
        end = path(nets.fast, batch.next_obs[b], next_noise[b], STEPS)
        if name == "qam":
            return end
        change, _ = edit(nets.actor, batch.next_obs[b], end, others[0][b])
        return (end + 0.4 * change).clamp(-1, 1)

    def future(b: int) -> Tensor:
        return combined(values(nets.target.critic, batch.next_obs[b], action(b)), case.hp)

    expected = {
        "flow": matching(case, batch),
        "fast": fast_loss(nets, batch, path_start, noise),
        "critic": bellman(case, batch, future) / 3,
    }
    if name == "qam_e":
        expected |= edit_losses(nets, batch, others[1], others[2])
    if name == "qam_f":
        expected["actor"] = distillation(nets, nets.fast, batch.obs, others[0], STEPS)
    for loss, other in expected.items():
        fidelity.compare_with_loops(name, loss, case, batch, other)


def edit_losses(nets: Any, batch: Any, base_noise: Tensor, noise: Tensor) -> dict[str, Tensor]:
    """The losses of the edits and their temperature, whose alpha is 1."""
    losses, entropy = [], []
    for b in range(64):
        base = path(nets.fast, batch.obs[b], base_noise[b], STEPS).detach()
        change, log_prob = edit(nets.actor, batch.obs[b], base, noise[b])
        q = average(values(nets.critic, batch.obs[b], (base + 0.4 * change).clamp(-1, 1)))
        losses.append(log_prob - q)
        entropy.append(-log_prob.detach())
    alpha = nets.temperature.value.double().exp().squeeze()
    return {"actor": average(losses), "temperature": alpha * (average(entropy) - (-1.5))}
