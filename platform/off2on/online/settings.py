"""The factors of a crossing: what may differ online besides the rows a batch is made of.

    algorithm × strategy × warm-up × update-to-data ratio × exploration × targets × pull × resets

Each is set alone, so that two runs from one handover can differ in one of them. A strategy that a paper
describes states the paper's values of the others (`Strategy.online_settings`), which hold by default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from off2on.errors import HyperparameterError, OnlineSettingsError, nearest
from off2on.online.exploration import EXPLORATIONS
from off2on.online.modifier import PolicyDelay
from off2on.online.target_values import TARGETS, Jitter
from off2on.recipe.hooks import Recipe
from off2on.recipe.hyperparameters import Hyperparameters, Settings, current_names, hp
from off2on.replay.strategy import Strategy

FIRST = 1000
"""Environment steps of learning in which `burst` holds."""

FIXED = ("normalise_obs", "reward", "augment")
"""Hyperparameters that must be the same on both sides: they say what the rows are."""


@dataclass(frozen=True)
class OnlineSettings(Settings):
    """What happens after the handover, the rows apart."""

    warm_up: int = hp(0, "environment steps with the policy as handed over, before the first update", least=0)
    utd: float = hp(1.0, "gradient updates per environment step", above=0)
    burst: float = hp(1.0, f"so many times as many updates in the first {FIRST:,} steps of learning", least=0)
    rollout: int = hp(50, "environment steps between two visits to the learner", least=1)
    policy_delay: int = hp(1, "updates of the values per update of all else", least=1)
    head_start: int = hp(0, "first updates online that move the values alone (SO2)", least=0)
    exploration: str = hp(
        "own",
        "who collects: the recipe's own exploring policy; the same with noise; the most promising of several "
        "of its actions (SUNRISE); it or the policy of the handover, by the critics (PEX)",
        choices=tuple(EXPLORATIONS),
    )
    noise: float = hp(
        0.1,
        "sigma of noisy exploration, in units of half the action box",
        least=0,
        only=("exploration", "noisy"),
    )
    proposals: int = hp(
        10, "actions that optimistic exploration chooses from", least=1, only=("exploration", "optimistic")
    )
    optimism: float = hp(
        10.0, "lambda, weight of the critics' std in its choice", least=0, only=("exploration", "optimistic")
    )
    selectivity: float = hp(
        10.0,
        "k of the choice between two policies: 0 tosses a coin",
        least=0,
        only=("exploration", "expansion"),
    )
    targets: str = hp(
        "own",
        "how the target critics combine: the recipe's own way, the smallest, the mean, the smaller of a "
        "random pair (RLPD, REDQ), the mean of that over all pairs (E2O)",
        choices=tuple(TARGETS),
    )
    target_jitter: float = hp(0.0, "sigma of noise on the targets' actions, cut at two sigma (SO2)", least=0)
    regularisation: float = hp(
        1.0, "factor on the weights that keep the policy or the values close to the data", least=0
    )
    asynchronous: bool = hp(False, "collect while the learner updates; needs workers")
    staleness: int = hp(
        1000,
        "asynchronous: most updates by which the weights of what is collected may be behind",
        least=0,
        only=("asynchronous", True),
    )
    resets: int = hp(0, "updates between two fresh starts of the values (arXiv:2205.07802); 0: none", least=0)

    def updates_due(self, env_steps: int) -> int:
        """All gradient updates that are due after so many environment steps."""
        learning = max(0, env_steps - self.warm_up)
        return int(self.utd * (learning + (self.burst - 1) * min(learning, FIRST)))

    @classmethod
    def of(
        cls, strategy: type[Strategy], said: Mapping[str, object], recipe: type[Recipe]
    ) -> "OnlineSettings":
        """What is said, then what the strategy's paper does, then the defaults.

        Raises:
            HyperparameterError: A value out of range.
            CrossingError: The recipe cannot do it.
        """
        papers = {
            name: value
            for name, value in strategy.online_settings.items()
            if name != "regularisation" or recipe.regularisation
        }
        online_settings = cls.parse({**papers, **said}, "the online side")
        for factor, change in online_settings.changes().items():
            try:
                change.check(recipe)
            except OnlineSettingsError as error:
                if factor in said:
                    raise
                asked = f"Strategy {strategy.__name__} asks for it: {factor}={papers[factor]}."
                raise OnlineSettingsError(error.what, f"{asked}\n{error.expected}", error.attempt) from None
        if (
            online_settings.regularisation != 1 or strategy.needs_regularisation
        ) and not recipe.regularisation:
            raise OnlineSettingsError(
                f"{recipe.__name__} has no regularisation towards the data that could be scaled.",
                "CQL, TD3+BC, ReBRAC and their kin have one.",
            )
        return online_settings

    def changes(self) -> dict[str, Any]:
        """The changes to the recipe, by the factor that asks; each before the one whose ``super()`` it is."""
        found = {
            "target_jitter": Jitter if self.target_jitter else None,
            "targets": TARGETS[self.targets],
            "exploration": EXPLORATIONS[self.exploration],
            "policy_delay": PolicyDelay if self.policy_delay > 1 or self.head_start else None,
        }
        return {factor: change for factor, change in found.items() if change is not None}


@cache
def adapted(recipe: Any, online_settings: OnlineSettings, offline_updates: int = 0) -> Any:
    """The recipe with this crossing's changes: a subclass, as a user would write it; offline the same.

    Args:
        recipe: Whose way it otherwise is.
        online_settings: What changes.
        offline_updates: How many there are before.
    """
    changes = tuple(online_settings.changes().values())
    if not changes:
        return recipe
    acting = dict.fromkeys((*recipe.acting, *(name for change in changes for name in change.asks)))
    said = {"online_settings": online_settings, "offline_updates": offline_updates, "acting": tuple(acting)}
    return type(recipe.__name__, (*changes, recipe), said | {"__module__": recipe.__module__})


def split(said: Mapping[str, object], recipe: Any) -> tuple[dict[str, object], dict[str, object]]:
    """Tells factors of the crossing from hyperparameters that have another value online.

    Raises:
        HyperparameterError: A name is neither, or must not differ online.
    """
    said = current_names(said)
    factors, ours = OnlineSettings.rules(), recipe.Hyperparameters.rules()
    for name in said:
        if name in FIXED:
            raise HyperparameterError(
                f"{name} must be the same online as offline.", "It says what the learner's rows are."
            )
        if name not in factors and name not in ours:
            raise HyperparameterError(
                f"{recipe.__name__} has nothing called '{name}' that could be set online.",
                f"{nearest(name, [*factors, *ours])}Factors of the crossing: {' '.join(factors)}",
            )
    return (
        {name: value for name, value in said.items() if name in factors},
        {name: value for name, value in said.items() if name not in factors},
    )


def online_hyperparameters(
    recipe: Any, offline: Hyperparameters, said: Mapping[str, object], regularisation: float
) -> Hyperparameters:
    """The hyperparameters after the handover.

    Args:
        recipe: Whose they are.
        offline: Those before it.
        said: Names and values, perhaps text, of those that differ.
        regularisation: Factor on the weights of `Recipe.regularisation`.
    """
    parsed = type(offline).parse(said, recipe.__name__)
    changed = replace(offline, **{name: getattr(parsed, name) for name in said})
    return changed if regularisation == 1 else recipe.scale_regularisation(changed, regularisation)
