"""BCQ, BEAR and PLAS beside d3rlpy with its decoder's flag put right.

d3rlpy's `VAEDecoder` squashes its output exactly where it is asked not to.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from d3rlpy.algos.qlearning.torch.sac_impl import SACImpl
from d3rlpy.models.torch import VAEDecoder, compute_vae_error
from d3rlpy_reference import (
    Tensors,
    critics,
    gradient_of,
    linears,
    perceptron,
    shake,
    squashed,
    their_batch,
    theirs,
    value_of,
)
from torch import Tensor, nn

from off2on.algorithms.bcq import BCQ
from off2on.algorithms.bear import BEAR
from off2on.algorithms.plas import PLAS

SEEDS = range(3)
D3RLPY = "d3rlpy 2.8.1, its decoder's squash put right"
LOOPS = "plain loops from the authors' code, float64"
VAE = {"vae_hidden": (32, 32)}
LOG_ALPHA = 0.3

Case = Any
Draw = Callable[..., None]


@pytest.fixture(autouse=True)
def upright(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder squashes when it is asked to."""

    def forward(self: Any, x: Tensor, latent: Tensor, with_squash: bool) -> Tensor:
        raw = self._fc(self._encoder(x, latent))
        return raw.tanh() if with_squash else raw

    monkeypatch.setattr(VAEDecoder, "forward", forward)


def autoencoder(modules: Any, take: Callable[[nn.Parameter], Tensor]) -> Tensors:
    """d3rlpy's encoder has a head each for mean and log sigma, ours has one for both."""
    named = {}
    *body, mean, log_std = linears(modules.vae_encoder)
    for number, layer in enumerate(body):
        named[f"encoder.{2 * number}.weight"] = take(layer.weight)
        named[f"encoder.{2 * number}.bias"] = take(layer.bias)
    last = f"encoder.{2 * len(body)}"
    named[f"{last}.weight"] = torch.cat((take(mean.weight), take(log_std.weight)))
    named[f"{last}.bias"] = torch.cat((take(mean.bias), take(log_std.bias)))
    decoder = perceptron(modules.vae_decoder, take)
    return named | {f"decoder{name.removeprefix('mlp')}": value for name, value in decoder.items()}


def beside(
    fidelity: Any, row: tuple[str, str], ours: Tensor, other: Tensor, network: nn.Module, gradient: Any
) -> None:
    """Compare with d3rlpy a loss, and its gradient with respect to a network."""
    other.backward()
    fidelity.compare(*row, reference=D3RLPY, ours=ours, theirs=other, network=network, gradient=gradient())


def match(case: Case, modules: Any, actor: Callable[..., Tensors]) -> None:
    """Give our networks the weights of d3rlpy's."""
    shake(modules)
    nets = case.nets
    nets.vae.load_state_dict(autoencoder(modules, value_of), strict=False)
    nets.critic.load_state_dict(critics(modules.q_funcs, value_of))
    nets.target.critic.load_state_dict(critics(modules.targ_q_funcs, value_of))
    nets.actor.load_state_dict(actor(modules.policy, value_of), strict=False)
    if hasattr(modules, "targ_policy"):
        nets.target.actor.load_state_dict(actor(modules.targ_policy, value_of), strict=False)


def compare_vae(fidelity: Any, name: str, case: Case, impl: Any, weight: float, seed: int) -> None:
    modules, batch = impl._modules, case.batch
    ours = case.loss("vae", seed=seed)
    torch.manual_seed(seed + 1)
    other = compute_vae_error(modules.vae_encoder, modules.vae_decoder, batch.obs, batch.action, weight)
    beside(fidelity, (name, "vae"), ours, other, case.nets.vae, lambda: autoencoder(modules, gradient_of))


@pytest.mark.parametrize("seed", SEEDS)
def test_bcq(problem: Callable[..., Any], fidelity: Any, draw: Draw, seed: int):
    case, impl = problem(BCQ, seed=seed, **VAE), theirs("BCQ", n_action_samples=10)
    modules, batch = impl._modules, their_batch(case.batch)
    match(case, modules, perceptron)
    compare_vae(fidelity, "bcq", case, impl, 0.5, seed)

    latents = torch.randn(10, 64, 6)
    one = torch.randn(64, 6)
    draw(latents)
    ours = case.loss("critic")
    draw(latents.transpose(0, 1).reshape(640, 6))
    other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
    gradient = lambda: critics(modules.q_funcs, gradient_of)  # noqa: E731
    beside(fidelity, ("bcq", "critic"), ours, other, case.nets.critic, gradient)

    draw(one)
    ours = case.loss("actor")
    proposal = modules.vae_decoder(batch.observations, one.clamp(-0.5, 0.5))
    other = impl.compute_actor_loss(batch, modules.policy(batch.observations, proposal)).actor_loss
    gradient = lambda: perceptron(modules.policy, gradient_of)  # noqa: E731
    beside(fidelity, ("bcq", "actor"), ours, other, case.nets.actor, gradient)


