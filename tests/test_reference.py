"""Same weights, same batch, same random numbers: our losses and gradients beside those of d3rlpy 2.8.1.

d3rlpy pins another Gymnasium than RLlib does, so it is never a dependency: `make test` installs it beside
the pins. `pytest tests/test_reference.py -s` prints the largest relative error of every row.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from off2on.algorithms.bc import BC
from off2on.algorithms.cql import CQL
from off2on.algorithms.iql import IQL
from off2on.algorithms.sac import SAC
from off2on.algorithms.td3_bc import TD3BC
from off2on.seeding import POSITIONS, UPDATES, seed_of

d3rlpy = pytest.importorskip(
    "d3rlpy", reason="d3rlpy 2.8.1 is not installed here: make test", exc_type=ImportError
)

HIDDEN = (32, 32)
SEEDS = range(3)
TOLERANCE = 2e-5
"""Relative, for sums of float32 taken in another order."""

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def table() -> Iterator[dict[str, float]]:
    """Row → largest relative error; printed at the end."""
    rows: dict[str, float] = {}
    yield rows
    sys.stdout.write("\n" + "".join(f"{row:88s} {error:.1e}\n" for row, error in rows.items()))


def theirs(name: str, **options: Any) -> Any:
    """A d3rlpy implementation with small networks and a random state."""
    factory = d3rlpy.models.VectorEncoderFactory(hidden_units=list(HIDDEN))
    kind = getattr(d3rlpy.algos, f"{name}Config")
    encoders = [field for field in kind.__dataclass_fields__ if field.endswith("encoder_factory")]
    algo = kind(**dict.fromkeys(encoders, factory), **options).create("cpu:0")
    algo.create_impl((5,), 3)
    return algo.impl


def linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def value_of(parameter: nn.Parameter) -> Tensor:
    return parameter.detach()


def gradient_of(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


Take = Callable[[nn.Parameter], Tensor]


def perceptron(module: nn.Module, take: Take) -> Tensors:
    """A d3rlpy network, or its gradient, under our names."""
    named = {}
    for number, layer in enumerate(linears(module)):
        named[f"mlp.{2 * number}.weight"] = take(layer.weight)
        named[f"mlp.{2 * number}.bias"] = take(layer.bias)
    return named


def critics(modules: nn.ModuleList, take: Take) -> Tensors:
    """d3rlpy's list of networks is one ensemble of ours."""
    named = {}
    for number, layers in enumerate(zip(*map(linears, modules), strict=True)):
        named[f"layers.{number}.weight"] = torch.stack([take(layer.weight) for layer in layers])
        named[f"layers.{number}.bias"] = torch.stack([take(layer.bias).unsqueeze(0) for layer in layers])
    return named


def squashed(module: Any, take: Take) -> Tensors:
    """d3rlpy has a head each for mean and log sigma, we have one for both."""
    named = perceptron(module, take)
    last, spread = len(HIDDEN) * 2, len(HIDDEN) * 2 + 2
    for part in ("weight", "bias"):
        both = named[f"mlp.{last}.{part}"], named.pop(f"mlp.{spread}.{part}")
        named[f"mlp.{last}.{part}"] = torch.cat(both)
    return named


def gaussian(module: Any, take: Take) -> Tensors:
    """d3rlpy's log sigma is -5 + 7 sigmoid(p), ours is a number clipped to [-5, 2]."""
    named = perceptron(module, take)
    share = torch.sigmoid(module._logstd.detach()).squeeze(0)
    if take is value_of:
        named["log_std"] = -5 + 7 * share
    else:
        named["log_std"] = take(module._logstd).squeeze(0) / (7 * share * (1 - share))
    return named


def shake(modules: Any) -> None:
    """Move d3rlpy's targets and log sigma away from their first values."""
    with torch.no_grad():
        for name in ("targ_q_funcs", "targ_policy"):
            for parameter in getattr(modules, name, nn.Module()).parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        spread = getattr(modules.policy, "_logstd", None)
        if isinstance(spread, nn.Parameter):
            spread += torch.randn_like(spread)


