"""Histories with random steps, such as a policy sees them at the start and in the middle of an episode."""

import torch
from torch import Tensor

from off2on.recipe.histories import HistorySteps, join


def random_histories(count: int, context: int, obs: int, action: int) -> Tensor:
    """Return histories [count, K (D + A + 2)], of which some begin within the window."""
    newest = torch.randint(1, 2 * context, (count, 1))
    number = (newest + torch.arange(1 - context, 1)).clamp(min=0)
    inside = (number > 0).unsqueeze(-1)
    acted = inside & (torch.arange(context) < context - 1).unsqueeze(-1)
    steps = torch.randn(count, context, obs), torch.rand(count, context, action) * 1.9 - 0.95
    ret = torch.randn(count, context, 1)
    return join(HistorySteps(inside * steps[0], acted * steps[1], inside * ret, number.float()))
