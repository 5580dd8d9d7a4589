"""Histories: policies that decide by the last K steps of the episode instead of the last observation.

A history is K steps of D + A + 2 numbers, ordered by time, the newest last:

    observation (D) · action (A) · return (1) · number (1)

The action of the newest step is 0: it is what the policy decides about. The number of a step counts from 1 at
the start of the episode; steps before it are 0 in all places. The return is the return to go, the sum of this
reward and of those after it, in the rows of the data; a policy that acts is given the sum of the rewards so
far, and subtracts it from its target return (see `off2on.policy`).

In the rows of an algorithm with histories ``obs`` is the whole history, [B, K (D + A + 2)], and ``action``
the action of its newest step, [B, A]. An algorithm has histories if its hyperparameters have the name
``context``.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

MEANING = "K, steps of the episode that the policy sees"
EXTRA = 2
"""Numbers of a step besides its observation and action."""


class HistorySteps(NamedTuple):
    """Parts of histories.

    Attributes:
        obs: Observations [B, K, D].
        action: Actions [B, K, A]; 0 in the newest step.
        ret: Returns [B, K, 1].
        number: Numbers of the steps [B, K], from 1; 0: before the start of the episode.
    """

    obs: Tensor
    action: Tensor
    ret: Tensor
    number: Tensor

    @property
    def inside(self) -> Tensor:
        """True for the steps that are in the episode: [B, K]."""
        return self.number > 0


def context_of(hp: Any) -> int:
    """Return the number of steps K that an algorithm's policy sees; 0: the last observation alone."""
    return int(getattr(hp, "context", 0))


def split(history: Tensor, context: int, obs: int) -> HistorySteps:
    """Return the parts of histories [B, K (D + A + 2)] of K = `context` steps, with D = `obs`."""
    steps = history.view(history.shape[0], context, -1)
    observation, action, ret, number = torch.split(steps, [obs, steps.shape[-1] - obs - EXTRA, 1, 1], -1)
    return HistorySteps(observation, action, ret, number.squeeze(-1))


def join(steps: HistorySteps) -> Tensor:
    """Return the histories [B, K (D + A + 2)] with these parts."""
    return torch.cat((steps.obs, steps.action, steps.ret, steps.number.unsqueeze(-1)), -1).flatten(1)