def their_batch(batch: Any) -> Any:
    column = {name: getattr(batch, name).unsqueeze(1) for name in ("reward", "mask")}
    return d3rlpy.TorchMiniBatch(
        observations=batch.obs,
        actions=batch.action,
        rewards=column["reward"],
        next_observations=batch.next_obs,
        next_actions=torch.zeros_like(batch.action),
        returns_to_go=torch.zeros_like(column["reward"]),
        terminals=1 - column["mask"],
        intervals=torch.ones_like(column["reward"]),
        device="cpu:0",
    )


def note(table: dict[str, float], row: str, ours: Tensor, other: Tensor) -> None:
    """Compare, and keep the largest error of a row."""
    error = float((ours - other).norm() / other.norm())
    assert error < TOLERANCE, f"{row}: off by {error:.1e}"
    table[row] = max(error, table.get(row, 0.0))


def same(
    table: dict[str, float],
    row: str,
    ours: Tensor,
    other: Tensor,
    network: nn.Module,
    gradient: Callable[[], Tensors],
) -> None:
    """Compare two losses, and their gradients with respect to one network."""
    note(table, f"{row}: loss", ours.detach(), other.detach())
    named = dict(network.named_parameters())
    mine = dict(zip(named, torch.autograd.grad(ours, list(named.values())), strict=True))
    other.backward()
    note(table, f"{row}: gradient", flatten(mine), flatten(gradient()))


def flatten(named: Tensors) -> Tensor:
    return torch.cat([named[name].detach().flatten() for name in sorted(named)])


@pytest.mark.parametrize("seed", SEEDS)
def test_bc(problem: Callable[..., Any], table: dict[str, float], seed: int):
    case, impl = problem(BC, seed=seed), theirs("BC")
    imitator = impl._modules.imitator
    case.nets.actor.load_state_dict(perceptron(imitator, value_of))
    ours = case.loss("actor")
    other = impl.compute_loss(case.batch.obs, case.batch.action).loss
    same(table, "BC actor, =", ours, other, case.nets.actor, lambda: perceptron(imitator, gradient_of))


