"""Act for the few observations of a runner's step, at the cost of NumPy instead of torch."""

import numpy as np
import torch

from off2on.policy import Policy
from off2on.recipe.numpy_networks import with_numpy
from off2on.replay.transforms import Array

_MINUS_ONE, _ONE, _TWO = np.float32(-1), np.float32(1), np.float32(2)


class StepPolicy:
    """Explore with the weights of a policy, at little cost for the few observations of a runner's step.

    The random numbers are those of `Policy.forward`; the actions differ from its actions by rounding (see
    `off2on.recipe.numpy_networks`). Weights that are changed in place are followed.

    Args:
        policy: Policy, on the CPU.
    """

    def __init__(self, policy: Policy) -> None:
        self._act, self._hp, self._nets = policy.recipe.act, policy.hp, with_numpy(policy.nets)
        self._mean, self._std = policy.get_buffer("obs_mean").numpy(), policy.get_buffer("obs_std").numpy()
        self._low, self._high = policy.get_buffer("action_low"), policy.get_buffer("action_high")
        self._discrete, self._chunk = policy.discrete, policy.chunk
        self._lowest, self._half = self._low.numpy(), ((self._high - self._low) / 2).numpy()
        self._exact = _is_exact(self._lowest, self._high.numpy())

    def __call__(self, obs: Array) -> Array:
        """Return exploring actions at raw observations [B, D], like `Policy.forward`."""
        transformed = (np.asarray(obs, np.float32) - self._mean) / self._std
        action: Array = self._act(self._nets, torch.from_numpy(transformed), self._hp, True).numpy()
        if self._discrete:
            return action
        if self._chunk > 1:
            action = action.reshape(len(action), self._chunk, -1)
        scaled = np.maximum(action, _MINUS_ONE)  # as `_to_environment`
        np.minimum(scaled, _ONE, out=scaled)
        scaled += _ONE
        if self._exact:
            scaled *= self._half
            scaled += self._lowest
            return scaled
        scaled /= _TWO
        return torch.lerp(self._low, self._high, torch.from_numpy(scaled)).numpy()


def _is_exact(low: Array, high: Array) -> bool:
    """Return True if the width of each dimension of a box is a power of two, so that products are exact.

    Then low + share * (high - low) is rounded once, and so equals what `torch.lerp` returns.
    """
    width = high.astype(np.float64) - low
    return bool((np.frexp(width)[0] == 0.5).all())
