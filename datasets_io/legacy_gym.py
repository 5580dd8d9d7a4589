"""Adapt environments of the legacy `gym` package, with its old or new interface, to Gymnasium.

Own code, as shimmy 2.0.1 is not sufficient (tested with gym 0.26.2, gymnasium 1.2.2 and NumPy 2.4): it needs
the interface of an environment as an option, fails on one of the old interface that has no `seed`, and a copy
of its adapter recurses without end.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

LIMIT = "max_episode_steps"


def adapt(env_id: str, options: Mapping[str, Any] | None = None) -> Any:
    """Make an environment that is registered with `gym`.

    Args:
        env_id: Id in `gym`.
        options: For its constructor; but `max_episode_steps` replaces the time limit it is registered with.

    Returns:
        A `gymnasium.Env`. At its time limit episodes are truncated, not terminated.

    Raises:
        gymnasium.error.Error: The package `gym` is not installed, or cannot create the environment.
    """
    options = dict(options or {})
    gym, spec = _package(), _spec(env_id)
    limit = options.pop(LIMIT, spec.max_episode_steps)
    if "disable_env_checker" in inspect.signature(gym.make).parameters:
        options["disable_env_checker"] = True  # it needs numpy.bool8, which NumPy 2 has not
    try:
        env = gym.make(spec.id, **options)
    except gym.error.Error as error:
        raise gymnasium.error.Error(f"{error}") from None
    # gym 0.26 wraps every environment in these, and they take only its own interface.
    around = {"OrderEnforcing"} | ({"TimeLimit"} if spec.max_episode_steps else set())
    while type(env).__name__ in around:
        around.remove(type(env).__name__)
        env = env.env
    adapted: Any = LegacyEnv(env)
    adapted.spec = EnvSpec(f"gym:{env_id}")
    return gymnasium.wrappers.TimeLimit(adapted, limit) if limit else adapted


def time_limit(env_id: str) -> int | None:
    """Return the time limit in steps of an environment of `gym`; None if it has none.

    Raises:
        gymnasium.error.Error: The package `gym` is not installed, or does not know the environment.
    """
    limit: int | None = _spec(env_id).max_episode_steps
    return limit


def _package() -> Any:
    try:
        return importlib.import_module("gym")
    except ImportError as error:
        raise gymnasium.error.DependencyNotInstalled(f"{error}: pip install 'off2on[legacy]'") from None


def _spec(env_id: str) -> Any:
    gym = _package()
    try:
        return gym.spec(env_id)
    except gym.error.Error as error:
        raise gymnasium.error.UnregisteredEnv(f"{error}") from None


class LegacyEnv(gymnasium.Env):  # type: ignore[misc]
    """Environment of `gym` with the interface of Gymnasium.

    Args:
        env: With the old interface (`reset` gives the observation, `step` four values) or the new one
            (observation and info, five values).
    """

    def __init__(self, env: Any) -> None:
        self._env = env
        self.observation_space = _space(env.observation_space)
        self.action_space = _space(env.action_space)
        # The innermost environment declares its arguments; the wrappers pass on any argument.
        known = inspect.signature(env.unwrapped.reset).parameters
        anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
        self._takes = {name for name in ("seed", "options") if anything or name in known}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Reset the environment; return observation and info."""
        super().reset(seed=seed)
        given = {"seed": seed, "options": options}
        if seed is not None and "seed" not in self._takes and hasattr(self._env, "seed"):
            self._env.seed(seed)
        result = self._env.reset(**{name: given[name] for name in self._takes})
        is_new = self._takes and isinstance(result, tuple) and len(result) == 2
        return result if is_new else (result, {})

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step; return observation, reward, terminated, truncated and info."""
        obs, reward, *ends, info = self._env.step(action)
        if len(ends) == 1:
            # The old interface has one flag; this key is true if a time limit set it.
            truncated = bool(ends[0]) and bool(info.get("TimeLimit.truncated", False))
            ends = [bool(ends[0]) and not truncated, truncated]
        terminated, truncated = ends
        return obs, float(np.squeeze(reward)), bool(terminated), bool(truncated), info

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def _space(space: Any) -> Any:
    """Convert a space of `gym` to Gymnasium's."""
    match type(space).__name__:
        case "Box":
            return spaces.Box(space.low, space.high, space.shape, space.dtype.type)
        case "Discrete":
            return spaces.Discrete(int(space.n), start=int(getattr(space, "start", 0)))
        case "MultiDiscrete":
            return spaces.MultiDiscrete(space.nvec)
        case "MultiBinary":
            return spaces.MultiBinary(space.n)
        case "Dict":
            return spaces.Dict([(name, _space(part)) for name, part in space.spaces.items()])
        case "Tuple":
            return spaces.Tuple([_space(part) for part in space.spaces])
    raise gymnasium.error.Error(f"the space {space} of gym has no counterpart in Gymnasium here")