@pytest.mark.parametrize("seed", SEEDS)
def test_td3_bc(problem: Callable[..., Any], table: dict[str, float], seed: int):
    case, impl = problem(TD3BC, seed=seed), theirs("TD3PlusBC")
    modules, batch = impl._modules, their_batch(case.batch)
    shake(modules)
    case.nets.critic.load_state_dict(critics(modules.q_funcs, value_of))
    case.nets.target.critic.load_state_dict(critics(modules.targ_q_funcs, value_of))
    case.nets.actor.load_state_dict(perceptron(modules.policy, value_of))
    case.nets.target.actor.load_state_dict(perceptron(modules.targ_policy, value_of))

    ours = case.loss("critic", seed=seed)
    torch.manual_seed(seed + 1)
    other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
    same(
        table,
        "TD3+BC critic, =",
        ours,
        other,
        case.nets.critic,
        lambda: critics(modules.q_funcs, gradient_of),
    )

    ours = case.loss("actor")
    other = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss
    same(
        table,
        "TD3+BC actor, =",
        ours,
        other,
        case.nets.actor,
        lambda: perceptron(modules.policy, gradient_of),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_iql(problem: Callable[..., Any], table: dict[str, float], seed: int):
    case, impl = problem(IQL, seed=seed), theirs("IQL")
    modules, batch = impl._modules, their_batch(case.batch)
    shake(modules)
    case.nets.critic.load_state_dict(critics(modules.q_funcs, value_of))
    case.nets.target.critic.load_state_dict(critics(modules.targ_q_funcs, value_of))
    case.nets.actor.load_state_dict(gaussian(modules.policy, value_of))
    case.nets.value.load_state_dict(perceptron(modules.value_func, value_of))

    joint = impl.compute_critic_loss(batch, impl.compute_target(batch))
    value = lambda: perceptron(modules.value_func, gradient_of)  # noqa: E731
    same(table, "IQL value, =", case.loss("value"), joint.v_loss, case.nets.value, value)
    both = lambda: critics(modules.q_funcs, gradient_of)  # noqa: E731
    same(
        table,
        "IQL critic, = (2 x CORL's, which averages over critics)",
        case.loss("critic"),
        joint.q_loss,
        case.nets.critic,
        both,
    )
    other = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss
    actor = lambda: gaussian(modules.policy, gradient_of)  # noqa: E731
    same(table, "IQL actor, = (log sigma mapped)", case.loss("actor"), other, case.nets.actor, actor)


def match_soft(case: Any, modules: Any, log_temperature: float) -> None:
    """Give our SAC or CQL the networks of d3rlpy's, and both another temperature than 1."""
    with torch.no_grad():
        next(modules.log_temp.parameters()).fill_(log_temperature)
    case.nets.temperature.value.data.fill_(log_temperature)
    case.nets.critic.load_state_dict(critics(modules.q_funcs, value_of))
    case.nets.target.critic.load_state_dict(critics(modules.targ_q_funcs, value_of))
    case.nets.actor.load_state_dict(squashed(modules.policy, value_of))


@pytest.mark.parametrize("members", [2, 10])
@pytest.mark.parametrize("seed", SEEDS)
def test_sac(problem: Callable[..., Any], table: dict[str, float], seed: int, members: int):
    # Without a step size d3rlpy does not step the temperature inside its actor loss.
    case = problem(SAC, seed=seed, critics=members)
    impl = theirs("SAC", n_critics=members, temp_learning_rate=0.0)
    modules, batch = impl._modules, their_batch(case.batch)
    shake(modules)
    match_soft(case, modules, log_temperature=-0.7)

    ours = case.loss("critic", seed=seed)
    torch.manual_seed(seed + 1)
    other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
    row = f"SAC critic, {members} members, ="
    same(table, row, ours, other, case.nets.critic, lambda: critics(modules.q_funcs, gradient_of))

    ours = case.loss("actor", seed=seed)
    torch.manual_seed(seed)
    other = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss
    row = f"SAC actor, {members} members, = (its temperature not stepped inside)"
    same(table, row, ours, other, case.nets.actor, lambda: squashed(modules.policy, gradient_of))


@pytest.mark.parametrize("seed", SEEDS)
def test_temperature(problem: Callable[..., Any], table: dict[str, float], seed: int):
    case, impl = problem(SAC, seed=seed, temperature_form="alpha"), theirs("SAC", temp_learning_rate=1e-3)
    modules = impl._modules
    match_soft(case, modules, log_temperature=-0.7)
    batch = case.prepared(seed)
    ours = case.loss("temperature", batch)
    before = next(modules.log_temp.parameters())
    other = impl.update_temp(batch.own_log_prob.unsqueeze(1)).detach()
    (slope,) = torch.autograd.grad(ours, [case.nets.temperature.value])
    row = "SAC temperature, = with temperature_form=alpha"
    note(table, f"{row}: loss", ours.detach(), other)
    note(table, f"{row}: gradient", slope, before.grad.flatten())


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_cql(problem: Callable[..., Any], table: dict[str, float], seed: int, soft: bool):
    weight, threshold, samples = 5.0, 10.0, 10
    case = problem(CQL, seed=seed, conservative_weight=weight, samples=samples, entropy_backup=soft)
    impl = theirs(
        "CQL",
        conservative_weight=weight,
        alpha_threshold=threshold,
        n_action_samples=samples,
        soft_q_backup=soft,
        temp_learning_rate=0.0,
        alpha_learning_rate=0.0,
    )
    modules, batch = impl._modules, their_batch(case.batch)
    shake(modules)
    match_soft(case, modules, log_temperature=-0.7)

    torch.manual_seed(seed)
    other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
    other = other + 2 * weight * threshold  # subtracted even without a Lagrange multiplier
    # The same draws, in d3rlpy's order: next action (its mean, unless soft), pi(s), pi(s'), uniform.
    mine = case.prepared(seed)
    here, there = case.nets.actor(mine.obs), case.nets.actor(mine.next_obs)
    with torch.no_grad():
        torch.manual_seed(seed)
        mine.next_sample = there.sample() if soft else (there.mean, torch.zeros(64))
        own, next_own = here.sample(samples), there.sample(samples)
        uniform = torch.empty(64, samples, 3).uniform_(-1, 1).transpose(0, 1)
        density = torch.full((samples, 64), 0.5**3).log()
        mine.proposals = tuple(
            torch.cat(parts) for parts in zip((uniform, density), own, next_own, strict=True)
        )
    ours = case.loss("critic", mine)
    row = f"CQL critic, {'soft' if soft else 'deterministic'} target, = d3rlpy + 2 w tau"
    same(table, row, ours, other, case.nets.critic, lambda: critics(modules.q_funcs, gradient_of))

    ours = case.loss("actor", seed=seed)
    torch.manual_seed(seed)
    other = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss
    row = "CQL actor, = (its temperature not stepped inside)"
    same(table, row, ours, other, case.nets.actor, lambda: squashed(modules.policy, gradient_of))


# The machine, too: whole updates of the two algorithms whose order is the same in both libraries.


def next_batch(learner: Any) -> Any:
    """What the learner's next update will draw, with torch's random numbers set as it will set them."""
    where = learner.config.seed, learner.rank, learner.updates
    generator = torch.Generator().manual_seed(seed_of(POSITIONS, *where))
    position = learner.strategy.draw(1, learner.hp.batch_size, generator)
    (batch,) = learner.rows.gather(position)
    torch.manual_seed(seed_of(UPDATES, *where))
    return batch


def test_bc_for_fifty_updates(build_learner: Callable[..., Any], table: dict[str, float]):
    learner, impl = build_learner(BC, "wide"), theirs("BC", learning_rate=3e-4)
    imitator = impl._modules.imitator
    learner.nets.actor.load_state_dict(perceptron(imitator, value_of))
    for _ in range(50):
        batch = next_batch(learner)
        batch.reward, batch.mask, batch.next_obs = torch.zeros(32), torch.ones(32), batch.obs
        impl.inner_update(their_batch(batch), learner.updates + 1)
        learner.advance(1)
    after = flatten(perceptron(imitator, value_of))
    note(
        table,
        "BC, 50 updates with Adam: parameters",
        flatten(dict(learner.nets.actor.named_parameters())),
        after,
    )


def test_td3_bc_for_fifty_updates(build_learner: Callable[..., Any], table: dict[str, float]):
    learner, impl = build_learner(TD3BC, "wide", normalise_obs=False), theirs("TD3PlusBC")
    modules, nets = impl._modules, learner.nets
    pairs = [
        (nets.critic, modules.q_funcs, critics),
        (nets.target.critic, modules.targ_q_funcs, critics),
        (nets.actor, modules.policy, perceptron),
        (nets.target.actor, modules.targ_policy, perceptron),
    ]
    for mine, other, translate in pairs:
        mine.load_state_dict(translate(other, value_of))
    for _ in range(50):
        batch = next_batch(learner)
        impl.inner_update(their_batch(batch), learner.updates + 1)
        learner.advance(1)
    for name, (mine, other, translate) in zip(
        ("critic", "target critic", "actor", "target actor"), pairs, strict=True
    ):
        row = f"TD3+BC, 50 updates with Adam, {name}: parameters"
        note(table, row, flatten(dict(mine.named_parameters())), flatten(translate(other, value_of)))
