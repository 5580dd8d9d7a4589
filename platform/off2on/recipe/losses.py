"""Losses that several papers share, as pure functions of tensors.

Shapes: ``B`` transitions, ``E`` members of an ensemble (always the first dimension). Every loss
is a scalar: the mean over transitions, summed over members.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from off2on.errors import RecipeError
from off2on.recipe.critic_heads import Prediction, values_of
from off2on.recipe.return_distribution import ReturnDistribution

Q = TypeVar("Q", Tensor, ReturnDistribution)


def td(q: Tensor | Prediction, target: Tensor | ReturnDistribution, weight: Tensor | None = None) -> Tensor:
    """Compute the squared temporal-difference error, summed over members, averaged over the batch.

    For critics with a head (`off2on.recipe.critic_heads`) it is the error of the head instead.

    Args:
        q: Values [E, B] of the data's actions, or the critics' prediction.
        target: Target values [B] or [E, B], which should carry no gradient; or distributions of the return.
        weight: Weights [B] or [E, B] of the errors, such as a bootstrap mask; None: all are equal.
    """
    error = q.error(target) if isinstance(q, Prediction) else (q - values_of(target).expand_as(q)).square()
    return (error if weight is None else weight * error).sum() / q.shape[-1]


def huber_td(
    q: Tensor | Prediction, target: Tensor | ReturnDistribution, weight: Tensor | None = None
) -> Tensor:
    """Compute `td` with the Huber error: half the square up to 1, linear with slope 1 beyond."""
    if isinstance(q, Prediction):
        return td(q, target, weight)
    error = F.huber_loss(q, values_of(target).expand_as(q), reduction="none")
    return (error if weight is None else weight * error).sum() / q.shape[-1]


TD = {"huber": huber_td, "squared": td}
"""Temporal-difference errors by name."""

AGGREGATES = ("mean", "min", "pessimistic")
"""Names of the combinations of critics, see `aggregate`."""


def aggregate(q: Tensor, name: str, rho: float) -> Tensor:
    """Combine the values [E, …] of all critics to […]; for targets and choices, without gradient.

    Args:
        q: Values.
        name: ``"mean"``, ``"min"``, or ``"pessimistic"``: the mean minus rho standard deviations, which
            divide by E. With rho 0 it is the mean.
        rho: Weight of the standard deviation; the other combinations do not use it.
    """
    if name == "min":
        return q.amin(0)
    return q.mean(0) - rho * q.std(0, correction=0) if name == "pessimistic" else q.mean(0)


def random_minimum(q: Q, count: int) -> Q:
    """Combine [E, …] to the minimum […] over random members: REDQ, arXiv:2101.05982, algorithm 1.

    Args:
        q: Values, or distributions, of which the one of the smallest mean is taken.
        count: Number of members that are drawn, the same ones at every place.
    """
    return q[torch.randperm(len(q), device=q.device)[:count]].amin(0)


def expectile(error: Tensor, tau: float) -> Tensor:
    """Compute the asymmetric squared error E[ |tau - 1(error < 0)| error^2 ].

    Kostrikov, Nair & Levine, "Offline Reinforcement Learning with Implicit Q-Learning",
    arXiv:2110.06169, equation 5.

    Args:
        error: Target minus prediction [B], positive where the prediction is too low; of [E, B] it is the
            mean over the members as well.
        tau: Expectile; with 0.9, a prediction below its target weighs nine times one above it.
    """
    weight = torch.where(error < 0, 1.0 - tau, tau)
    return (weight * error.square()).mean()


def advantage_weighted(log_prob: Tensor, advantage: Tensor, beta: float, largest: float) -> Tensor:
    """Compute the weighted negative log-likelihood -E[ min(exp(beta A), largest) log pi(a|s) ].

    Peng et al., "Advantage-Weighted Regression", arXiv:1910.00177, as used by IQL (equation 7).

    Args:
        log_prob: log pi(a|s) [B] of the data's actions.
        advantage: A(s, a) [B]; the weight carries no gradient.
        beta: Inverse temperature; 0 is behaviour cloning.
        largest: Largest weight.
    """
    weight = (beta * advantage.detach()).exp().clamp(max=largest)
    return -(weight * log_prob).mean()


def temperature(log_alpha: Tensor, log_prob: Tensor, target_entropy: float, form: str) -> Tensor:
    """Compute the loss of SAC's temperature, which is minimal at the target entropy.

    Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", arXiv:1812.05905, equation 18.
    It falls when alpha grows while the entropy is below its target.

    Args:
        log_alpha: Learned log temperature [], or [E] of E policies.
        log_prob: log pi [B] or [E, B] of sampled actions; detached here.
        target_entropy: H, usually minus the number of action dimensions.
        form: ``"log"`` is -E[log alpha (log pi + H)] (the authors' code, CORL), ``"alpha"`` is
            -E[alpha (log pi + H)] (the paper, d3rlpy); gradients differ by the factor alpha.
    """
    weight = log_alpha if form == "log" else log_alpha.exp()
    return (-weight * (log_prob.detach() + target_entropy).mean(-1)).sum()


def learned_temperature(
    log_alpha: Tensor, log_prob: Tensor, target_entropy: float, form: str = "alpha"
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of `temperature`, and alpha and the entropy to log."""
    metrics = {"temperature": log_alpha.detach().exp().mean(), "entropy": -log_prob.detach().mean()}
    return temperature(log_alpha, log_prob, target_entropy, form), metrics


def density_ratio(offline: Tensor, online: Tensor) -> Tensor:
    """Compute a Jensen-Shannon bound with its optimum at w = p_online / p_offline.

    Lee et al., "Offline-to-Online Reinforcement Learning via Balanced Replay and Pessimistic
    Q-Ensemble", arXiv:2107.00591, equation 4: E_off[f*(f'(w))] - E_on[f'(w)] with
    f'(w) = log(2w / (w + 1)) and f*(f'(w)) = -log(2 / (w + 1)).

    Args:
        offline: w [B] on offline transitions, at least 0.
        online: w [B] on online transitions, at least 0.
    """
    tiny = 1e-10
    decreased = -torch.log(2.0 / (offline + 1.0) + tiny)
    increased = torch.log(2.0 * online / (online + 1.0) + tiny)
    return decreased.mean() - increased.mean()


def lambda_returns(reward: Tensor, discount: Tensor, last: Tensor, future: Tensor, trace: float) -> Tensor:
    """Compute the TD(lambda) returns of transitions in the order of time, without a loop over them.

    Every return is b + c times the next one. Doubling: after k rounds it is B + C times the return 2^k
    transitions later, and C is 0 once that transition belongs to another episode.

    Args:
        reward: Rewards [N].
        discount: gamma [N], or 0 where the episode terminated.
        last: 1 [N] at the last transition of an episode, or of the held part of it.
        future: Values [N] of the next states.
        trace: lambda.

    Returns:
        Returns [N], summed in float64.
    """
    carry = trace * discount.double() * (1 - last)
    total = reward + (discount - carry) * future
    reach = 1
    while reach < len(total) and carry.any():
        total = total + carry * F.pad(total[reach:], (0, reach))
        carry = carry * F.pad(carry[reach:], (0, reach))
        reach *= 2
    return total.float()


def mmd(x: Tensor, y: Tensor, sigma: float, kernel: str) -> Tensor:
    """Compute the maximum mean discrepancy E[ sqrt(k(x, x') + k(y, y') - 2 k(x, y) + 1e-6) ] of samples.

    Gretton et al., "A Kernel Two-Sample Test", 2012, as BEAR uses it (Kumar et al., arXiv:1906.00949):
    means over all pairs, including those of a sample with itself.

    Args:
        x: First samples [n, B, A].
        y: Second samples [m, B, A].
        sigma: Width of the kernel: k(x, y) = exp(-distance / (2 sigma)).
        kernel: ``"laplacian"``: the distance is the sum of absolute differences; ``"gaussian"``: of squares.
    """

    def similarity(one: Tensor, other: Tensor) -> Tensor:
        apart = one.unsqueeze(1) - other.unsqueeze(0)
        distance = (apart.square() if kernel == "gaussian" else apart.abs()).sum(-1)
        return (-distance / (2 * sigma)).exp().mean((0, 1))

    squared = similarity(x, x) + similarity(y, y) - 2 * similarity(x, y)
    return (squared + 1e-6).sqrt().mean()


def multiplier(log_alpha: Tensor, violation: Tensor, low: float, high: float) -> Tensor:
    """Compute the loss for dual ascent on a constraint's multiplier alpha = exp(clip(log alpha)).

    alpha grows while the constraint is violated and shrinks while it holds. At a bound the gradient
    vanishes only if it points outwards, so that alpha can return.

    Args:
        log_alpha: Learned log alpha [].
        violation: Amount [] by which the constraint is violated; negative if it holds. Detached here.
        low: Smallest log alpha.
        high: Largest log alpha.
    """
    violation = violation.detach()
    inside = log_alpha.clamp(low, high)
    outwards = (log_alpha - inside) * violation > 0
    passing = log_alpha + (inside - log_alpha).detach()
    return -torch.where(outwards, inside, passing).exp() * violation


def weighted_pair(q: Q) -> Q:
    """Compute the mean over all pairs of members of the smaller value: [N, …] to […].

    Of N sorted values, the k-th is the smaller one of N - k pairs (E2O, arXiv:2306.06871, WeightedMinPair).
    The value of a single member is returned unchanged.
    """
    if len(q) == 1:
        return q[0]
    pairs = torch.arange(len(q) - 1, -1, -1, device=q.device, dtype=values_of(q).dtype)
    if isinstance(q, ReturnDistribution):
        return q.sorted().mix(pairs / pairs.sum())
    return torch.tensordot(pairs / pairs.sum(), q.sort(0).values, 1)  # type: ignore[no-any-return]


def checked(result: Any, method: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what a method for a loss has returned: one number to differentiate, and metrics.

    Raises:
        RecipeError: It is something else.
    """
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise RecipeError(
            f"{method} returned a value of the type {type(result).__name__}.",
            "Expected: a loss and a dictionary of metrics.",
            "return loss, {}",
        )
    loss, metrics = result
    if not isinstance(loss, Tensor) or loss.dim():
        found = f"shape {list(loss.shape)}" if isinstance(loss, Tensor) else f"type {type(loss).__name__}"
        raise RecipeError(
            f"the loss that {method} returned has the {found}.",
            "Expected: one number, a tensor of shape [].",
            "return loss.mean(), metrics",
        )
    return loss, metrics
