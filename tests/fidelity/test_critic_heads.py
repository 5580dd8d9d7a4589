"""Critic heads: loops over rows, members, bins, quantiles and atoms, in double precision.

The projection is algorithm 1 of C51's paper, which divides each return between two atoms by index; the
package computes the shares of all atoms at once.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain import Layers, layers_of, members_of, perceptron, rows_of
from plain_flows import gelu, network, normalise
from torch import Tensor

from off2on.algorithms.cql import CQL
from off2on.algorithms.discrete_cql import DiscreteCQL
from off2on.algorithms.double_dqn import DoubleDQN
from off2on.algorithms.dqn import DQN
from off2on.algorithms.fql import FQL
from off2on.algorithms.iql import IQL
from off2on.algorithms.sac import SAC
from off2on.algorithms.td3_bc import TD3BC

Make = Callable[..., Any]
Returns = list[tuple[float, float]]
"""Possible returns and their probabilities."""

SEEDS = range(3)
HEADS = ("hl_gauss", "quantile", "c51")
ATOMS, LOW, HIGH = 9, -2.0, 2.5
GIVEN = {"atoms": ATOMS, "v_min": LOW, "v_max": HIGH}
TEXT = "plain loops from the head's paper, float64"


# A head, for one value of one row.


def support(head: str) -> list[float]:
    """The centres of the bins, or the atoms."""
    if head == "hl_gauss":
        return [LOW + (number + 0.5) * (HIGH - LOW) / ATOMS for number in range(ATOMS)]
    return [LOW + number * (HIGH - LOW) / (ATOMS - 1) for number in range(ATOMS)]


def shares(logits: Tensor) -> Tensor:
    return logits.exp() / logits.exp().sum()


def value(head: str, outputs: Tensor) -> Tensor:
    """The mean of the head's outputs [M]."""
    if head == "quantile":
        return outputs.sum() / ATOMS
    return sum(
        (p * at for p, at in zip(shares(outputs), support(head), strict=True)), torch.zeros(()).double()
    )


def returns(head: str, outputs: Tensor) -> Returns:
    """What a target is made of: possible returns."""
    if head == "quantile":
        return [(one.item(), 1 / ATOMS) for one in outputs]
    if head == "c51":
        return [(at, p.item()) for p, at in zip(shares(outputs), support(head), strict=True)]
    return [(value(head, outputs).item(), 1.0)]


