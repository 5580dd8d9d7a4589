"""Filter by return: train on the best episodes only.

Chen et al., "Decision Transformer", NeurIPS 2021, arXiv:2106.01345, section 5.1, where behaviour
cloning on the best tenth is the baseline "10% BC".

    w(tau) = 1 if tau is among the floor(SHARE n), at least 1, of n episodes with the highest return, else 0

Returns are undiscounted. Of episodes with equal returns the earlier ones are kept. SHARE is a share
of episodes (as in Hong et al., arXiv:2306.13085), not of transitions.
"""

import numpy as np

from off2on.recipe.hyperparameters import Rule
from off2on.replay.augmentation.base import Episodes, EpisodeWeighting
from off2on.replay.transforms import Array


class Top(EpisodeWeighting):
    """The best episodes by return; the others are not loaded."""

    number = Rule("share of the episodes that is kept, at least one", above=0, most=1)
    default = 0.1

    def weights(self, episodes: Episodes) -> Array:
        """Return 1 for the best episodes, 0 for the rest: [episodes]."""
        returns = episodes.returns
        # 0.29 of 100 must be 29, although the product is slightly less.
        count = max(1, int(self.value * len(returns) + 1e-9))
        weights = np.zeros(len(returns))
        weights[np.argsort(-returns, kind="stable")[:count]] = 1.0
        return weights
