"""Recipe modifiers: classes that change an algorithm in the online phase by overriding one hook.

`settings.apply_modifiers` puts them in front of an algorithm in the order of inheritance, so that
``super()`` is the algorithm itself. In the offline phase they have no effect.
"""

from math import ceil
from typing import Any, ClassVar

from off2on.recipe.hooks import Objective, Recipe


class RecipeModifier(Recipe):
    """Base class of all modifiers."""

    name: ClassVar[str] = ""
    """Value of the online setting that selects it."""
    online_settings: ClassVar[Any]
    """An `off2on.online.settings.OnlineSettings`."""
    offline_updates: ClassVar[int]
    """Number of updates before the handover."""
    extra_acting_networks: ClassVar[tuple[str, ...]] = ()
    """Networks that acting needs besides those of the algorithm."""

    @classmethod
    def check(cls, recipe: type[Recipe]) -> None:
        """Check that an algorithm can be modified.

        Raises:
            OnlineSettingsError: The algorithm lacks what the modifier needs.
        """


class PolicyDelay(RecipeModifier):
    """Update the value networks on every online update, and all others on every ``policy_delay``-th.

    During ``head_start``, the first online updates, only the value networks are updated.

    A high update-to-data ratio is meant for the values; a policy updated as often exploits their errors
    (Ball et al., RLPD, arXiv:2302.02948, algorithm 1; Chen et al., REDQ, arXiv:2101.05982). In a head start
    the values adapt to the first online transitions (the authors' code of SO2, arXiv:2312.07685).
    """

    @classmethod
    def is_due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Return False for a policy objective that waits; otherwise ask the algorithm."""
        delay, head_start = cls.online_settings.policy_delay, cls.online_settings.head_start
        turn = ceil(update / cls.turns)
        waits = turn % delay > 0 or update - cls.offline_updates <= head_start
        if waits and progress >= 1 and objective.name not in cls.value_networks:
            return False
        return super().is_due(objective, hp, update, progress)
