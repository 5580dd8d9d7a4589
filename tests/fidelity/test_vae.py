"""BCQ, BEAR and PLAS beside d3rlpy with its decoder's flag put right; UWAC beside plain loops.

d3rlpy's `VAEDecoder` squashes its output exactly where it is asked not to.
"""

from collections.abc import Callable
from typing import Any

import plain
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
from torch.nn import functional as F  # noqa: N812

from off2on.algorithms.bcq import BCQ
from off2on.algorithms.bear import BEAR
from off2on.algorithms.plas import PLAS
from off2on.algorithms.uwac import UWAC
from off2on.recipe import losses

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


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Draw:
    """draw(*numbers, normal=…): the next normal random numbers, in order, whoever asks for them how."""

    def prepare(*numbers: Tensor, normal: tuple[Tensor, ...] = ()) -> None:
        plain_numbers, of_distributions = list(numbers), list(normal)
        monkeypatch.setattr(torch, "randn", lambda *_, **__: plain_numbers.pop(0))
        monkeypatch.setattr(
            "torch.distributions.normal._standard_normal", lambda *_, **__: of_distributions.pop(0)
        )

    return prepare


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


# UWAC, from apple/ml-uwac's equations: one member, one row, one action and one draw of masks at a time.

ROWS, PASSES, ACTIONS = range(12), range(5), range(3)


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Every dropout mask that is drawn from now on, in order."""
    drawn: list[Tensor] = []

    def dropout(x: Tensor, rate: float) -> Tensor:
        drawn.append((torch.rand_like(x) > rate).float() / (1 - rate))
        return x * drawn[-1]

    monkeypatch.setattr(F, "dropout", dropout)
    return drawn


def uwac_case(problem: Callable[..., Any], seed: int, **given: Any) -> Case:
    """Fewer rows, away from the first weights and with another multiplier than 1."""
    given = {"passes": len(PASSES), "target_samples": len(ACTIONS), "dropout": 0.3, "sigma": 2.0} | given
    case = problem(UWAC, seed=seed, **VAE, **given)
    with torch.no_grad():
        case.nets.multiplier.value.fill_(LOG_ALPHA)
        for network in (case.nets.critic, case.nets.target.critic):
            for parameter in network.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
    for name in ("obs", "action", "reward", "next_obs", "mask"):
        setattr(case.batch, name, getattr(case.batch, name)[: len(ROWS)])
    return case


def dropped(case: Case, layers: plain.Layers, row: Tensor, masks: list[Tensor]) -> Tensor:
    """One member's value of one row, with a mask after every hidden layer."""
    x = row.double()
    for number, (weight, bias) in enumerate(layers):
        if number:
            x = torch.where(x > 0, x, 0.0) * masks[number - 1].double()
        if case.hp.spectral:
            weight = weight / torch.linalg.svdvals(weight)[0]
        x = weight @ x + bias
    return x.squeeze()


def mean_and_variance(numbers: list[Tensor]) -> tuple[Tensor, Tensor]:
    mean = plain.average(numbers)
    squares = sum(((one - mean) ** 2 for one in numbers), torch.zeros(()))
    return mean, squares / (len(numbers) - 1)


def moments(
    case: Case, critic: Any, obs: Tensor, action: Tensor, masks: list[Tensor], where: Callable[[int], int]
) -> tuple[list[Tensor], Tensor]:
    """Each member's mean over the passes, and the sum of their variances."""
    means, variance = [], torch.zeros((), dtype=torch.float64)
    row = torch.cat((obs, action))
    for member, layers in enumerate(plain.members_of(critic)):
        drawn = [dropped(case, layers, row, [mask[member, where(t)] for mask in masks]) for t in PASSES]
        mean, spread = mean_and_variance(drawn)
        means.append(mean)
        variance = variance + spread
    return means, variance


def trust(case: Case, variance: Tensor) -> Tensor:
    if case.hp.weight == "inverse":
        return (case.hp.beta / variance).clamp(0, 1)
    return (-case.hp.beta * variance).exp().clamp(0, 1)


def uwac_critic(case: Case, noise: Tensor, target_masks: list[Tensor], masks: list[Tensor]) -> Tensor:
    nets, batch, hp, size = case.nets, case.batch, case.hp, len(ROWS)
    terms = []
    for b in ROWS:
        mixed, variances = [], []
        for n in ACTIONS:
            action, _ = plain.squashed(nets.actor, batch.next_obs[b], noise[n, b])
            means, variance = moments(
                case, nets.target.critic, batch.next_obs[b], action, target_masks,
                lambda t, n=n, b=b: (t * len(ACTIONS) + n) * size + b,
            )  # fmt: skip
            mixed.append(0.75 * min(means) + 0.25 * max(means))
            variances.append(variance)
        target = batch.reward[b].double() + hp.discount * batch.mask[b].double() * max(mixed)
        weight = trust(case, max(variances)).detach() if batch.mask[b] else torch.tensor(1.0)
        row = torch.cat((batch.obs[b], batch.action[b]))
        for member, layers in enumerate(plain.members_of(nets.critic)):
            q = dropped(case, layers, row, [mask[member, b] for mask in masks])
            terms.append((weight * (q - target.detach())) ** 2)
    return sum(terms, torch.zeros(())) / size