def phi(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def gaussian_masses(target: float) -> list[float]:
    """The mass of N(target, 0.75 bins) in each bin, divided by that in all."""
    width = (HIGH - LOW) / ATOMS
    target = min(max(target, LOW), HIGH)
    mass = [
        phi((LOW + (k + 1) * width - target) / (0.75 * width))
        - phi((LOW + k * width - target) / (0.75 * width))
        for k in range(ATOMS)
    ]
    return [one / sum(mass) for one in mass]


def projected(target: Returns) -> list[float]:
    """Algorithm 1 of arXiv:1707.06887, lines 5 to 9."""
    mass, gap = [0.0] * ATOMS, (HIGH - LOW) / (ATOMS - 1)
    for at, p in target:
        b = (min(max(at, LOW), HIGH) - LOW) / gap
        low, high = math.floor(b), math.ceil(b)
        if low == high:
            mass[low] += p
        else:
            mass[low] += p * (high - b)
            mass[high] += p * (b - low)
    return mass


def error(head: str, outputs: Tensor, target: Returns) -> Tensor:
    """The head's error of outputs [M]."""
    if head != "quantile":
        mass = gaussian_masses(sum(at * p for at, p in target)) if head == "hl_gauss" else projected(target)
        terms = [-p * one.log() for p, one in zip(mass, shares(outputs), strict=True)]
        return sum(terms, torch.zeros(()).double())
    total = torch.zeros(()).double()
    for number, quantile in enumerate(outputs):  # equation 10 of arXiv:1710.10044
        level = (number + 0.5) / ATOMS
        for at, p in target:
            gap = at - quantile
            size = 0.5 * gap**2 if abs(gap.item()) <= 1 else abs(gap) - 0.5
            total = total + p * abs(level - (gap.item() < 0)) * size
    return total


# Targets of several critics.


def least(head: str, members: list[Tensor]) -> Returns:
    """The returns of the member of the smallest mean."""
    return returns(head, min(members, key=lambda outputs: value(head, outputs).item()))


def mixed(head: str, members: list[Tensor]) -> Returns:
    """The returns of a member drawn at random."""
    return [(at, p / len(members)) for outputs in members for at, p in returns(head, outputs)]


def moved(future: Returns, scale: float, shift: float) -> Returns:
    return [(shift + scale * at, p) for at, p in future]


def outputs_of(critic: Any, obs: Tensor, action: Tensor) -> list[Tensor]:
    """Each member's outputs [M] of one row."""
    return [perceptron(layers, torch.cat((obs.double(), action.double()))) for layers in members_of(critic)]


def policy(layers: Layers, obs: Tensor) -> Tensor:
    return perceptron(layers, obs).tanh()


def bellman(
    case: Any,
    batch: Any,
    future: Callable[[int], Returns],
    evaluate: Callable[..., list[Tensor]] = outputs_of,
) -> Tensor:
    """sum_i E[error of Q_i(s, a) against r + gamma m future]."""
    total = torch.zeros(()).double()
    for b in rows_of(batch):
        weighed = case.hp.discount * batch.mask[b].item()
        target = moved(future(b), weighed, batch.reward[b].item())
        for outputs in evaluate(case.nets.critic, batch.obs[b], batch.action[b]):
            total = total + error(case.hp.critic_head, outputs, target)
    return total / 64


def compare(
    fidelity: Any, name: str, case: Any, batch: Any, other: Tensor, seed: int, more: str = ""
) -> None:
    fidelity.compare(
        name, f"critic, {case.hp.critic_head}{more}", reference=TEXT, ours=case.loss("critic", batch, seed),
        theirs=other, network=case.nets.critic, tolerance=5e-5,
    )  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("head", HEADS)
def test_td3_bc(problem: Make, fidelity: Any, head: str, seed: int):
    case = problem(TD3BC, seed=seed, critic_head=head, target_noise=0.0, **GIVEN)
    batch, target = case.prepared(seed), case.nets.target

    def future(b: int) -> Returns:
        action = policy(layers_of(target.actor), batch.next_obs[b])
        return least(head, outputs_of(target.critic, batch.next_obs[b], action))

    compare(fidelity, "td3_bc", case, batch, bellman(case, batch, future), seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("head", HEADS)
def test_iql(problem: Make, fidelity: Any, head: str, seed: int):
    case = problem(IQL, seed=seed, critic_head=head, **GIVEN)
    batch, layers = case.prepared(seed), layers_of(case.nets.value)
    other = bellman(case, batch, lambda b: [(perceptron(layers, batch.next_obs[b]).item(), 1.0)])
    compare(fidelity, "iql", case, batch, other, seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("head", HEADS)
def test_sac(problem: Make, fidelity: Any, head: str, seed: int):
    case = problem(SAC, seed=seed, critic_head=head, initial_temperature=0.3, **GIVEN)
    batch, target = case.prepared(seed), case.nets.target
    torch.manual_seed(seed + 1)
    actions, log_probs = case.nets.actor(batch.next_obs).sample()  # held against loops by SAC's own rows

    def future(b: int) -> Returns:
        entropy = -0.3 * log_probs[b].item()
        return moved(least(head, outputs_of(target.critic, batch.next_obs[b], actions[b])), 1.0, entropy)

    compare(fidelity, "sac", case, batch, bellman(case, batch, future), seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("head", HEADS)
def test_cql(problem: Make, fidelity: Any, head: str, seed: int):
    case = problem(CQL, seed=seed, critic_head=head, samples=2, conservative_weight=0.7, **GIVEN)
    batch, target = case.prepared(seed), case.nets.target
    next_action, _ = batch.next_sample
    proposals, log_probs = batch.proposals

    def future(b: int) -> Returns:
        return least(head, outputs_of(target.critic, batch.next_obs[b], next_action[b]))

    gap = torch.zeros(()).double()
    for b in rows_of(batch):
        drawn = [outputs_of(case.nets.critic, batch.obs[b], action) for action in proposals[:, b]]
        taken = outputs_of(case.nets.critic, batch.obs[b], batch.action[b])
        for member, outputs in enumerate(taken):
            terms = [
                (value(head, each[member]) - log_prob.double()).exp()
                for each, log_prob in zip(drawn, log_probs[:, b], strict=True)
            ]
            gap = gap + sum(terms).log() - value(head, outputs)  # type: ignore[union-attr]
    other = bellman(case, batch, future) + 0.7 * gap / 64
    compare(fidelity, "cql", case, batch, other, seed)


def flow_outputs(critic: Any, obs: Tensor, action: Tensor) -> list[Tensor]:
    """Each member's outputs [M] of one row, with GELU and normalisation after it."""
    found = []
    for number in range(critic.members):
        x = torch.cat((obs.double(), action.double()))
        for place, layer in enumerate(critic.layers):
            if place:
                norm = critic.norms[place - 1]
                x = normalise(gelu(x), norm.weight[number, 0], norm.bias[number, 0])
            x = layer.weight[number].double() @ x + layer.bias[number, 0].double()
        found.append(x)
    return found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("aggregate", ["mean", "min"])
@pytest.mark.parametrize("head", HEADS)
def test_fql(problem: Make, fidelity: Any, head: str, aggregate: str, seed: int):
    case = problem(FQL, seed=seed, critic_head=head, aggregate=aggregate, flow_steps=2, **GIVEN)
    torch.manual_seed(7)
    next_noise = torch.randn(3, 64, 3)[2]
    batch, nets = case.prepared(7), case.nets

    def future(b: int) -> Returns:
        action = network(nets.actor.mlp, batch.next_obs[b], next_noise[b]).clamp(-1, 1)
        members = flow_outputs(nets.target.critic, batch.next_obs[b], action)
        return mixed(head, members) if aggregate == "mean" else least(head, members)

    compare(fidelity, "fql", case, batch, bellman(case, batch, future, flow_outputs), seed, f", {aggregate}")


def action_outputs(critic: Any, obs: Tensor) -> list[list[Tensor]]:
    """Each member's outputs [M] of each of the four actions, of one row."""
    return [list(perceptron(layers, obs).view(4, ATOMS)) for layers in members_of(critic)]


def best(head: str, members: list[list[Tensor]]) -> int:
    """The action of the largest mean value over members."""
    return max(range(4), key=lambda a: sum(value(head, outputs[a]).item() for outputs in members))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("name", "recipe"), [("dqn", DQN), ("double_dqn", DoubleDQN), ("discrete_cql", DiscreteCQL)]
)
def test_discrete(problem: Make, fidelity: Any, name: str, recipe: Any, head: str, seed: int):
    case = problem(recipe, seed=seed, critic_head=head, critics=2, **GIVEN)
    batch, nets = case.prepared(seed), case.nets

    def future(b: int) -> Returns:
        members = action_outputs(nets.target.critic, batch.next_obs[b])
        chooser = members if recipe is DQN else action_outputs(nets.critic, batch.next_obs[b])
        action = best(head, chooser)
        return least(head, [outputs[action] for outputs in members])

    def taken(critic: Any, obs: Tensor, action: Tensor) -> list[Tensor]:
        return [outputs[int(action.item())] for outputs in action_outputs(critic, obs)]

    other = bellman(case, batch, future, taken)
    if recipe is DiscreteCQL:
        for b in rows_of(batch):
            for outputs in action_outputs(nets.critic, batch.obs[b]):
                q = torch.stack([value(head, each) for each in outputs])
                other = other + case.hp.alpha * (q.exp().sum().log() - q[int(batch.action[b].item())]) / 64
    compare(fidelity, name, case, batch, other, seed, ", two critics")
