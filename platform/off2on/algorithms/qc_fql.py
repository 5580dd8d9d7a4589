"""QC-FQL: a policy in one step over chunks of actions, distilled from a flow while it maximises Q.

Li, Zhou & Levine, "Reinforcement Learning with Action Chunking", NeurIPS 2025, arXiv:2507.07969, section 4:
`fql` (Park et al., arXiv:2502.02538) where an action is a chunk a = (a_0, ..., a_{h-1}).

    flow    L_v  = E[ sum_k ok_k |v(s, x_t, t) - (a - z)|_k^2 ] / h
    actor   L_mu = alpha E[ |mu(s, z) - a_v(s, z)|^2 ] - lambda E[ mean_i Q_i(s, mu(s, z)) ]
            a_v    the end of the flow's path from z
    critic  L_Q  = sum_i E[ ok_{h-1} (R + gamma^h m agg_j Q'_j(s_h, mu(s_h, z')) - Q_i(s, a))^2 ],
            R = sum_k gamma^k r_k
    policy  mu(s, z), executed to its end

ok_k is 1 if step k is in the episode of s. With ``chunk=1`` it is `fql`.

Differences: those of `fql` and of `qc`. ``normalise_q`` with alpha 1 is the default here; the presets are the
paper's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from off2on.algorithms.fql import FQL, FQLHyperparameters
from off2on.recipe.chunks import MEANING, ChunkedFlow
from off2on.recipe.hyperparameters import hp


@dataclass(frozen=True)
class QCFQLHyperparameters(FQLHyperparameters):
    """Hyperparameters of the paper's tables 4 and 5, and FQL's advice for new data."""

    chunk: int = hp(5, MEANING, least=1, most=100, search=("choice", 1, 3, 5, 10))

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "cube-double": {"normalise_q": False, "alpha": 300.0},
        "cube-triple": {"normalise_q": False, "alpha": 100.0},
        "cube-quadruple": {"normalise_q": False, "alpha": 100.0},
        "scene": {"normalise_q": False, "alpha": 300.0},
        "puzzle-3x3": {"normalise_q": False, "alpha": 300.0},
        "robomimic": {"normalise_q": False, "alpha": 1e4, "reward": "minus_one"},
    }


class QCFQL(ChunkedFlow, FQL):
    """A policy in one step over chunks of actions, distilled from a flow while it maximises Q."""

    Hyperparameters = QCFQLHyperparameters
