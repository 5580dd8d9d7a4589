"""FAN: loops over rows and members, in double precision."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain import average, least
from plain_flows import matching, network, values
from torch import Tensor

from off2on.algorithms.fan import FAN

SEEDS = range(3)
Make = Callable[..., Any]


def anchored(flow: Any, obs: Tensor, action: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """a - z - v(s, (1 - t) z + t a, t) of one row."""
    action, noise, time = action.double(), noise.double(), time.double()
    return action - noise - network(flow.mlp, obs, (1 - time) * noise + time * action, time)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("aggregate", "normalise_q"), [("mean", True), ("min", False)])
def test_fan(problem: Make, fidelity: Any, aggregate: str, normalise_q: bool, seed: int):
    case = problem(
        FAN, seed=seed, alpha1=1.7, alpha2=0.6, expectile=0.8, aggregate=aggregate, normalise_q=normalise_q
    )
    torch.manual_seed(7)
    start, noise, y, upper_y, z = torch.randn(5, 64, 3)
    time, actor_time, next_time = torch.rand(3, 64, 1)
    batch, nets, hp = case.prepared(7), case.nets, case.hp
    assert torch.equal(batch.start, start)
    assert torch.equal(batch.time, time)

    distances, q, upper = [], [], []
    for b in range(64):
        action = network(nets.actor.mlp, batch.obs[b], noise[b])
        distances.append((anchored(nets.flow, batch.obs[b], action, noise[b], actor_time[b]) ** 2).mean())
        q.append(average(values(nets.critic, batch.obs[b], action.clamp(-1, 1), y[b])))
        upper.append(average(values(nets.upper, batch.obs[b], action.clamp(-1, 1))))
    scales = [1 / average(v.abs() for v in of).detach() if normalise_q else 1.0 for of in (q, upper)]
    actor = 1.7 * average(distances) - scales[0] * average(q) - scales[1] * average(upper)

    errors = []
    for b in range(64):
        goal = average(values(nets.target.critic, batch.obs[b], batch.action[b], upper_y[b])).detach()
        upper = values(nets.upper, batch.obs[b], batch.action[b])
        errors += [(0.2 if goal < value else 0.8) * (goal - value) ** 2 for value in upper]
    expectile = average(errors)

    errors = []
    for b in range(64):
        obs, action = batch.next_obs[b], network(nets.actor.mlp, batch.next_obs[b], z[b]).clamp(-1, 1)
        future = (average if aggregate == "mean" else least)(values(nets.upper, obs, action))
        future = future - 0.6 * (anchored(nets.flow, obs, action, z[b], next_time[b]) ** 2).sum()
        target = (batch.reward[b].double() + hp.discount * batch.mask[b].double() * future).detach()
        errors += [(target - q) ** 2 for q in values(nets.critic, batch.obs[b], batch.action[b], z[b])]
    critic = average(errors) * nets.critic.members

    more = f", {aggregate}, {'scaled' if normalise_q else 'plain'} values"
    fidelity.compare_with_loops("fan", "actor", case, batch, actor, more)
    fidelity.compare_with_loops("fan", "critic", case, batch, critic, more)
    fidelity.compare_with_loops("fan", "flow", case, batch, matching(case, batch))
    fidelity.compare_with_loops("fan", "upper", case, batch, expectile)
