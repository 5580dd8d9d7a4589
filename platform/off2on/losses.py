"""The losses that papers share, as pure functions of tensors.

Shapes: ``B`` transitions, ``E`` members of an ensemble (always the first dimension). Every
function returns a scalar: the mean over transitions, the sum over members.
"""

import torch
from torch import Tensor


def td(q: Tensor, target: Tensor) -> Tensor:
    """Squared temporal-difference error, summed over members and averaged over the batch.

    Args:
        q: [E, B] the members' values of the data's actions.
        target: [B] or [E, B] what they should be; no gradient is expected to flow into it.
    """
    return (q - target).square().sum() / q.shape[-1]


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
        log_alpha: [] the learned log temperature.
        log_prob: [B] log pi of fresh actions; no gradient flows into it.
        target_entropy: Usually minus the number of action dimensions.
        form: ``"log"`` is -E[log alpha (log pi + H)] (the authors' code, CORL), ``"alpha"`` is
            -E[alpha (log pi + H)] (the paper, d3rlpy); gradients differ by the factor alpha.
    """
    weight = log_alpha if form == "log" else log_alpha.exp()
    return -weight * (log_prob.detach() + target_entropy).mean()


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
