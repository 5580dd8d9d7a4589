"""UWAC beside plain loops from apple/ml-uwac's equations, in float64."""

from collections.abc import Callable
from typing import Any

import plain
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from off2on.algorithms.bear import BEAR
from off2on.algorithms.uwac import UWAC
from off2on.recipe import losses

SEEDS = range(3)
LOOPS = "plain loops from the authors' code, float64"
VAE = {"vae_hidden": (32, 32)}
LOG_ALPHA = 0.3

Case = Any
Draw = Callable[..., None]

# One member, one row, one action and one draw of masks at a time.

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