def own_rows(case: Case, b: int, noise: Tensor, latents: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """One state's actions before the tanh: the policy's, and the decoder's."""
    mean, log_std = plain.perceptron(plain.layers_of(case.nets.actor), case.batch.obs[b]).chunk(2)
    own = [mean + log_std.clamp(-5, 2).exp() * one.double() for one in noise[:, b]]
    decoder = plain.layers_of(case.nets.vae.decoder)
    data = [
        plain.perceptron(decoder, torch.cat((case.batch.obs[b], one.clamp(-0.5, 0.5))))
        for one in latents[:, b]
    ]
    return own, [one.detach() for one in data]


def mmd(case: Case, own: list[Tensor], data: list[Tensor]) -> Tensor:
    """The root of the squared discrepancy, by pairs."""

    def alike(ones: list[Tensor], others: list[Tensor]) -> Tensor:
        def distance(x: Tensor, y: Tensor) -> Tensor:
            return ((x - y) ** 2).sum() if case.hp.kernel == "gaussian" else (x - y).abs().sum()

        return plain.average((-distance(x, y) / (2 * case.hp.sigma)).exp() for x in ones for y in others)

    return (alike(own, own) + alike(data, data) - 2 * alike(own, data) + 1e-6).sqrt()


@pytest.mark.parametrize(
    ("what", "given"),
    [
        ("", {}),
        (", beta / Var", {"weight": "inverse", "beta": 0.02}),
        (", no spectral norm", {"spectral": False, "beta": 0.05}),
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_uwac(
    problem: Callable[..., Any],
    fidelity: Any,
    draw: Draw,
    masks: list[Tensor],
    seed: int,
    what: str,
    given: dict[str, Any],
):
    case, size = uwac_case(problem, seed, **given), len(ROWS)
    row = {"reference": LOOPS, "relation": "= but at the end of an episode, where our weight is 1"}
    torch.manual_seed(seed)
    noise, latents = torch.randn(4, size, 3), torch.randn(4, size, 6)
    next_noise = torch.randn(len(ACTIONS), size, 3)
    draw(next_noise)
    batch = case.prepared(seed)
    ours = case.loss("critic", batch)
    other = uwac_critic(case, next_noise, masks[:2], masks[2:])
    fidelity.compare("uwac", f"critic{what}", **row, ours=ours, theirs=other, network=case.nets.critic)

    masks.clear()
    draw(noise, latents)
    ours = case.loss("actor", batch)
    terms, discrepancies = [], []
    for b in ROWS:
        own, data = own_rows(case, b, noise, latents)
        means, variance = moments(
            case, case.nets.critic, case.batch.obs[b], own[0].tanh(), masks, lambda t, b=b: t * size + b
        )
        discrepancies.append(mmd(case, own, data))
        violation = discrepancies[-1] - case.hp.threshold
        terms.append(torch.tensor(LOG_ALPHA).exp() * violation - trust(case, variance).detach() * min(means))
    other = plain.average(terms)
    fidelity.compare(
        "uwac", f"actor{what}", reference=LOOPS, ours=ours, theirs=other, network=case.nets.actor
    )

    ours = case.loss("multiplier", batch)
    violation = plain.average(discrepancies).detach() - case.hp.threshold
    other = -case.nets.multiplier().double().exp() * violation
    fidelity.compare(
        "uwac", "multiplier", reference=LOOPS, ours=ours, theirs=other, network=case.nets.multiplier
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_uwacs_autoencoder(problem: Callable[..., Any], fidelity: Any, seed: int):
    case = uwac_case(problem, seed)
    vae, batch = case.nets.vae, case.batch
    ours = case.loss("vae", seed=seed)
    torch.manual_seed(seed + 1)
    noise = torch.randn(len(ROWS), 6)
    terms = []
    for b in ROWS:
        found = plain.perceptron(plain.layers_of(vae.encoder), torch.cat((batch.obs[b], batch.action[b])))
        mean, sigma = found[:6], found[6:].clamp(-4, 15).exp()
        latent = mean + sigma * noise[b].double()
        action = plain.perceptron(plain.layers_of(vae.decoder), torch.cat((batch.obs[b].double(), latent)))
        error = plain.average((action.tanh() - batch.action[b].double()) ** 2)
        divergence = plain.average(-0.5 * (1 + (sigma**2).log() - mean**2 - sigma**2))
        terms.append(error + 0.5 * divergence)
    other = plain.average(terms)
    fidelity.compare("uwac", "vae", reference=LOOPS, ours=ours, theirs=other, network=vae)


@pytest.mark.parametrize("kernel", ["laplacian", "gaussian"])
@pytest.mark.parametrize("seed", SEEDS)
def test_mmd(problem: Callable[..., Any], fidelity: Any, seed: int, kernel: str):
    case = problem(BEAR, seed=seed, kernel=kernel, sigma=3.0)
    x = nn.ParameterList([torch.randn(4, 5, 3)])
    y = torch.randn(6, 5, 3) + 1
    ours = losses.mmd(x[0], y, 3.0, kernel)
    other = plain.average(mmd(case, list(x[0][:, b].double()), list(y[:, b].double())) for b in range(5))
    fidelity.compare("bear", f"MMD, {kernel}", reference=LOOPS, ours=ours, theirs=other, network=x)
