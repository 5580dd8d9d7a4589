"""Termination functions of known environments: True where an episode ends in the next observation.

Model rollouts need them, because the learned dynamics do not predict termination. They are those of
Gymnasium's environments, made without arguments, versions 2 to 5, batched: raw observations [..., D]
to bool [...]. Where an environment can terminate, a state that is not a number terminates the episode.

Differences: the rule of Hopper that other libraries inherited bounds nothing, because of a
misplaced parenthesis, ``abs(x < 100)``; here |x| < 100, which is the environment's.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from datasets_io.imports import import_object
from off2on.errors import UnknownName

TerminationFunction = Callable[[Tensor], Tensor]


def never(obs: Tensor) -> Tensor:
    """Return False for every state."""
    return torch.zeros(obs.shape[:-1], dtype=torch.bool, device=obs.device)


def hopper(obs: Tensor) -> Tensor:
    """Return True if the hopper has fallen, leans, or is out of bounds."""
    upright = (obs[..., 0] > 0.7) & (obs[..., 1].abs() < 0.2)
    return ~(upright & (obs[..., 1:].abs() < 100).all(-1))


def walker2d(obs: Tensor) -> Tensor:
    """Return True if the walker is too low, too high, or leans."""
    z, angle = obs[..., 0], obs[..., 1]
    return ~((z > 0.8) & (z < 2.0) & (angle.abs() < 1.0))


def ant(obs: Tensor) -> Tensor:
    """Return True if the ant is too low, too high, or its state is not finite."""
    z = obs[..., 0]
    return ~((z >= 0.2) & (z <= 1.0) & obs.isfinite().all(-1))


def humanoid(obs: Tensor) -> Tensor:
    """Return True if the humanoid is too low or too high."""
    z = obs[..., 0]
    return ~((z > 1.0) & (z < 2.0))


def inverted_pendulum(obs: Tensor) -> Tensor:
    """Return True if the pole leans, or the state is not finite."""
    return ~((obs[..., 1].abs() <= 0.2) & obs.isfinite().all(-1))


def inverted_double_pendulum(obs: Tensor) -> Tensor:
    """Return True if the tip, at the end of two poles of length 0.6, is not above 1."""
    sin, cos = obs[..., 1:3], obs[..., 3:5]
    both = cos[..., 0] * cos[..., 1] - sin[..., 0] * sin[..., 1]
    return ~(0.6 * (cos[..., 0] + both) > 1)


def mountain_car(obs: Tensor) -> Tensor:
    """Return True if the car is at the flag and does not move back."""
    return ~((obs[..., 0] < 0.45) | (obs[..., 1] < 0))


class KnownTermination(NamedTuple):
    """A termination function and the observation widths it holds for; other widths have other columns."""

    rule: TerminationFunction
    widths: tuple[int, ...]


TERMINATIONS = {
    "ant": KnownTermination(ant, (27, 105, 111)),
    "halfcheetah": KnownTermination(never, (17,)),
    "hopper": KnownTermination(hopper, (11,)),
    "humanoid": KnownTermination(humanoid, (348, 376)),
    "humanoidstandup": KnownTermination(never, (348, 376)),
    "inverteddoublependulum": KnownTermination(inverted_double_pendulum, (9, 11)),
    "invertedpendulum": KnownTermination(inverted_pendulum, (4,)),
    "mountaincarcontinuous": KnownTermination(mountain_car, (2,)),
    "pendulum": KnownTermination(never, (3,)),
    "pusher": KnownTermination(never, (23,)),
    "reacher": KnownTermination(never, (10, 11)),
    "swimmer": KnownTermination(never, (8,)),
    "walker2d": KnownTermination(walker2d, (17,)),
}
"""Environment names, in lower case and without version, to their termination functions."""


def find_termination(name: str) -> TerminationFunction:
    """Return the termination function of a name: ``never``, one of `TERMINATIONS`, or ``module:function``.

    Raises:
        UnknownName: There is no such function.
    """
    if name == "never":
        return never
    if name in TERMINATIONS:
        return TERMINATIONS[name].rule
    if ":" not in name:
        raise UnknownName(
            f"no termination function is called '{name}'.",
            f"All: never {' '.join(TERMINATIONS)}, or package.module:function.",
            given=name,
            known=TERMINATIONS,
        )
    found: TerminationFunction = import_object(name)
    return found


def termination_of(env_id: str | None, width: int) -> str | None:
    """Return the name in `TERMINATIONS` of an environment id and observation width, or None."""
    name = (env_id or "").rpartition("/")[2].partition("-v")[0].lower()
    return name if name in TERMINATIONS and width in TERMINATIONS[name].widths else None
