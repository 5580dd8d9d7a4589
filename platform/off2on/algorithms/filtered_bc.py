"""FilteredBC: behaviour cloning of the best episodes only.

Chen et al., "Decision Transformer: Reinforcement Learning via Sequence Modeling", NeurIPS 2021,
arXiv:2106.01345, where it is the baseline "percentile behaviour cloning" (10 % BC).

The loss is BC's, on the transitions of the tenth of the episodes with the highest return, at least one
episode. ``augment=top:0.25`` keeps a quarter, ``policy=gaussian`` clones by likelihood.

Differences: episodes are ranked by the plain sum of their rewards, as in the paper; CORL's script
discounts by default, its configurations do not, and without a terminal row 1,000 rows are an episode there.
"""

from dataclasses import dataclass

from off2on.algorithms.bc import BC, BCHyperparameters
from off2on.recipe.hyperparameters import AUGMENT, AUGMENT_SYNTAX, AUGMENT_VALIDATOR, hp


@dataclass(frozen=True)
class FilteredBCHyperparameters(BCHyperparameters):
    """Hyperparameters of BC, with the best tenth of the episodes."""

    augment: tuple[str, ...] = hp(("top:0.1",), AUGMENT, syntax=AUGMENT_SYNTAX, validator=AUGMENT_VALIDATOR)


class FilteredBC(BC):
    """Behaviour cloning of the best episodes."""

    Hyperparameters = FilteredBCHyperparameters
