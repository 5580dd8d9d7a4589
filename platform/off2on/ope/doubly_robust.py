"""Doubly robust: values from a model, corrected by importance sampling where the model errs.

Paper: Jiang & Li, "Doubly Robust Off-policy Value Evaluation for Reinforcement Learning", ICML 2016,
arXiv:1511.03722, equation 10:

    V_DR(t) = V(s_t) + rho_t (r_t + gamma V_DR(t+1) - Q(s_t, a_t)),    J = 1/n sum_i V_DR(0)

with V(s) = E_{a~pi} Q(s, a), here of FQE. Unrolled, with w_t = rho_0 … rho_t, which can be clipped:

    J = 1/n sum_i [V(s_0) + sum_t gamma^t w_t (r_t + gamma V(s_{t+1}) - Q(s_t, a_t))]

V after a terminated step is 0; after one at which the recording was cut off it is the model's, so that J is
the discounted return without an end, like FQE's. Unbiased, up to that cut, for any Q that is not fitted to
the same episodes; here it is fitted to them, which is consistent but leaves a small bias.
"""

import numpy as np

from off2on.ope.recorded import Array, Recorded


def per_episode(
    data: Recorded, weight: Array, value: Array, next_value: Array, action_value: Array, discount: float
) -> Array:
    """What each episode says of J [E], float64.

    Args:
        data: What was recorded, N steps.
        weight: w_t [E, T].
        value: V(s_t) [N].
        next_value: V(s_{t+1}) [N], as if nothing had terminated.
        action_value: Q(s_t, a_t) [N].
        discount: Gamma.
    """
    following = discount * np.where(data.terminated, 0.0, next_value)
    surprise = discount ** data.step.astype(np.float64) * (data.reward + following - action_value)
    return np.asarray(value[data.starts] + (weight * data.padded(surprise)).sum(1))
