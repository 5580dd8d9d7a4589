"""Asking Gymnasium for an environment's spaces, without needing the simulator to be installed."""

from typing import Any, NamedTuple


class Spaces(NamedTuple):
    """An environment's spaces, or why it could not be made (both None then)."""

    observation: Any
    action: Any
    trouble: str


def spaces_of(env_id: str) -> Spaces:
    """Makes an environment, looks, closes it."""
    import gymnasium as gym

    try:
        env = gym.make(env_id)
    except Exception as error:
        # Whatever the environment's own package raises. Data can be kept without their simulator.
        return Spaces(None, None, f"{error}".splitlines()[0] if f"{error}" else repr(error))
    spaces = Spaces(env.observation_space, env.action_space, "")
    env.close()
    return spaces
