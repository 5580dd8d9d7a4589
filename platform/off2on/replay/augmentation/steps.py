"""Multi-step returns: learn from windows of n steps, for every algorithm with a temporal-difference loss.

Park, Frans, Mann, Eysenbach, Kumar & Levine, "Horizon Reduction Makes RL Scalable", NeurIPS 2025,
arXiv:2506.04168, where the length of the horizon is what stops offline methods on long tasks.

    reward    sum_{j<k} gamma^j r_{t+j},   k = min(n, steps to the end of the episode)
    next_obs  s_{t+k}
    mask      gamma^{k-1} m_{t+k-1}

An algorithm's own target r + gamma m V(s') is then the target of k steps, with gamma^k. A terminated episode
is not continued by a value; one that was cut off is, from its last observation. The rewards are those of the
policy that collected them, without a correction for the one that learns: a large n is biased towards the
data.
Online rows are added when their episode is over.

Differences: that paper's code leaves out windows that cross the end of an episode; here they are shorter.
"""

from collections.abc import Mapping

from off2on.recipe.hyperparameters import Rule
from off2on.replay.augmentation.base import EpisodeAugmentation
from off2on.replay.transforms import Array
from off2on.replay.windows import episode_ends, multi_step


class Steps(EpisodeAugmentation):
    """Targets of n steps."""

    number = Rule("n, largest number of steps of a target; 1 changes nothing", least=1, most=100)
    whole = True
    default = 5.0
    columns = ("reward", "next_obs", "mask")

    @property
    def has_effect(self) -> bool:
        """False for targets of one step."""
        return self.value > 1

    def change(self, columns: Mapping[str, Array], last: Array, discount: float) -> dict[str, Array]:
        """Return the columns with reward, next observation and mask of the windows."""
        return {**columns, **multi_step(columns, episode_ends(last), int(self.value), discount)}
