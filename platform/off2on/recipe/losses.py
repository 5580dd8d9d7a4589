"""The losses that papers share, as pure functions of tensors.

Shapes: ``B`` transitions, ``E`` members of an ensemble (always the first dimension). Every loss
is a scalar: the mean over transitions, the sum over members.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def td(q: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Squared temporal-difference error, summed over members and averaged over the batch.

    Args:
        q: [E, B] the members' values of the data's actions.
        target: [B] or [E, B] what they should be; no gradient is expected to flow into it.
        weight: [B] or [E, B] of the squared errors, such as a bootstrap mask; None weighs all alike.
    """
    error = (q - target).square()
    return (error if weight is None else weight * error).sum() / q.shape[-1]


def huber_td(q: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """As `td`, with Huber's error: half the square up to 1, linear with slope 1 beyond."""
    error = F.huber_loss(q, target.expand_as(q), reduction="none")
    return (error if weight is None else weight * error).sum() / q.shape[-1]


TD = {"huber": huber_td, "squared": td}
"""The temporal-difference errors by name."""


def expectile(error: Tensor, tau: float) -> Tensor:
    """Asymmetric least squares: E[ |tau - 1(error < 0)| error^2 ].

    Kostrikov, Nair & Levine, "Offline Reinforcement Learning with Implicit Q-Learning",
    arXiv:2110.06169, equation 5.

    Args:
        error: [B] target minus prediction: positive where the prediction is too low.
        tau: 0.9 weighs a prediction below its target nine times a prediction above it.
    """
    weight = torch.where(error < 0, 1.0 - tau, tau)
    return (weight * error.square()).mean()


def advantage_weighted(log_prob: Tensor, advantage: Tensor, beta: float, largest: float) -> Tensor:
    """Weighted log-likelihood of the data's actions: -E[ min(exp(beta A), largest) log pi(a|s) ].

    Peng et al., "Advantage-Weighted Regression", arXiv:1910.00177, as used by IQL (equation 7).

    Args:
        log_prob: [B] log pi(a|s) of the data's actions.
        advantage: [B] A(s, a); the weight carries no gradient.
        beta: Inverse temperature; 0 is behaviour cloning.
        largest: Bound on the weight.
    """
    weight = (beta * advantage.detach()).exp().clamp(max=largest)
    return -(weight * log_prob).mean()


def temperature(log_alpha: Tensor, log_prob: Tensor, target_entropy: float, form: str) -> Tensor:
    """The loss that moves SAC's temperature until the policy has the wanted entropy.

    Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", arXiv:1812.05905, equation 18.
    It falls when alpha grows while the entropy is below its target.

    Args:
        log_alpha: [] the learned log temperature, or [E] of E policies.
        log_prob: [B] or [E, B] log pi of fresh actions; no gradient flows into it.
        target_entropy: Usually minus the number of action dimensions.
        form: ``"log"`` is -E[log alpha (log pi + H)] (the authors' code, CORL), ``"alpha"`` is
            -E[alpha (log pi + H)] (the paper, d3rlpy); gradients differ by the factor alpha.
    """
    weight = log_alpha if form == "log" else log_alpha.exp()
    return (-weight * (log_prob.detach() + target_entropy).mean(-1)).sum()


def density_ratio(offline: Tensor, online: Tensor) -> Tensor:
    """Jensen-Shannon bound whose optimum is w = p_online / p_offline.

    Lee et al., "Offline-to-Online Reinforcement Learning via Balanced Replay and Pessimistic
    Q-Ensemble", arXiv:2107.00591, equation 4: E_off[f*(f'(w))] - E_on[f'(w)] with
    f'(w) = log(2w / (w + 1)) and f*(f'(w)) = -log(2 / (w + 1)).

    Args:
        offline: [B] w on offline transitions, at least 0.
        online: [B] w on online transitions, at least 0.
    """
    tiny = 1e-10
    pushed_down = -torch.log(2.0 / (offline + 1.0) + tiny)
    pulled_up = torch.log(2.0 * online / (online + 1.0) + tiny)
    return pushed_down.mean() - pulled_up.mean()


def lambda_returns(reward: Tensor, discount: Tensor, last: Tensor, future: Tensor, trace: float) -> Tensor:
    """TD(lambda) returns of rows in the order of time, without a loop over rows: what V regresses on.

    Every return is b + c times the next row's. Doubling: after k rounds it is B + C times that of the
    row 2^k further on, and C is 0 once that row belongs to another episode.

    Args:
        reward: [N].
        discount: [N] gamma, or 0 where the episode ended by itself.
        last: [N] 1 where an episode, or what is held of it, ends.
        future: [N] values of the next states.
        trace: Lambda.

    Returns:
        [N]; summed in float64.
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
    """How far two sets of samples are apart: E[ sqrt(k(x, x') + k(y, y') - 2 k(x, y) + 1e-6) ].

    Gretton et al., "A Kernel Two-Sample Test", 2012, as BEAR uses it (Kumar et al., arXiv:1906.00949):
    means over all pairs, those of a sample with itself included.

    Args:
        x: [n, B, A].
        y: [m, B, A].
        sigma: Width of the kernel: k(x, y) = exp(-distance / (2 sigma)).
        kernel: ``"laplacian"`` takes the sum of absolute differences, ``"gaussian"`` that of squares.
    """

    def alike(one: Tensor, other: Tensor) -> Tensor:
        apart = one.unsqueeze(1) - other.unsqueeze(0)
        distance = (apart.square() if kernel == "gaussian" else apart.abs()).sum(-1)
        return (-distance / (2 * sigma)).exp().mean((0, 1))

    squared = alike(x, x) + alike(y, y) - 2 * alike(x, y)
    return (squared + 1e-6).sqrt().mean()


def multiplier(log_alpha: Tensor, violation: Tensor, low: float, high: float) -> Tensor:
    """The loss whose descent is the ascent of a constraint's multiplier alpha = exp(clip(log alpha)).

    alpha grows while the constraint is violated and shrinks while it has room. At a bound the gradient
    vanishes only where it would lead further out, so that alpha can come back.

    Args:
        log_alpha: [] the learned logarithm.
        violation: [] what should be 0 or less; no gradient flows into it.
        low: Smallest log alpha.
        high: Largest log alpha.
    """
    violation = violation.detach()
    inside = log_alpha.clamp(low, high)
    outwards = (log_alpha - inside) * violation > 0
    passing = log_alpha + (inside - log_alpha).detach()
    return -torch.where(outwards, inside, passing).exp() * violation


def weighted_pair(q: Tensor) -> Tensor:
    """The mean over all pairs of members of the smaller value: [N, …] to […]; of one member, its own.

    Of N sorted values the k-th is the smaller one of N - k pairs (E2O, arXiv:2306.06871, WeightedMinPair).
    """
    if len(q) == 1:
        return q[0]
    pairs = torch.arange(len(q) - 1, -1, -1, device=q.device, dtype=q.dtype)
    return torch.tensordot(pairs / pairs.sum(), q.sort(0).values, 1)  # type: ignore[no-any-return]