@pytest.mark.parametrize("seed", SEEDS)
def test_bcq_acts_as_d3rlpy_does(problem: Callable[..., Any], fidelity: Any, draw: Draw, seed: int):
    case, impl = problem(BCQ, seed=seed, **VAE), theirs("BCQ", n_action_samples=100)
    match(case, impl._modules, perceptron)
    latents = torch.randn(100, 64, 6)
    draw(latents)
    ours = BCQ.act(case.nets, case.batch.obs, case.hp, True)
    draw(latents.transpose(0, 1).reshape(6400, 6))
    other = impl.inner_predict_best_action(case.batch.obs)
    fidelity.compare("bcq", "action", reference=D3RLPY, ours=ours, theirs=other)


@pytest.mark.parametrize("reach", [0.0, 0.05])
@pytest.mark.parametrize("seed", SEEDS)
def test_plas(problem: Callable[..., Any], fidelity: Any, seed: int, reach: float):
    case = problem(PLAS, seed=seed, perturbation=reach, **VAE)
    impl = theirs("PLASWithPerturbation", action_flexibility=reach) if reach else theirs("PLAS")
    modules, batch = impl._modules, their_batch(case.batch)
    match(case, modules, perceptron)
    if reach:
        with torch.no_grad():
            for parameter in modules.targ_perturbation.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        case.nets.actor.correct.load_state_dict(perceptron(modules.perturbation, value_of))
        case.nets.target.actor.correct.load_state_dict(perceptron(modules.targ_perturbation, value_of))
    name, plus = "plas", ", with perturbation" if reach else ""
    compare_vae(fidelity, name, case, impl, 0.5, seed)

    ours = case.loss("critic")
    other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
    gradient = lambda: critics(modules.q_funcs, gradient_of)  # noqa: E731
    beside(fidelity, (name, f"critic{plus}"), ours, other, case.nets.critic, gradient)

    ours = case.loss("actor")
    other = impl.compute_actor_loss(batch, modules.policy(batch.observations)).actor_loss

    def both() -> Tensors:
        of_policy = perceptron(modules.policy, gradient_of)
        if not reach:
            return of_policy
        correction = perceptron(modules.perturbation, gradient_of)
        return of_policy | {f"correct.{name}": value for name, value in correction.items()}

    beside(fidelity, (name, f"actor{plus}"), ours, other, case.nets.actor, both)
    action = PLAS.act(case.nets, case.batch.obs, case.hp, False)
    other = impl.inner_predict_best_action(case.batch.obs)
    fidelity.compare(name, f"action{plus}", reference=D3RLPY, ours=action, theirs=other)


@pytest.mark.parametrize("kernel", ["laplacian", "gaussian"])
@pytest.mark.parametrize("seed", SEEDS)
def test_bear(problem: Callable[..., Any], fidelity: Any, draw: Draw, seed: int, kernel: str):
    case = problem(BEAR, seed=seed, kernel=kernel, sigma=2.0, slow_actor=False, **VAE)
    # Almost no temperature: d3rlpy's BEAR is a SAC underneath, the paper's is not.
    impl = theirs("BEAR", mmd_kernel=kernel, mmd_sigma=2.0, initial_temperature=1e-20, temp_learning_rate=0.0)
    modules, batch = impl._modules, their_batch(case.batch)
    match(case, modules, squashed)
    log_alpha = next(modules.log_alpha.parameters())
    with torch.no_grad():
        log_alpha.fill_(LOG_ALPHA)
        case.nets.multiplier.value.fill_(LOG_ALPHA)
    compare_vae(fidelity, "bear", case, impl, 0.5, seed)

    ours = case.loss("critic", seed=seed)
    torch.manual_seed(seed + 1)
    other = impl.compute_critic_loss(batch, impl.compute_target(batch)).critic_loss
    gradient = lambda: critics(modules.q_funcs, gradient_of)  # noqa: E731
    beside(fidelity, ("bear", "critic"), ours, other, case.nets.critic, gradient)

    noise, latents = torch.randn(4, 64, 3), torch.randn(4, 64, 6)
    policy = lambda: squashed(modules.policy, gradient_of)  # noqa: E731
    for progress in (0.5, 0.0):
        case.batch.progress = progress
        mine = case.prepared()
        draw(noise, latents)
        ours = case.loss("actor", mine)
        modules.actor_optim.zero_grad()
        if progress:
            draw(latents.view(256, 6), normal=(noise[0], noise))
            # Its terms one by one: all at once d3rlpy differentiates the multiplier's loss in between, which
            # leaves the MMD's gradient in the policy with the opposite sign, so that none remains.
            other = SACImpl.compute_actor_loss(impl, batch, modules.policy(batch.observations)).actor_loss
            other = other + impl._compute_mmd_loss(batch.observations)
            beside(fidelity, ("bear", f"actor, {kernel}"), ours, other, case.nets.actor, policy)
        else:
            draw(latents.view(256, 6), normal=(noise,))
            other = impl._compute_mmd_loss(batch.observations)
            beside(fidelity, ("bear", f"actor, {kernel}, warm-up"), ours, other, case.nets.actor, policy)

    log_alpha.grad = None
    draw(latents.view(256, 6), normal=(noise,))
    other = -impl._compute_mmd_loss(batch.observations)
    ours = case.loss("multiplier", mine)
    of_alpha = lambda: {"value": gradient_of(log_alpha).flatten()}  # noqa: E731
    beside(fidelity, ("bear", "multiplier"), ours, other, case.nets.multiplier, of_alpha)
