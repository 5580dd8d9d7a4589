"""QC: the best of N chunks of actions of a flow that imitates the data.

Li, Zhou & Levine, "Reinforcement Learning with Action Chunking", NeurIPS 2025, arXiv:2507.07969, section 4.

    flow    L_v = E[ sum_k ok_k |v(s, x_t, t) - (a - z)|_k^2 ] / h,  a = (a_0, ..., a_{h-1})
    critic  L_Q = sum_i E[ ok_{h-1} (R + gamma^h m Qbar'(s_h, a*) - Q_i(s, a))^2 ],  R = sum_k gamma^k r_k
            a* the best of N chunks of the flow at s_h by Qbar;  Qbar = mean_j Q_j
    policy  the best of N chunks by Qbar, executed to its end

ok_k is 1 if step k is in the episode of s. The policy has no network of its own. With ``chunk=1`` it is `bfn`
with N = 32. Chunks reach rewards that are h steps away in one backup, and explore in a consistent direction.

Differences: steps after the end of an episode are 0 in the flow's input; the authors' are those of the next
episode in their buffer (neither learns them). Squares are sums over critics, theirs a mean (Adam makes of it
the same step, apart from its epsilon). Layer normalisation has epsilon 1e-5, theirs 1e-6. The deterministic
policy takes the best of N fixed noises, of which the first is 0; the authors evaluate with new noise. The
presets on scenes and puzzles are for sparse rewards. Online the authors collect 5,000 steps before the first
update (``--strategy append online.warm_up=5000``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from off2on.algorithms.bfn import BFN, BFNHyperparameters
from off2on.recipe.chunks import MEANING, ChunkedFlow
from off2on.recipe.hyperparameters import hp


@dataclass(frozen=True)
class QCHyperparameters(BFNHyperparameters):
    """Hyperparameters of the paper's tables 4 and 5; ``pessimistic`` is Li & Levine's, arXiv:2601.14234."""

    chunk: int = hp(5, MEANING, least=1, most=100, search=("choice", 1, 3, 5, 10))
    samples: int = hp(
        32, "N, chunks of the flow to choose from", least=1, search=("choice", 8, 16, 32, 64), built=True
    )

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "cube": {"chunk": 5, "samples": 32},
        "scene": {"chunk": 5, "samples": 32},
        "puzzle-3x3": {"chunk": 5, "samples": 64},
        "robomimic": {"samples": 16, "reward": "minus_one"},
    }


class QC(ChunkedFlow, BFN):
    """The best of N chunks of actions of a flow that imitates the data."""

    Hyperparameters = QCHyperparameters
