"""DDPG, TD3, ReBRAC and ISPI: d3rlpy where it has them, else loops over rows."""

import dataclasses
from collections.abc import Callable
from typing import Any

import d3rlpy_reference as reference
import pytest
import torch
from d3rlpy_reference import critics, gradient_of, perceptron, same, shake, theirs, value_of
from plain import layers_of, values
from plain import perceptron as network_of
from torch import Tensor, nn

from off2on.algorithms.ddpg import DDPG
from off2on.algorithms.ispi_c import ISPIC
from off2on.algorithms.ispi_s import ISPIS
from off2on.algorithms.rebrac import ReBRAC
from off2on.algorithms.td3 import TD3
from off2on.recipe.batch import Batch

SEEDS = range(3)
Make = Callable[..., Any]


# d3rlpy.


def normalised(modules: nn.ModuleList, take: reference.Take) -> reference.Tensors:
    """d3rlpy's critics with their layer normalisations, which follow the ReLU there too."""
    named = critics(modules, take)
    each = [[part for part in one.modules() if isinstance(part, nn.LayerNorm)] for one in modules]
    for number, norms in enumerate(zip(*each, strict=True)):
        for name in ("weight", "bias"):
            parts = [take(getattr(norm, name)).unsqueeze(0) for norm in norms]
            named[f"norms.{number}.{name}"] = torch.stack(parts)
    return named


def beside(fidelity: Any, name: str, case: Any, impl: Any, translate: Any, seed: int) -> None:
    """Both losses, with d3rlpy's weights in our networks."""
    modules, batch = impl._modules, reference.their_batch(case.batch)
    if hasattr(case.batch, "next_action"):
        batch = dataclasses.replace(batch, next_actions=case.batch.next_action)
    shake(modules)
    case.nets.critic.load_state_dict(translate(modules.q_funcs, value_of))
    case.nets.target.critic.load_state_dict(translate(modules.targ_q_funcs, value_of))
    case.nets.actor.load_state_dict(perceptron(modules.policy, value_of))
    case.nets.target.actor.load_state_dict(perceptron(modules.targ_policy, value_of))

    ours = case.loss("critic", seed=seed)
    torch.manual_seed(seed + 1)
    other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
    critic = lambda: translate(modules.q_funcs, gradient_of)  # noqa: E731
    same(fidelity, name, "critic", ours, other, case.nets.critic, critic)

    other = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss
    actor = lambda: perceptron(modules.policy, gradient_of)  # noqa: E731
    same(fidelity, name, "actor", case.loss("actor"), other, case.nets.actor, actor)


