"""Make environments; data, evaluation and rollouts all use `make`, so that they use the same one."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from datasets_io.errors import SimulatorError, UserError
from datasets_io.flatten import pick, select
from datasets_io.imports import KNOWN_PACKAGES, import_module, is_known, names_code, raised_at

LEGACY = "gym:"
"""Prefix of ids of environments of the old `gym` package."""

OBSERVE = "observe"
"""Name of the option with the parts of a dictionary of observations to keep."""

MOST_STEPS = 100_000
"""Steps after which an episode counts as endless, unless the environment declares a higher limit."""

_REGISTERING_MODULES = {
    "gymnasium_robotics": ("AdroitHand", "AntMaze_", "Fetch", "FrankaKitchen", "Hand", "PointMaze_"),
    "off2on.simulators": ("off2on/",),
}
"""Modules that register environments when imported, with the prefixes of their ids."""

_EXTRAS = {"gymnasium_robotics": "robotics", "ogbench": "ogbench", "gym": "legacy"}


def make(env_id: str, options: Mapping[str, Any] | None = None, *, named: bool = False) -> Any:
    """Make an environment whose observations are one vector.

    Args:
        env_id: A Gymnasium id, ``module:Id``, or ``gym:Id`` for one of the old `gym` package.
        options: For its constructor; but `observe`, a list of keys, selects parts of a dictionary of
            observations, in this order; a dot separates the keys of nested dictionaries.
        named: The user named the environment: its module is imported, see `registered`. Otherwise no option
            may name code.

    Returns:
        The environment. Nested observations and matrices become a vector, as by `datasets_io.flatten`;
        actions are converted as by `take_policy_actions`.

    Raises:
        SimulatorError: See `registered` and `options_for`.
        Exception: Any error of the package of the environment.
    """
    import gymnasium as gym
    from gymnasium.wrappers import FlattenObservation, TransformObservation

    options = dict(options or {})
    if not named:
        _refuse_code(env_id, options)
    keys = options.pop(OBSERVE, None)
    name = registered(env_id, named=named)
    env: Any
    if env_id.startswith(LEGACY):
        from datasets_io.legacy_gym import adapt

        env = adapt(name, options)
    else:
        env = gym.make(name, **options)
    env = take_policy_actions(env)
    if keys is not None:
        # FilterObservation of Gymnasium sorts the keys alphabetically.
        env = TransformObservation(env, lambda obs: pick(obs, keys), select(env.observation_space, keys))
    space = env.observation_space
    is_matrix = len(space.shape or ()) == 2 and space.dtype != np.uint8  # as `Episode` takes them
    if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple) or is_matrix:
        env = FlattenObservation(env)
    return env


def registered(env_id: str, *, named: bool = False) -> str:
    """Return an id as Gymnasium, or `gym`, knows it, after importing the module that registers it.

    Args:
        env_id: As for `make`. Those of Gymnasium-Robotics and ours need no module.
        named: The user named the environment. Otherwise the id may come from a file: then only modules of
            known packages are imported, and those that are loaded already.

    Raises:
        SimulatorError: The module would be imported only because a file names it, or it cannot be imported.
        gymnasium.error.DependencyNotInstalled: A known package is not installed.
    """
    import gymnasium as gym

    module, name = _module_of(env_id), env_id.removeprefix(LEGACY).rpartition(":")[2]
    if not module and not env_id.startswith(LEGACY) and name not in gym.registry:
        module = next(
            (module for module, begins in _REGISTERING_MODULES.items() if name.startswith(begins)), ""
        )
    if not named and not is_known(module):
        raise SimulatorError(
            f"the environment {env_id} is in the module {module}, which only a file names.",
            "A module is imported only if it is named on the command line.",
            f"--env {env_id}",
        )
    package = module.partition(".")[0]
    if package in KNOWN_PACKAGES:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            hint = f": pip install 'off2on[{_EXTRAS[package]}]'" if package in _EXTRAS else ""
            raise gym.error.DependencyNotInstalled(f"{error}{hint}") from None
    elif module:
        try:
            import_module(module)
        except UserError as error:
            what = f"the environment {env_id} cannot be made: {error.what}"
            raise SimulatorError(what, error.expected, where=error.where) from error
    return name


def may_make(env_id: str) -> bool:
    """Return True if an environment that a file names may be made, see `registered`."""
    return is_known(_module_of(env_id))


def _module_of(env_id: str) -> str:
    return env_id.removeprefix(LEGACY).rpartition(":")[0]


def check_named(env_id: str) -> None:
    """Check that an environment that the user names as ``module:Id`` can be made; import its module.

    Raises:
        SimulatorError: It cannot be made.
    """
    if not _module_of(env_id):
        return  # data can be used without the package of their environment
    with environment_errors(env_id):
        make(env_id, named=True).close()


@contextmanager
def environment_errors(env_id: str) -> Iterator[None]:
    """Convert what an environment raises to an error that names the environment and the line of its code.

    Raises:
        SimulatorError: Instead of any other exception.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        import gymnasium as gym

        words = [line for line in str(error).splitlines() if line.strip()] or [""]
        if isinstance(error, gym.error.Error):  # Gymnasium's own words about an id, a version, a package
            what, where = f"the environment {env_id} cannot be made: {words[0]}", ""
        else:
            what, where = f"{type(error).__name__}: {words[-1]}", raised_at(error)
            what = f"the environment {env_id} raised {what}"
        raise SimulatorError(
            what,
            "Expected an environment that can be made, reset and stepped.",
            "pip install 'off2on[mujoco]'" if "mujoco" in str(error).lower() else "",
            where=where,
        ) from error


