"""Resolve the settings of a run, once.

Names are looked up and text is parsed. Defaults, presets, the values of a strategy's paper and the values
that are computed from the data are filled in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets_io import Shards
from off2on.errors import suggesting
from off2on.online.settings import OnlineSettings, apply_modifiers, online_hyperparameters, split_overrides
from off2on.recipe.hyperparameters import PRESET, Hyperparameters, Settings
from off2on.recipe.presets import with_preset_of_data
from off2on.replay.strategy import Strategy
from off2on.replay.value_range import with_value_range
from off2on.strategies import find_strategy


@dataclass(frozen=True)
class ResolvedSettings:
    """Resolved settings of a run, for learners, environment runners and reports.

    Attributes:
        recipe: The algorithm's class with the modifiers of the online settings, which have no effect
            offline.
        hp: Hyperparameters of the offline phase.
        strategy: Class of the fine-tuning strategy.
        strategy_options: Options of the strategy.
        online: The online settings.
        online_hp: Hyperparameters of the online phase.
        changed_online: Names of the hyperparameters with another value in the online phase.
        preset: Name of the preset; None without.
    """

    recipe: Any
    hp: Hyperparameters
    strategy: type[Strategy]
    strategy_options: Settings
    online: OnlineSettings
    online_hp: Hyperparameters
    changed_online: tuple[str, ...] = ()
    preset: str | None = None


def resolve(
    algorithm: Any,
    name: str,
    shards: Shards,
    hyperparameters: Mapping[str, object],
    strategy_name: str,
    strategy_options: Mapping[str, object],
    online_overrides: Mapping[str, object],
    offline_updates: int,
) -> ResolvedSettings:
    """Resolve the settings of a run.

    Args:
        algorithm: Class of the algorithm.
        name: Name of the algorithm, for messages.
        shards: The data.
        hyperparameters: Names to values, typed or as text.
        strategy_name: Name of the fine-tuning strategy, or ``package.module:Class``.
        strategy_options: Its options, typed or as text.
        online_overrides: Online settings, and hyperparameters with another value online, typed or as text.
        offline_updates: Gradient updates before the handover.

    Raises:
        UserError: A name is unknown, a value is out of range, or settings do not go together.
    """
    given = with_preset_of_data(algorithm.Hyperparameters, hyperparameters, shards.name, name)
    parsed = algorithm.Hyperparameters.parse(given, name)
    hp: Hyperparameters = with_value_range(algorithm.resolve(parsed, shards), shards)
    strategy = find_strategy(strategy_name)
    with suggesting(f"off2on strategies {strategy_name}"):
        options = strategy.Options.parse(strategy_options, strategy_name)
    with suggesting("off2on strategies"):
        settings, changed = split_overrides(online_overrides, algorithm)
        online = OnlineSettings.resolve(strategy, settings, algorithm)
    return ResolvedSettings(
        recipe=apply_modifiers(algorithm, online, offline_updates),
        hp=hp,
        strategy=strategy,
        strategy_options=options,
        online=online,
        online_hp=online_hyperparameters(algorithm, hp, changed, online.regularisation),
        changed_online=tuple(changed),
        preset=str(given[PRESET]) if PRESET in given else None,
    )
