"""Trajectory weighting: draw rows of better episodes more often.

Hong, Agrawal, Tachet des Combes & Laroche, "Harnessing Mixed Offline Reinforcement Learning
Datasets via Trajectory Weighting", ICLR 2023, arXiv:2306.13085.

    returns      w(tau) ∝ exp( G̃(tau) / ALPHA ),  G̃ = (G - min G) / (max G - min G)
    advantages   w(tau) ∝ exp( Ã(tau) / ALPHA ),  Ã likewise of A(tau) = G(tau) - V(s_0)
                 V by least squares: linear in the initial observation, with a constant

G is the undiscounted return. Each transition has the weight of its episode, so that longer episodes have a
larger sum of weights. The authors' temperature is 0.1 (BC, TD3+BC, IQL) or 0.2 (CQL).

Differences: none from the paper. One version of the authors' code (for d3rlpy 2) computes G̃ but takes
the softmax of G; the other versions, and this file, take the softmax of G̃. Where all
returns are equal, 0 / 0 is taken as 0: all weights are equal.
"""

import numpy as np

from off2on.recipe.hyperparameters import Rule
from off2on.replay.augmentation.base import Episodes, EpisodeWeighting
from off2on.replay.transforms import Array


class Returns(EpisodeWeighting):
    """Weights by return."""

    number = Rule("temperature: 0.1 draws the best e^10 times as often as the worst", above=0)
    default = 0.1

    def weights(self, episodes: Episodes) -> Array:
        """Return the weights [episodes]; the best episode has weight 1."""
        return _softmax(episodes.returns, self.value)


class Advantages(EpisodeWeighting):
    """Weights by the difference of the return and its prediction from the first observation."""

    number = Returns.number
    default = 0.1

    def weights(self, episodes: Episodes) -> Array:
        """Return the weights [episodes]; the best episode has weight 1."""
        returns, first = episodes.returns, episodes.first_obs()
        first, centred = first - first.mean(0), returns - returns.mean()
        slope, *_ = np.linalg.lstsq(first, centred, rcond=None)
        return _softmax(centred - first @ slope, self.value)


def _softmax(values: Array, temperature: float) -> Array:
    """Return exp(v / temperature), where v is the values [n] scaled to [-1, 0]; the largest weight is 1."""
    spread = np.ptp(values)
    scaled = (values - values.max()) / spread if spread > 0 else np.zeros_like(values)
    weights: Array = np.exp(scaled / temperature)
    return weights