def check_length(env_id: str, spec: Any, steps: int) -> None:
    """Check that an episode goes on no longer than `MOST_STEPS` or the limit that its environment declares.

    Raises:
        SimulatorError: It does.
    """
    limit = max(MOST_STEPS, (spec and spec.max_episode_steps) or 0)
    if steps >= limit:
        raise SimulatorError(
            f"an episode of {env_id} has not ended after {limit:,} steps.",
            "Expected an environment that ends its episodes; a limit ends every episode: "
            "gymnasium.register(…, max_episode_steps=1000).",
        )


def not_finite(env_id: Any, step: int, *values: Any) -> SimulatorError:
    """Return the error for an environment that gave NaN or an infinity in a step."""
    given = next(str(part) for part in np.concatenate([np.ravel(v) for v in values]) if not np.isfinite(part))
    return SimulatorError(
        f"the environment {env_id} gave {given} as an observation or reward in step {step:,}.",
        "Expected finite numbers. Nothing of this step was learned from.",
    )


def options_for(env_id: str, own_id: str | None, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data's options for an environment; for another environment only the observed keys.

    Raises:
        SimulatorError: An option names code, as ``module:name``.
    """
    options = {name: value for name, value in own.items() if env_id == own_id or name == OBSERVE}
    _refuse_code(env_id, options)
    return options


def _refuse_code(env_id: str, value: Any) -> None:
    """Check that no text in the options of data names code, which an environment might import."""
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for part in value:
            _refuse_code(env_id, part)
    elif isinstance(value, str) and names_code(value):
        raise SimulatorError(
            f"an option of the data for {env_id} names code: {value!r}.", "Options in files are plain values."
        )


def take_policy_actions(env: Any) -> Any:
    """Return an environment that takes a policy's float32 actions.

    If its actions are a Box of another type, such as int64, they are rounded and converted to that type. The
    first action is checked against the action space.
    """
    import gymnasium as gym

    space = env.action_space
    if not isinstance(space, gym.spaces.Box):
        return env
    is_first, is_float = True, np.can_cast(np.float32, space.dtype)

    def convert(action: Any) -> Any:
        nonlocal is_first
        if not is_float:
            action = np.clip(np.rint(action), space.low, space.high).astype(space.dtype)
        if is_first:
            is_first = False
            _check_action(space, action)
        return action

    return gym.wrappers.TransformAction(env, convert, space)


def _check_action(space: Any, action: Any) -> None:
    tolerance = 1e-4 * (1 + np.abs(action))  # of float32, in the bounds of data and environment
    inside = (action >= space.low - tolerance) & (action <= space.high + tolerance)
    if np.shape(action) != space.shape or not inside.all():
        raise SimulatorError(
            f"the first action is {np.array2string(np.asarray(action), threshold=8)}.",
            f"Expected an action of the environment, in {space}.",
        )


class Spaces(NamedTuple):
    """Spaces of an environment, or the error of its creation (the spaces are then None)."""

    observation: Any
    action: Any
    error: str
    nested: Any = None
    """Observation space before flattening; None if it is already flat."""


def spaces_of(env_id: str, options: Mapping[str, Any] | None = None, *, named: bool = False) -> Spaces:
    """Make an environment, return its spaces and close it. The arguments are those of `make`."""
    from gymnasium.wrappers import FlattenObservation

    try:
        env = make(env_id, options, named=named)
    except Exception as error:
        # Any error of the package of the environment. Data can be used without their simulator.
        return Spaces(None, None, f"{error}".splitlines()[0] if f"{error}" else repr(error))
    nested = env.env.observation_space if isinstance(env, FlattenObservation) else None
    spaces = Spaces(env.observation_space, env.action_space, "", nested)
    env.close()
    return spaces
