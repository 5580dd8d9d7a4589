"""Define `Episode`, one episode as arrays: sources yield episodes, and shards are made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from datasets_io.errors import BadValues

Array = npt.NDArray[Any]
RESERVED = (
    *("eps_id", "t", "obs", "actions", "rewards", "terminateds", "truncateds", "final_obs"),
    *("last", "ret", "new_actions"),
)
"""Names of columns that are made of the episode itself; `new_obs` may also be recorded."""
MAX_CHOICES = 1_000_000
"""Choices of a discrete action, at most: a network has an output for each."""


NO_CHOICE: int = np.iinfo(np.int64).min
"""A choice that was not recorded, as NaN is a number that was not."""


class ColumnKind(Enum):
    """Shape that a column must have; N is the number of rows."""

    OBSERVATIONS = "[N, D], [N] for one number a row, or [N, A, B] for matrices"
    ACTIONS = "[N, A], or [N] for one number or one choice a row"
    NUMBERS = "[N], one number a row"
    FLAGS = "[N], 0 or 1 a row"
    EXTRAS = "[N, …], numbers"


def is_image(shape: Sequence[int], dtype: Any) -> bool:
    """Return True for rows of three or more dimensions, and for matrices of bytes; by type or its name."""
    return len(shape) > 2 or (len(shape) == 2 and str(dtype) == "uint8")


def check_column(kind: ColumnKind, name: str, shape: Sequence[int] | None, dtype: Any) -> None:
    """Check shape and type of a column before, or without, reading it.

    Args:
        kind: What it must be.
        name: Name for messages, with the file if there is one.
        shape: [N, …]; None: the column has none (an empty HDF5 dataset).
        dtype: Type of its values.

    Raises:
        BadValues: It is a scalar, holds no numbers, or has the wrong number of dimensions or width.
    """

    def refuse(problem: str = "", expected: str = "") -> NoReturn:
        text = f"{name} has shape {'none' if shape is None else list(shape)} and type {dtype}"
        raise BadValues(f"{text}{problem}.", expected or f"Expected: {kind.value}.")

    if not shape or dtype.kind not in "fiub":
        refuse()
    row = tuple(shape[1:])
    if 0 in row:
        refuse(": a row holds no number")
    if kind is ColumnKind.EXTRAS:
        return
    if kind is ColumnKind.OBSERVATIONS:
        if is_image(row, dtype):
            refuse(": images", "off2on learns from vectors; encode images as features [N, D] first.")
    elif kind is ColumnKind.ACTIONS:
        if len(row) > 1:
            refuse(": matrices", f"Expected: {kind.value}. Flatten them: actions.reshape(len(actions), -1)")
    elif row not in ((), (1,)):
        refuse()


@dataclass(frozen=True, eq=False)
class Episode:
    """T steps in order: in obs[t] the action actions[t] earned rewards[t].

    Args:
        obs: [T+1, …] with the observation after the last action, or [T, …] without it. [T] and [T+1]
            stand for one number a step; matrices [T, A, B] become vectors.
        actions: [T, A] in the environment's own units, [T] integers for a discrete choice; [T] floats stand
            for A = 1.
        rewards: [T], or [T, 1].
        terminated: The last step ended the task itself (fell, arrived): there is no future after it.
        truncated: It was cut off from outside (time limit, end of the recording). None: not terminated.
        id: Unique in its data set; None lets the ingest number it.
        extras: Further columns, [T, …] each; `action_logp` is the behaviour's log-probability.
        row: Row of the source at which it begins, for messages about it.
        scene: What a simulator needs to replay it: a name, which several episodes may share, and arrays.
        obs_shape: Shape of an observation that was a matrix.
    """

    obs: Array
    actions: Array
    rewards: Array
    terminated: bool
    truncated: bool | None = None
    id: str | None = None
    extras: Mapping[str, Array] = field(default_factory=dict)
    row: int | None = None
    scene: tuple[str, Mapping[str, Array]] | None = None
    obs_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        arrays = {name: _array(name, getattr(self, name)) for name in ("obs", "actions", "rewards")}
        obs, actions, rewards = arrays["obs"], arrays["actions"], arrays["rewards"]
        terminated = _flag("terminated", self.terminated)
        extras = {name: _array(name, values) for name, values in self.extras.items()}
        obs_shape = self.obs_shape
        if "new_obs" in extras and extras["new_obs"].ndim == 1:
            extras["new_obs"] = extras["new_obs"][:, None]
        if obs.ndim == 3 and obs.dtype != np.uint8:  # bytes are images, which `check` refuses
            obs_shape, obs = obs.shape[1:], obs.reshape(len(obs), -1)
            if "new_obs" in extras and extras["new_obs"].shape[1:] == obs_shape:
                extras["new_obs"] = extras["new_obs"].reshape(len(extras["new_obs"]), -1)
        fixed = {
            "obs": obs[:, None] if obs.ndim == 1 else obs,
            "obs_shape": obs_shape,
            "actions": actions[:, None] if actions.ndim == 1 and actions.dtype.kind == "f" else actions,
            "rewards": rewards[:, 0] if rewards.shape[1:] == (1,) else rewards,
            "terminated": terminated,
            "truncated": not terminated if self.truncated is None else _flag("truncated", self.truncated),
            "extras": extras,
        }
        for name, value in fixed.items():
            object.__setattr__(self, name, value)

    @property
    def length(self) -> int:
        """Return the number of actions, T."""
        return len(self.actions) if self.actions.ndim else 0

    @property
    def ret(self) -> float:
        """Return the undiscounted return: the sum of the rewards, in float64."""
        return float(np.sum(self.rewards, dtype=np.float64))

    def check(self, finite: bool = True) -> None:
        """Check that the arrays describe one episode.

        Args:
            finite: Refuse NaN and infinities too.

        Raises:
            BadValues: Wrong shapes or types, lengths that disagree, no step at all, NaN; an extra column with
                a reserved name.
        """
        who = f"episode {self.id or f'at row {self.row}'}"
        if taken := [name for name in RESERVED if name in self.extras]:
            raise BadValues(
                f"{who} has an extra column {taken[0]!r}.",
                f"Columns of these names are made of the episode itself: {' '.join(RESERVED)}.",
            )
        columns = {"obs": self.obs, "actions": self.actions, "rewards": self.rewards, **self.extras}
        for name, values in columns.items():
            check_column(_KINDS.get(name, ColumnKind.EXTRAS), f"{who}: {name}", values.shape, values.dtype)
        steps = self.length
        if steps == 0:
            raise BadValues(f"{who} has no step.", "An episode is at least one action and its reward.")
        if len(self.obs) not in (steps, steps + 1):
            raise BadValues(
                f"{who} has {steps} actions and {len(self.obs)} observations.",
                f"{steps + 1} observations were expected (with the one after the last action), or {steps}.",
            )
        for name, values in columns.items():
            if name != "obs" and len(values) != steps:
                raise BadValues(
                    f"{who} has {steps} actions, but {name} of shape {list(values.shape)}.",
                    f"{[steps, *values.shape[1:]]} was expected.",
                )
            if finite and values.dtype.kind == "f" and not np.isfinite(values).all():
                step = int(np.argwhere(~np.isfinite(values.reshape(len(values), -1)).all(1))[0, 0])
                raise BadValues(f"{who}: {name} hold NaN or infinity, first at step {step}.")
        if "new_obs" in self.extras and self.extras["new_obs"].shape[1:] != self.obs.shape[1:]:
            shapes = list(self.extras["new_obs"].shape), list(self.obs.shape)
            raise BadValues(f"{who}: new_obs of shape {shapes[0]}, obs of shape {shapes[1]}.")
        if self.actions.ndim == 1:
            wrong = (self.actions < 0) | (self.actions >= MAX_CHOICES)
            if not finite:
                wrong &= self.actions != NO_CHOICE
            if wrong.any():
                raise BadValues(
                    f"{who}: the action {self.actions[wrong][0]} is no choice.",
                    f"Choices are whole numbers from 0, fewer than {MAX_CHOICES:,}; quantities are floats.",
                )

    def labelled(self, name: str, row: int) -> "Episode":
        """Return the same episode with an id and a row, without its scene; its arrays stay as they are."""
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__, id=name, row=row, scene=None)
        return copied

    def complete(self) -> "Episode | None":
        """Return the same episode with the observation after the last action, [T+1, …].

        Where that was not recorded, a terminal one repeats the last observation (nothing is ever bootstrapped
        from it), and any other loses its last transition, whose outcome nobody knows.

        Returns:
            The episode, or None when nothing is left of it.
        """
        if len(self.obs) == self.length + 1:
            return self
        if self.terminated:
            return replace(self, obs=np.concatenate([self.obs, self.obs[-1:]]))
        if self.length == 1:
            return None
        extras = {name: values[:-1] for name, values in self.extras.items()}
        return replace(self, actions=self.actions[:-1], rewards=self.rewards[:-1], extras=extras)


_KINDS = {
    "obs": ColumnKind.OBSERVATIONS,
    "new_obs": ColumnKind.OBSERVATIONS,
    "actions": ColumnKind.ACTIONS,
    "rewards": ColumnKind.NUMBERS,
    "action_logp": ColumnKind.NUMBERS,
}


def _array(name: str, values: Any) -> Array:
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise BadValues(
            f"{name} cannot be made an array: {error}.", "Rows of equal shape were expected."
        ) from None


def _flag(name: str, value: Any) -> bool:
    """Return True or False for one 0 or 1 of any type."""
    flag = _array(name, value)
    if flag.size != 1 or flag.dtype.kind not in "fiub" or flag.item() not in (0, 1):
        raise BadValues(
            f"{name} is {value!r}.", "True or False (1 or 0) was expected, for the whole episode."
        )
    return bool(flag.item())
