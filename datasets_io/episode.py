"""Define `Episode`, one episode as arrays: sources yield episodes, and shards are made of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from datasets_io.errors import BadValues

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Episode:
    """T steps in order: in obs[t] the action actions[t] earned rewards[t].

    Args:
        obs: [T+1, …] with the observation after the last action, or [T, …] without it. [T] and [T+1]
            stand for one number a step.
        actions: [T, A] in the environment's own units, [T] integers for a discrete choice; [T] floats stand
            for A = 1.
        rewards: [T].
        terminated: The last step ended the task itself (fell, arrived): there is no future after it.
        truncated: It was cut off from outside (time limit, end of the recording). None: not terminated.
        id: Unique in its data set; None lets the ingest number it.
        extras: Further columns, [T, …] each; `action_logp` is the behaviour's log-probability.
        row: Row of the source at which it begins, for messages about it.
        scene: What a simulator needs to replay it: a name, which several episodes may share, and arrays.
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

    def __post_init__(self) -> None:
        actions = np.asarray(self.actions)
        if actions.ndim == 1 and actions.dtype.kind == "f":
            actions = actions[:, None]
        obs = np.asarray(self.obs)
        fixed = {
            "obs": obs[:, None] if obs.ndim == 1 else obs,
            "actions": actions,
            "rewards": np.asarray(self.rewards),
            "terminated": bool(self.terminated),
            "truncated": not self.terminated if self.truncated is None else bool(self.truncated),
            "extras": {name: np.asarray(values) for name, values in self.extras.items()},
        }
        for name, value in fixed.items():
            object.__setattr__(self, name, value)

    @property
    def length(self) -> int:
        """Return the number of actions, T."""
        return len(self.actions)

    @property
    def ret(self) -> float:
        """Return the undiscounted return: the sum of the rewards, in float64."""
        return float(np.sum(self.rewards, dtype=np.float64))

    def check(self, finite: bool = True) -> None:
        """Check that the arrays describe one episode.

        Args:
            finite: Refuse NaN and infinities too.

        Raises:
            BadValues: Lengths that disagree, no step at all, text, NaN.
        """
        steps, who = self.length, f"episode {self.id or f'at row {self.row}'}"
        if steps == 0:
            raise BadValues(f"{who} has no step.", "An episode is at least one action and its reward.")
        if len(self.obs) not in (steps, steps + 1):
            raise BadValues(
                f"{who} has {steps} actions and {len(self.obs)} observations.",
                f"{steps + 1} observations were expected (with the one after the last action), or {steps}.",
            )
        columns = {"rewards": self.rewards, **self.extras}
        for name, values in columns.items():
            if len(values) != steps or (name == "rewards" and values.ndim != 1):
                raise BadValues(
                    f"{who} has {steps} actions, but {name} of shape {list(values.shape)}.",
                    f"[{steps}] was expected.",
                )
        for name, values in {"obs": self.obs, "actions": self.actions, **columns}.items():
            if values.dtype.kind not in "fiub":
                raise BadValues(
                    f"{who}: {name} are not numbers but {values.dtype}.",
                    f"the first is {values.flat[0]!r}" if values.size else "",
                )
            if finite and values.dtype.kind == "f" and not np.isfinite(values).all():
                step = int(np.argwhere(~np.isfinite(values.reshape(len(values), -1)).all(1))[0, 0])
                raise BadValues(f"{who}: {name} hold NaN or infinity, first at step {step}.")

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
