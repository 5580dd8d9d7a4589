"""MOPO, COMBO and MOBILE beside plain loops: MOPO's code is of TensorFlow 1, COMBO's was not published."""

from collections.abc import Callable
from typing import Any

import plain
import pytest
import torch
from torch import Tensor

from off2on.algorithms.combo import COMBO
from off2on.algorithms.mobile import MOBILE
from off2on.algorithms.mopo import MOPO

SEEDS = range(3)
LOOPS = "plain loops from the paper, float64"
LOG_TEMPERATURE, LOG_MULTIPLIER = -0.7, 0.3
SMALL = {
    "dynamics_hidden": (16, 16),
    "dynamics_decay": (0.0, 0.0, 0.0),
    "dynamics_members": 4,
    "dynamics_elites": 2,
    "termination": "never",
}


def case_of(problem: Callable[..., Any], recipe: Any, seed: int, **given: Any) -> Any:
    """A problem whose scalars and standardisation are not what they begin with."""
    case = problem(recipe, seed=seed, **SMALL, **given)
    nets = case.nets
    nets.temperature.value.data.fill_(LOG_TEMPERATURE)
    if hasattr(nets, "multiplier"):
        nets.multiplier.value.data.fill_(LOG_MULTIPLIER)
    nets.dynamics.mean.copy_(torch.randn(8))
    nets.dynamics.std.copy_(torch.rand(8) + 0.5)
    with torch.no_grad():
        nets.dynamics.max_log_var += torch.randn(6)
        nets.dynamics.min_log_var += 8 + torch.randn(6)
    return case


# The dynamics.


def softplus(x: Tensor) -> Tensor:
    return (1 + x.exp()).log()


def foretold(dynamics: Any, member: int, row: Tensor) -> tuple[Tensor, Tensor]:
    """One member's mean and log variance [D + 1] for one row of observation and action."""
    x = (row.double() - dynamics.mean.double()) / dynamics.std.double()
    for number, layer in enumerate(dynamics.layers):
        if number:
            x = x / (1 + (-x).exp())
        x = layer.weight[member].double() @ x + layer.bias[member, 0].double()
    high, low = dynamics.max_log_var.double(), dynamics.min_log_var.double()
    mean, log_var = x[:6], high - softplus(high - x[6:])
    return mean, low + softplus(log_var - low)


