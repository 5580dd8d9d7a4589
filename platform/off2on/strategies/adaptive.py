"""Adaptive: the regularisation towards the data is decreased below a target return, and raised on a drop.

Zhao, Boney, Ilin, Kannala & Pajarinen, "Adaptive Behavior Cloning Regularization for Stable
Offline-to-Online Reinforcement Learning", arXiv:2210.13846. After every episode a
proportional-derivative controller changes the share of the regularisation weight:

    share <- clip( share - K_P (R_target - R_last) + K_D max(0, R_last - R_now), 0, 1 )

Differences: the paper's weight lies in [0, 0.4], and its gains multiply the episode's length and D4RL's
normalised returns. Here the share multiplies the algorithm's own weight, and returns are divided by the
absolute target, so that one pair of gains fits tasks of any scale. The authors' R_last is a moving average
(0.05), they keep 5 % of the offline rows, and make ten updates per step (``online.utd=10``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from off2on.recipe.hyperparameters import Settings, hp
from off2on.replay.buffer import ReplayBuffer
from off2on.replay.transforms import Array
from off2on.strategies.append import Append


@dataclass(frozen=True)
class AdaptiveOptions(Settings):
    """Options of the controller."""

    target: float | None = hp(None, "R_target, a return; none: 50 % more than that of the first episode")
    proportional: float = hp(
        0.05, "K_P: decrease per episode, times the relative distance to R_target", least=0
    )
    derivative: float = hp(0.5, "K_D: increase per relative drop between two episodes' returns", least=0)


class Adaptive(Append):
    """All transitions equally likely; a regularisation that is controlled by the returns."""

    Options: ClassVar[type[Settings]] = AdaptiveOptions
    needs_regularisation = True

    def __init__(self, rows: ReplayBuffer, options: AdaptiveOptions) -> None:
        super().__init__(rows, options)
        self.regularisation_scale = 1.0
        self.running: dict[int, float] = {}
        """Return of the current episode of each environment so far."""
        self.seen: dict[int, Array] = {}
        """Newest observation of each environment."""
        self.target = options.target
        self.last: float | None = None

    def on_collected(self, columns: Mapping[str, Array]) -> None:
        """Run the controller for the episodes that ended, in the order of their ends.

        If the next observation of an environment does not continue its episode (its process died, or the run
        was resumed), that episode has no return, and the next one starts from 0.
        """
        ended = columns["terminateds"] | columns["truncateds"]
        finished: list[tuple[int, float]] = []
        for env in map(int, np.unique(columns["env"])):
            (own,) = np.nonzero(columns["env"] == env)
            if env in self.seen and not np.array_equal(self.seen[env], columns["obs"][own[0]]):
                self.running[env] = 0.0
            self.seen[env] = np.array(columns["new_obs"][own[-1]])
            total = np.cumsum(columns["rewards"][own]) + self.running.get(env, 0.0)
            ends = np.flatnonzero(ended[own])
            returns = np.diff(total[ends], prepend=0.0)
            finished += zip(own[ends].tolist(), returns.tolist(), strict=True)
            self.running[env] = float(total[-1] - (total[ends[-1]] if len(ends) else 0.0))
        for _, episode_return in sorted(finished):
            self._control(episode_return)

    def _control(self, now: float) -> None:
        """Run one step of the controller, after an episode with the return `now`."""
        if self.target is None:
            self.target = now + 0.5 * abs(now)
        if self.last is not None:
            size = abs(self.target) or 1.0
            short, drop = (self.target - self.last) / size, max(0.0, self.last - now) / size
            change = self.options.derivative * drop - self.options.proportional * short
            self.regularisation_scale = float(np.clip((self.regularisation_scale or 0.0) + change, 0.0, 1.0))
        self.last = now

    def state(self) -> dict[str, Any]:
        """Return the state of the controller."""
        return {
            "pull": self.regularisation_scale,
            "target": self.target,
            "last": self.last,
            "running": dict(self.running),
            "seen": {env: torch.from_numpy(obs) for env, obs in self.seen.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state` returned."""
        self.regularisation_scale, self.target, self.last = state["pull"], state["target"], state["last"]
        self.running = dict(state["running"])
        self.seen = {env: obs.numpy() for env, obs in state.get("seen", {}).items()}
