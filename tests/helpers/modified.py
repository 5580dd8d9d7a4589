"""Recipes as they are after the handover."""

from typing import Any

from off2on.online.settings import OnlineSettings, apply_modifiers
from off2on.strategies.append import Append


def modified(recipe: Any, **settings: Any) -> Any:
    """Return the recipe with these online settings, or raise `OnlineSettingsError`."""
    return apply_modifiers(recipe, OnlineSettings.resolve(Append, settings, recipe))
