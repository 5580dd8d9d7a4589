"""Choices between proposed actions by the critics' values.

Shapes: ``B`` observations, ``D`` observation width, ``A`` action width, ``n`` proposals, ``E`` critics.
"""

import torch
from torch import Tensor

from off2on.recipe.networks import Critic


def best_proposal(value: Tensor, actions: Tensor) -> Tensor:
    """Select for each observation the proposal [B, A] of [n, B, A] with the highest value [n, B]."""
    best = value.argmax(0)
    return actions[best, torch.arange(best.shape[0], device=best.device)]


def draw_proposal(value: Tensor, actions: Tensor) -> Tensor:
    """Draw for each observation a proposal [B, A] of [n, B, A] in proportion to exp(value), of [n, B]."""
    # The largest of logits with Gumbel noise is a draw from their softmax.
    return best_proposal(value - torch.empty_like(value).exponential_().log(), actions)


def most_optimistic(critic: Critic, obs: Tensor, actions: Tensor, bonus: float) -> Tensor:
    """Select argmax_a mean_i Q_i(s, a) + bonus std_i Q_i(s, a) among the proposed actions.

    Lee, Laskin, Srinivas & Abbeel, "SUNRISE", ICML 2021, arXiv:2007.04938, equation 7. The standard
    deviation divides by E.

    Args:
        critic: The ensemble.
        obs: Observations [B, D].
        actions: Proposals [n, B, A].
        bonus: Lambda, the weight of the standard deviation.

    Returns:
        Actions [B, A].
    """
    q = critic(obs, actions)
    return best_proposal(q.mean(0) + bonus * q.std(0, correction=0), actions)


def prefer_new(
    critic: Critic, obs: Tensor, old: Tensor, new: Tensor, inverse_temperature: float, explore: bool
) -> Tensor:
    """Choose between the actions of two policies by P(s, a) = min_i Q_i(s, a).

    Zhang, Xu & Yu, "Policy Expansion", ICLR 2023, arXiv:2302.00935: when exploring, an action is drawn in
    proportion to exp(k P(s, .)); otherwise the action of the higher value is taken.

    Args:
        critic: The ensemble.
        obs: Observations [B, D].
        old: Actions [B, A] of the first policy.
        new: Actions [B, A] of the second policy.
        inverse_temperature: k; at 0 both are equally likely.
        explore: True to draw at random.

    Returns:
        Bool [B], True where the second policy is chosen.
    """
    before, after = critic(obs, torch.stack((old, new))).amin(0)
    chosen: Tensor = after > before
    if explore:  # the second of two logits is drawn with the sigmoid of their difference
        chosen = torch.rand_like(after) < (inverse_temperature * (after - before)).sigmoid()
    return chosen
