"""Doubly robust: values of a model, corrected by importance sampling where the model is wrong.

Paper: Jiang & Li, "Doubly Robust Off-policy Value Evaluation for Reinforcement Learning", ICML 2016,
arXiv:1511.03722, equation 10:

    V_DR(t) = V(s_t) + rho_t (r_t + gamma V_DR(t+1) - Q(s_t, a_t)),    J = 1/n sum_i V_DR(0)

with V(s) = E_{a~pi} Q(s, a), here of FQE. Unrolled, with w_t = rho_0 … rho_t, which can be clipped:

    J = 1/n sum_i [V(s_0) + sum_t gamma^t w_t (r_t + gamma V(s_{t+1}) - Q(s_t, a_t))]

V after a terminated step is 0; after a truncated episode it is the model's, so that J is the discounted
return without an end, like FQE's. Unbiased, up to the truncation, for any Q that is not fitted to the same
episodes; here it is fitted to them, which is consistent but leaves a small bias.
"""

import numpy as np

from off2on.ope.recorded_data import Array, RecordedData


def per_episode(
    data: RecordedData, weight: Array, value: Array, next_value: Array, action_value: Array, discount: float
) -> Array:
    """Compute the contribution of each episode to J [E], float64.

    Args:
        data: Recorded data, N steps.
        weight: w_t [E, T].
        value: V(s_t) [N].
        next_value: V(s_{t+1}) [N], as if no step had terminated.
        action_value: Q(s_t, a_t) [N].
        discount: Gamma.
    """
    discounted_next = discount * np.where(data.terminated, 0.0, next_value)
    td_error = discount ** data.step.astype(np.float64) * (data.reward + discounted_next - action_value)
    return np.asarray(value[data.starts] + (weight * data.padded(td_error)).sum(1))
