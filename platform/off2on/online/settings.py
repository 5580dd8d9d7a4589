"""Online settings: what may differ in the online phase, apart from the composition of the batches.

    algorithm × strategy × warm-up × update-to-data ratio × exploration × targets × regularisation × resets

Each is set independently, so that two runs from one handover can differ in one of them. A fine-tuning
strategy of a paper states the paper's values (`Strategy.online_settings`), which hold by default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from off2on.errors import HyperparameterError, OnlineSettingsError
from off2on.online.exploration import EXPLORATIONS
from off2on.online.modifier import PolicyDelay, RecipeModifier
from off2on.online.target_values import TARGETS, TargetJitter
from off2on.recipe.hooks import Recipe
from off2on.recipe.hyperparameters import Hyperparameters, Settings, current_names, hp
from off2on.replay.strategy import Strategy

BURST_STEPS = 1000
"""Number of environment steps of learning in which ``burst`` holds."""

SAME_ONLINE = ("normalise_obs", "reward", "augment", "chunk")
"""Hyperparameters that must have the same value in both phases, because they define the transitions."""


@dataclass(frozen=True)
class OnlineSettings(Settings):
    """Settings of the online phase, apart from the composition of the batches."""

    warm_up: int = hp(
        0, "environment steps with the policy of the handover, before the first online update", least=0
    )
    utd: float = hp(1.0, "update-to-data ratio: gradient updates per environment step", above=0)
    burst: float = hp(
        1.0, f"factor on utd in the first {BURST_STEPS:,} environment steps of learning", least=0
    )
    rollout: int = hp(50, "environment steps between two exchanges with the learner", least=1)
    policy_delay: int = hp(
        1,
        "updates per update of the networks that estimate no values; networks that the algorithm delays "
        "itself are updated where both schedules allow it",
        least=1,
    )
    head_start: int = hp(
        0, "first online updates in which only the value networks are updated (SO2)", least=0
    )
    exploration: str = hp(
        "own",
        "source of exploring actions: the algorithm's exploring policy; the same with noise; the most "
        "optimistic of several of its actions (SUNRISE); it or the policy of the handover, chosen by the "
        "critics (PEX)",
        choices=tuple(EXPLORATIONS),
    )
    noise: float = hp(
        0.1,
        "sigma of noisy exploration, in units of half the action range",
        least=0,
        only=("exploration", "noisy"),
    )
    proposals: int = hp(
        10,
        "number of actions that optimistic exploration chooses from",
        least=1,
        only=("exploration", "optimistic"),
    )
    optimism: float = hp(
        10.0,
        "lambda, weight of the critics' standard deviation in optimistic exploration",
        least=0,
        only=("exploration", "optimistic"),
    )
    selectivity: float = hp(
        10.0,
        "k, inverse temperature of the choice between two policies; 0: both are equally likely",
        least=0,
        only=("exploration", "expansion"),
    )
    targets: str = hp(
        "own",
        "combination of the target critics: that of the algorithm, the minimum, the mean, the minimum of a "
        "random pair (RLPD, REDQ), the mean of that over all pairs (E2O)",
        choices=tuple(TARGETS),
    )
    target_jitter: float = hp(
        0.0, "sigma of the noise on the actions of the targets, clipped at two sigma (SO2)", least=0
    )
    regularisation: float = hp(1.0, "factor on the weights of the regularisation towards the data", least=0)
    asynchronous: bool = hp(False, "collect transitions while the learner updates; needs workers")
    staleness: int = hp(
        1000,
        "largest number of updates by which the weights of a collecting policy may be behind",
        least=0,
        only=("asynchronous", True),
    )
    resets: int = hp(
        0, "updates between two resets of the value networks (arXiv:2205.07802); 0: no resets", least=0
    )

    def updates_due(self, env_steps: int) -> int:
        """Return the number of online gradient updates that are due after so many environment steps."""
        learning = max(0, env_steps - self.warm_up)
        return int(self.utd * (learning + (self.burst - 1) * min(learning, BURST_STEPS)))

    @classmethod
    def resolve(
        cls, strategy: type[Strategy], given: Mapping[str, object], recipe: type[Recipe]
    ) -> "OnlineSettings":
        """Combine the given settings, those of the strategy's paper and the defaults, in this order.

        Raises:
            HyperparameterError: A value is out of range.
            OnlineSettingsError: The algorithm cannot be modified in this way.
        """
        has_subset_by_default = bool(getattr(recipe.Hyperparameters, "subset", None))
        of_strategy = {
            name: value
            for name, value in strategy.online_settings.items()
            if name != "regularisation" or recipe.regularisation
            if (name, value) != ("targets", "random_pair") or not has_subset_by_default  # of its own size
        }
        resolved = cls.parse({**of_strategy, **given}, "the online phase")
        for name, modifier in resolved.modifiers().items():
            try:
                modifier.check(recipe)
            except OnlineSettingsError as error:
                if name in given:
                    raise
                source = f"{name}={of_strategy[name]} comes from the strategy {strategy.__name__}."
                error.expected = f"{source}\n{error.expected}"
                raise
        if (resolved.regularisation != 1 or strategy.needs_regularisation) and not recipe.regularisation:
            raise OnlineSettingsError(
                f"{recipe.__name__} has no regularisation towards the data that could be scaled.",
                "Expected an algorithm that has one, such as CQL, TD3+BC or ReBRAC.",
            )
        return resolved

    def modifiers(self) -> dict[str, type[RecipeModifier]]:
        """Return the modifiers by the setting that selects each of them, in the order of inheritance."""
        found = {
            "target_jitter": TargetJitter if self.target_jitter else None,
            "targets": TARGETS[self.targets],
            "exploration": EXPLORATIONS[self.exploration],
            "policy_delay": PolicyDelay if self.policy_delay > 1 or self.head_start else None,
        }
        return {name: modifier for name, modifier in found.items() if modifier is not None}


@cache
def apply_modifiers(recipe: Any, online_settings: OnlineSettings, offline_updates: int = 0) -> Any:
    """Return the algorithm with the modifiers of its online settings, as a subclass.

    Args:
        recipe: The algorithm.
        online_settings: The settings; the algorithm is returned unchanged if they select no modifier.
        offline_updates: Number of updates before the handover.
    """
    modifiers = tuple(online_settings.modifiers().values())
    if not modifiers:
        return recipe
    extra = (name for modifier in modifiers for name in modifier.extra_acting_networks)
    attributes = {
        "online_settings": online_settings,
        "offline_updates": offline_updates,
        "own_action": recipe.own_action,
        "acting_networks": tuple(dict.fromkeys((*recipe.acting_networks, *extra))),
        "__module__": recipe.__module__,
    }
    return type(recipe.__name__, (*modifiers, recipe), attributes)


def split_overrides(given: Mapping[str, object], recipe: Any) -> tuple[dict[str, object], dict[str, object]]:
    """Separate online settings from hyperparameters that have another value in the online phase.

    Raises:
        HyperparameterError: A name is neither of the two, or must have the same value in both phases.
    """
    given = current_names(given)
    settings, hyperparameters = OnlineSettings.rules(), recipe.Hyperparameters.rules()
    for name in given:
        if name in SAME_ONLINE or name in recipe.Hyperparameters.built():
            reason = "it defines the transitions they are trained on"
            if name not in SAME_ONLINE:
                reason = f"{name} defines networks, optimisers or a fitted model"
            raise HyperparameterError(
                f"{name} must be the same in the online phase as in the offline phase.",
                f"The networks and optimisers continue from the handover, and {reason}.",
            )
        if name not in settings and name not in hyperparameters:
            raise HyperparameterError(
                f"{recipe.__name__} has no online setting or hyperparameter '{name}'.",
                f"Online settings: {' '.join(settings)}",
                given=name,
                known=[*settings, *hyperparameters],
            )
    return (
        {name: value for name, value in given.items() if name in settings},
        {name: value for name, value in given.items() if name not in settings},
    )


def online_hyperparameters(
    recipe: Any, offline: Hyperparameters, given: Mapping[str, object], regularisation: float
) -> Hyperparameters:
    """Return the hyperparameters of the online phase.

    Args:
        recipe: The algorithm.
        offline: The hyperparameters of the offline phase.
        given: Names and values, which may be text, of those that differ.
        regularisation: Factor on the weights named by `Recipe.regularisation`.
    """
    changed = replace(offline, **offline.convert(given, recipe.__name__))
    return changed if regularisation == 1 else recipe.scale_regularisation(changed, regularisation)
