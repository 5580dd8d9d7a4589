"""What changes a recipe online: classes that override one hook, as a user's subclass would.

A modifier is put in front of a recipe (`settings.adapted`), so that ``super()`` is the recipe's own way.
Offline it does nothing. Explorations and targets are changes; what is worth no file of its own is here.
"""

from typing import Any, ClassVar

from off2on.recipe.hooks import Objective, Recipe


class Change(Recipe):
    """The base of all changes."""

    online_settings: ClassVar[Any]
    """The settings, a `online_settings.OnlineSettings`."""
    offline_updates: ClassVar[int]
    """Those before the handover."""
    asks: ClassVar[tuple[str, ...]] = ()
    """Networks that acting needs besides the recipe's own."""

    @classmethod
    def check(cls, recipe: type[Recipe]) -> None:
        """Refuse a recipe that cannot be changed so.

        Raises:
            CrossingError: Says what it lacks.
        """


class PolicyDelay(Change):
    """Values move on every online update, all else on every so-many-th, and not during their head start.

    Many updates per environment step are for the values; a policy that moved as often would run after
    their errors (Ball et al., RLPD, arXiv:2302.02948, algorithm 1; Chen et al., REDQ, arXiv:2101.05982).
    In a head start values get used to the first online rows (the authors' code of SO2, arXiv:2312.07685).
    """

    @classmethod
    def due(cls, objective: Objective, hp: Any, update: int, progress: float) -> bool:
        """Whether an update, counted from 1, moves an objective's network."""
        delay, head_start = cls.online_settings.policy_delay, cls.online_settings.head_start
        waits = update % delay > 0 or update - cls.offline_updates <= head_start
        if waits and progress >= 1 and objective.name not in cls.values:
            return False
        return super().due(objective, hp, update, progress)
