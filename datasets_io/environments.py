"""Make environments; data, evaluation and rollouts all use `make`, so that they use the same one."""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from datasets_io.flatten import pick, select

LEGACY = "gym:"
"""Prefix of ids of environments of the old `gym` package."""

OBSERVE = "observe"
"""Name of the option with the parts of a dictionary of observations to keep."""

_REGISTERING_MODULES = {
    "gymnasium_robotics": ("AdroitHand", "AntMaze_", "Fetch", "FrankaKitchen", "Hand", "PointMaze_"),
    "off2on.simulators": ("off2on/",),
}
"""Modules that register environments when imported, with the prefixes of their ids."""


def make(env_id: str, options: Mapping[str, Any] | None = None) -> Any:
    """Make an environment whose observations are one vector.

    Args:
        env_id: A Gymnasium id, ``module:Id``, or ``gym:Id`` for one of the old `gym` package.
        options: For its constructor; but `observe`, a list of keys, selects parts of a dictionary of
            observations, in this order; a dot separates the keys of nested dictionaries.

    Returns:
        The environment. Nested observations are concatenated, as `datasets_io.flatten` does with rows.

    Raises:
        Exception: Any error of the package of the environment.
    """
    import gymnasium as gym
    from gymnasium.wrappers import FlattenObservation, TransformObservation

    options = dict(options or {})
    keys = options.pop(OBSERVE, None)
    env: Any
    if env_id.startswith(LEGACY):
        from datasets_io.legacy_gym import adapt

        env = adapt(env_id.removeprefix(LEGACY), options)
    else:
        env = gym.make(registered(env_id), **options)
    if keys is not None:
        # FilterObservation of Gymnasium sorts the keys alphabetically.
        env = TransformObservation(env, lambda obs: pick(obs, keys), select(env.observation_space, keys))
    if isinstance(env.observation_space, gym.spaces.Dict | gym.spaces.Tuple):
        env = FlattenObservation(env)
    return env


def registered(env_id: str) -> str:
    """Return an id as Gymnasium knows it, after importing the package that registers it.

    Args:
        env_id: A Gymnasium id, or ``module:Id``. Those of Gymnasium-Robotics and ours need no module.

    Raises:
        gymnasium.error.DependencyNotInstalled: The module is not installed.
    """
    import gymnasium as gym

    module, _, name = env_id.rpartition(":")
    if not module and name not in gym.registry:
        module = next(
            (module for module, begins in _REGISTERING_MODULES.items() if name.startswith(begins)), ""
        )
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            extra = {"gymnasium_robotics": "robotics", "ogbench": "ogbench"}.get(module)
            hint = f": pip install 'off2on[{extra}]'" if extra else ""
            raise gym.error.DependencyNotInstalled(f"{error}{hint}") from None
    return name


def options_for(env_id: str, own_id: str | None, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data's options for an environment; for another environment only the observed keys."""
    return {name: value for name, value in own.items() if env_id == own_id or name == OBSERVE}


class Spaces(NamedTuple):
    """Spaces of an environment, or the error of its creation (the spaces are then None)."""

    observation: Any
    action: Any
    error: str
    nested: Any = None
    """Observation space before flattening; None if it is already flat."""


def spaces_of(env_id: str, options: Mapping[str, Any] | None = None) -> Spaces:
    """Make an environment, return its spaces and close it. The options are those of `make`."""
    from gymnasium.wrappers import FlattenObservation

    try:
        env = make(env_id, options)
    except Exception as error:
        # Any error of the package of the environment. Data can be used without their simulator.
        return Spaces(None, None, f"{error}".splitlines()[0] if f"{error}" else repr(error))
    nested = env.env.observation_space if isinstance(env, FlattenObservation) else None
    spaces = Spaces(env.observation_space, env.action_space, "", nested)
    env.close()
    return spaces