@pytest.mark.parametrize("seed", SEEDS)
def test_dynamics(problem: Callable[..., Any], fidelity: Any, seed: int):
    case = case_of(problem, MOPO, seed)
    dynamics, inputs, targets = case.nets.dynamics, torch.randn(4, 9, 8), torch.randn(4, 9, 6)
    other = torch.zeros((), dtype=torch.float64)
    for member in range(4):
        terms = []
        for row, target in zip(inputs[member], targets[member], strict=True):
            mean, log_var = foretold(dynamics, member, row)
            terms += list((mean - target) ** 2 / log_var.exp() + log_var)
        other = other + plain.average(terms)
    for high, low in zip(dynamics.max_log_var.double(), dynamics.min_log_var.double(), strict=True):
        other = other + 0.01 * high - 0.01 * low
    fidelity.compare(
        "mopo",
        "dynamics",
        reference=LOOPS,
        ours=dynamics.loss(inputs, targets),
        theirs=other,
        network=dynamics,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_imagined_reward(problem: Callable[..., Any], fidelity: Any, seed: int):
    case = case_of(problem, MOPO, seed, penalty=2.5)
    dynamics, batch = case.nets.dynamics, case.batch
    _, std = dynamics.predict(batch.obs, batch.action)
    ours = MOPO.rollout_reward(batch.reward, std, case.hp)
    theirs = []
    for row in range(64):
        sizes = []
        for member in range(4):
            _, log_var = foretold(dynamics, member, torch.cat((batch.obs[row], batch.action[row])))
            sizes.append(log_var.exp().sum().sqrt())
        theirs.append(batch.reward[row] - 2.5 * max(sizes))
    fidelity.compare(
        "mopo", "imagined reward", reference=LOOPS, ours=ours, theirs=torch.stack(theirs).detach()
    )


# SAC's and CQL's losses on a batch of recorded and imagined rows.


def next_values(case: Any, action: list[Tensor], log_prob: list[Tensor], alpha: float) -> list[Tensor]:
    """Each row's r + gamma (min_j Q'_j(s', a') - alpha log pi(a'|s'))."""
    batch, rows = case.batch, []
    for row in range(64):
        q = plain.smallest(case.nets.target.critic, batch.next_obs[row], action[row])
        rows.append(batch.reward[row] + case.hp.discount * batch.mask[row] * (q - alpha * log_prob[row]))
    return [one.detach() for one in rows]


def drawn(case: Any, obs: Tensor, noise: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The policy's action and log density of each row."""
    pairs = [plain.squashed(case.nets.actor, s, e) for s, e in zip(obs, noise, strict=True)]
    return [action for action, _ in pairs], [log_prob for _, log_prob in pairs]


def squares(case: Any, target: list[Tensor]) -> Tensor:
    """sum_i E[ (y - Q_i(s, a))^2 ]."""
    batch, errors = case.batch, []
    for row in range(64):
        q = plain.values(case.nets.critic, batch.obs[row], batch.action[row])
        errors.append(sum((target[row] - one) ** 2 for one in q))
    return plain.average(errors)


def compare(
    fidelity: Any, name: str, loss: str, ours: Tensor, theirs: Tensor, network: Any, where: str = ""
) -> None:
    fidelity.compare(name, loss, reference=LOOPS + where, ours=ours, theirs=theirs, network=network)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("recipe", "name"), [(MOPO, "mopo"), (COMBO, "combo"), (MOBILE, "mobile")])
def test_temperature_and_actor(problem: Callable[..., Any], fidelity: Any, recipe: Any, name: str, seed: int):
    case = case_of(problem, recipe, seed)
    assert 0 < case.batch.real < 64
    torch.manual_seed(seed)
    own, log_prob = drawn(case, case.batch.obs, torch.randn(64, 3))
    wanted = -3.0  # MOPO's, and minus the number of action dimensions
    log_alpha = case.nets.temperature.value.double().squeeze()
    other = -plain.average(log_alpha * (one.detach() + wanted) for one in log_prob)
    compare(fidelity, name, "temperature", case.loss("temperature", seed=seed), other, case.nets.temperature)
    alpha = log_alpha.detach().exp()
    q = [plain.smallest(case.nets.critic, case.batch.obs[row], own[row]) for row in range(64)]
    other = plain.average(alpha * log_prob[row] - q[row] for row in range(64))
    compare(fidelity, name, "actor", case.loss("actor", seed=seed), other, case.nets.actor)


@pytest.mark.parametrize("seed", SEEDS)
def test_mopos_critic(problem: Callable[..., Any], fidelity: Any, seed: int):
    case = case_of(problem, MOPO, seed)
    torch.manual_seed(seed + 1)
    following = drawn(case, case.batch.next_obs, torch.randn(64, 3))
    alpha = torch.tensor(LOG_TEMPERATURE).double().exp().item()
    other = squares(case, next_values(case, *following, alpha))
    compare(fidelity, "mopo", "critic", case.loss("critic", seed=seed), other, case.nets.critic)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rho", ["mixed", "model"])
def test_combos_critic_and_multiplier(problem: Callable[..., Any], fidelity: Any, rho: str, seed: int):
    samples, tau, weight = 2, 0.7, 3.0
    case = case_of(problem, COMBO, seed, samples=samples, threshold=tau, conservative_weight=weight, rho=rho)
    batch, nets, real = case.batch, case.nets, case.batch.real
    assert real == 32
    ours = {name: case.loss(name, seed=seed) for name in ("critic", "multiplier")}

    # The numbers in the order in which CQL draws them.
    torch.manual_seed(seed)
    torch.randn(64, 3)
    following = drawn(case, batch.next_obs, torch.randn(64, 3))
    uniform = torch.empty(samples, 64, 3).uniform_(-1, 1)
    here = [drawn(case, batch.obs, noise) for noise in torch.randn(samples, 64, 3)]
    there = [drawn(case, batch.next_obs, noise) for noise in torch.randn(samples, 64, 3)]

    down = {0: [], 1: []}
    for row in range(real if rho == "model" else 0, 64):
        proposed = [
            (uniform[n, row], torch.tensor(0.5**3, dtype=torch.float64).log()) for n in range(samples)
        ]
        proposed += [(action[row], log_prob[row]) for action, log_prob in here + there]
        totals = [torch.zeros((), dtype=torch.float64)] * 2
        for action, log_prob in proposed:
            q = plain.values(nets.critic, batch.obs[row], action.detach())
            totals = [total + (one - log_prob.detach()).exp() for total, one in zip(totals, q, strict=True)]
        for member in range(2):
            down[member].append(totals[member].log())
    up = {0: [], 1: []}
    for row in range(real):
        for member, q in enumerate(plain.values(nets.critic, batch.obs[row], batch.action[row])):
            up[member].append(q)
    multiplier = nets.multiplier.value.double().squeeze().exp()
    costs = [
        multiplier * weight * (plain.average(down[member]) - plain.average(up[member]) - tau)
        for member in range(2)
    ]
    critic = squares(case, next_values(case, *following, 0.0)) + sum(costs)
    compare(fidelity, "combo", "critic", ours["critic"], critic, nets.critic, f", rho = {rho}")
    multipliers = -plain.average(costs)
    compare(
        fidelity, "combo", "multiplier", ours["multiplier"], multipliers, nets.multiplier, f", rho = {rho}"
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("several", [1, 3])
def test_mobiles_critic(problem: Callable[..., Any], fidelity: Any, seed: int, several: int):
    """U(s, a): the spread over the elites of the mean over samples of the next state's value."""
    given = {"penalty": 1.7, "penalty_samples": 2, "value_floor": -0.5, "backup_actions": several}
    case = case_of(problem, MOBILE, seed, real_ratio=0.5, **given)
    batch, nets, hp, real = case.batch, case.nets, case.hp, case.batch.real
    assert real == 32
    ours = case.loss("critic", seed=seed)

    torch.manual_seed(seed + 1)
    first = torch.randn(64, 3)
    drawn_next = torch.randn(several, 64, 3) if several > 1 else first.unsqueeze(0)
    state_noise = torch.randn(2, 2, 64 - real, 5)
    action_noise = torch.randn(2 * 2 * (64 - real), 3).view(2, 2, 64 - real, 3)
    nets.dynamics.elites.copy_(torch.tensor([0, 1]))
    targets, floors = [], 0
    for row in range(64):
        actions = [plain.squashed(nets.actor, batch.next_obs[row], e[row])[0] for e in drawn_next]
        every = [plain.values(nets.target.critic, batch.next_obs[row], a) for a in actions]
        future = plain.least([max(q, key=lambda one: one.item()) for q in zip(*every, strict=True)])
        target = batch.reward[row].double() + hp.discount * batch.mask[row].double() * future
        if row >= real:
            beliefs = []
            for place, member in enumerate((0, 1)):
                mean, log_var = foretold(
                    nets.dynamics, member, torch.cat((batch.obs[row], batch.action[row]))
                )
                values = []
                for draw in range(2):
                    apart = state_noise[draw, place, row - real].double() * (log_var[:5] / 2).exp()
                    state = batch.obs[row].double() + mean[:5] + apart
                    action, _ = plain.squashed(nets.actor, state, action_noise[draw, place, row - real])
                    values.append(plain.smallest(nets.target.critic, state, action))
                beliefs.append(plain.average(values))
            middle = plain.average(beliefs)
            target = target - 1.7 * sum((one - middle) ** 2 for one in beliefs).sqrt()  # divided by 2 - 1
        floors += int(target < -0.5)
        targets.append(target.detach().clamp(min=-0.5))
    assert 0 < floors < 64
    name = "critic, best of several actions" if several > 1 else "critic"
    compare(fidelity, "mobile", name, ours, squares(case, targets), nets.critic)