@pytest.mark.parametrize("seed", SEEDS)
def test_ddpg(problem: Make, fidelity: Any, seed: int):
    # d3rlpy clips the target's action to [-1, 1], where tanh has put it already.
    beside(fidelity, "ddpg", problem(DDPG, seed=seed), theirs("DDPG"), critics, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_td3(problem: Make, fidelity: Any, seed: int):
    beside(fidelity, "td3", problem(TD3, seed=seed), theirs("TD3"), critics, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_rebrac(problem: Make, fidelity: Any, seed: int):
    factory = reference.d3rlpy.models.VectorEncoderFactory([32, 32], use_layer_norm=True)
    impl = theirs("ReBRAC", actor_beta=0.3, critic_beta=0.7, critic_encoder_factory=factory)
    case = problem(ReBRAC, seed=seed, actor_beta=0.3, critic_beta=0.7)
    with torch.no_grad():
        for norm in impl._modules.q_funcs.modules():
            if isinstance(norm, nn.LayerNorm):
                norm.weight += 0.3 * torch.randn_like(norm.weight)
    # d3rlpy takes the next action of an episode's last row for one of the data's; here all rows have one.
    case.batch.last = torch.zeros(64)
    case.batch.next_action = torch.rand(64, 3) * 1.9 - 0.95
    beside(fidelity, "rebrac", case, impl, normalised, seed)


# Loops over rows and members, in double precision.


def plain_compare(
    fidelity: Any, name: str, loss: str, case: Any, batch: Batch, other: Tensor, seed: int, text: str
) -> None:
    ours = case.loss(loss, batch, seed)
    fidelity.compare(
        name, loss, reference=text, ours=ours, theirs=other, network=getattr(case.nets, loss), tolerance=5e-5
    )


def policy(actor: Any, obs: Tensor) -> Tensor:
    """tanh f(s) of one row."""
    return network_of(layers_of(actor), obs).tanh()


def noises(case: Any, seed: int) -> Tensor:
    """The clipped noise of the target's action, as the loss will draw it."""
    torch.manual_seed(seed + 1)
    bound = case.hp.noise_clip
    return (case.hp.target_noise * torch.randn(64, 3)).double().clamp(-bound, bound)


def smooth(action: Tensor, noise: Tensor) -> Tensor:
    return (action + noise).clamp(-1, 1)


def squares(one: Tensor, other: Tensor) -> Tensor:
    """The squared distance of two rows."""
    return sum(((one[k] - other[k]) ** 2 for k in range(len(one))), torch.zeros((), dtype=torch.float64))


def mean(numbers: list[Tensor]) -> Tensor:
    return torch.stack(numbers).mean()


def td3_critic(case: Any, batch: Batch, seed: int) -> Tensor:
    """sum_i E[(r + gamma min_j Q'_j(s', a') - Q_i(s, a))^2]."""
    nets, noise, errors = case.nets, noises(case, seed), []
    for b in range(64):
        action = smooth(policy(nets.target.actor, batch.next_obs[b]), noise[b])
        future = min(q.item() for q in values(nets.target.critic, batch.next_obs[b], action))
        target = batch.reward[b].item() + case.hp.discount * batch.mask[b].item() * future
        errors += [(q - target) ** 2 for q in values(nets.critic, batch.obs[b], batch.action[b])]
    return sum(errors, torch.zeros((), dtype=torch.float64)) / 64


@pytest.mark.parametrize("seed", SEEDS)
def test_ispi_s(problem: Make, fidelity: Any, seed: int):
    text = "plain loops, the authors' ISPI_S"
    case = problem(ISPIS, seed=seed, reference_weight=0.7, alpha=1.7)
    nets, batch = case.nets, case.prepared()
    plain_compare(fidelity, "ispi_s", "critic", case, batch, td3_critic(case, batch, seed), seed, text)

    pairs = zip(nets.reference.parameters(), nets.actor.parameters(), strict=True)
    apart = [(mine.double() - its.detach().double()) ** 2 for mine, its in pairs]
    other = 0.5 * torch.cat([part.flatten() for part in apart]).sum()
    one_step = "its hard copy, as the gradient of a step of size 1"
    plain_compare(fidelity, "ispi_s", "reference", case, batch, other, seed, one_step)

    actions = [policy(nets.actor, batch.obs[b]) for b in range(64)]
    q = [values(nets.critic, batch.obs[b], actions[b])[0] for b in range(64)]
    scale = 1.7 / (sum(abs(one.item()) for one in q) / 64)
    held = [squares(actions[b], policy(nets.reference, batch.obs[b]).detach()) / 3 for b in range(64)]
    clone = [squares(actions[b], batch.action[b].double()) / 3 for b in range(64)]
    other = -scale * mean(q) + 0.7 * mean(held) + 0.3 * mean(clone)
    plain_compare(fidelity, "ispi_s", "actor", case, batch, other, seed, text)


@pytest.mark.parametrize("seed", SEEDS)
def test_ispi_c(problem: Make, fidelity: Any, seed: int):
    text = "plain loops, the authors' ISPI_C"
    case = problem(ISPIC, seed=seed, rival_weight=0.7, alpha=1.7)
    nets, batch, target = case.nets, case.prepared(), case.nets.target
    noise = noises(case, seed)
    y = []
    for b in range(64):
        future = []
        for actor, critic in ((target.actor, target.critic), (target.rival_actor, target.rival_critic)):
            action = smooth(policy(actor, batch.next_obs[b]), noise[b])
            future.append(values(critic, batch.next_obs[b], action)[0].item())
        y.append(batch.reward[b].item() + case.hp.discount * batch.mask[b].item() * min(future))
    for name, critic in (("critic", nets.critic), ("rival_critic", nets.rival_critic)):
        errors = [(values(critic, batch.obs[b], batch.action[b])[0] - y[b]) ** 2 for b in range(64)]
        plain_compare(fidelity, "ispi_c", name, case, batch, mean(errors), seed, text)

    halves = []
    both = ((nets.actor, nets.critic, "actor"), (nets.rival_actor, nets.rival_critic, "rival_actor"))
    for (actor, critic, name), (rival, its, _) in (both, both[::-1]):
        q, gaps, clones = [], [], []
        for b in range(64):
            mine, other = policy(actor, batch.obs[b]), policy(rival, batch.obs[b])
            q.append(values(critic, batch.obs[b], mine)[0])
            ahead = values(its, batch.obs[b], other)[0].item() - q[-1].item()
            weight = 1.0 if ahead > 0 else 0.5 if ahead == 0 else 0.0
            halves.append(weight)
            gaps.append(weight * squares(mine, other) / 3)
            clones.append(squares(mine, batch.action[b].double()) / 3)
        scale = 1.7 / (sum(abs(one.item()) for one in q) / 64)
        loss = -scale * mean(q) + 0.7 * mean(gaps) + 0.3 * mean(clones)
        plain_compare(fidelity, "ispi_c", name, case, batch, loss, seed, text)
    assert {0.0, 1.0} <= set(halves)


def normalised_values(critic: Any, obs: Tensor, action: Tensor) -> list[Tensor]:
    """Each member's value of one row, the hidden layers normalised after their ReLU."""
    found = []
    for e in range(critic.members):
        x = torch.cat((obs.double(), action.double()))
        for number, layer in enumerate(critic.layers):
            if number:
                x = x.clamp(min=0)
                spread = (((x - x.mean()) ** 2).mean() + 1e-5).sqrt()
                norm = critic.norms[number - 1]
                x = (x - x.mean()) / spread * norm.weight[e, 0].double() + norm.bias[e, 0].double()
            x = layer.weight[e].double() @ x + layer.bias[e, 0].double()
        found.append(x.squeeze())
    return found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("progress", [0.5, 1.25])
def test_rebrac_at_the_end_of_episodes_and_online(problem: Make, fidelity: Any, seed: int, progress: float):
    text = "plain loops from the paper" if progress < 1 else "plain loops, the authors' fine-tuning"
    case = problem(ReBRAC, seed=seed, actor_beta=0.3, critic_beta=0.7)
    case.batch.progress = progress
    nets, batch, noise = case.nets, case.prepared(), noises(case, seed)
    beta_1, beta_2 = (0.3, 0.7) if progress < 1 else (0.75 * 0.3, 0.0)
    assert ((batch.last == 1) & (batch.mask == 1)).any()
    errors, pulls, q = [], [], []
    for b in range(64):
        action = smooth(policy(nets.target.actor, batch.next_obs[b]), noise[b])
        future = min(v.item() for v in normalised_values(nets.target.critic, batch.next_obs[b], action))
        if batch.last[b] == 0:
            future -= beta_2 * squares(action, batch.next_action[b].double()).item()
        y = batch.reward[b].item() + case.hp.discount * batch.mask[b].item() * future
        errors += [(v - y) ** 2 for v in normalised_values(nets.critic, batch.obs[b], batch.action[b])]
        mine = policy(nets.actor, batch.obs[b])
        pulls.append(squares(mine, batch.action[b].double()))
        q.append(min(normalised_values(nets.critic, batch.obs[b], mine), key=Tensor.item))
    loss = sum(errors, torch.zeros((), dtype=torch.float64)) / 64
    plain_compare(fidelity, "rebrac", "critic", case, batch, loss, seed, text)
    scale = 1 / (sum(abs(one.item()) for one in q) / 64)
    loss = beta_1 * mean(pulls) - scale * mean(q)
    plain_compare(fidelity, "rebrac", "actor", case, batch, loss, seed, text)
