"""RLlib algorithm of every recipe, for the offline and the online phase.

`train()` makes gradient updates on the offline rows until ``config.offline_updates``. Then, if
``config.online_steps`` is not 0, it builds the environment runners, draws batches with the configured
strategy, and alternates between collecting and updating.
"""

import io
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import RayTaskError
from ray.rllib.core import COMPONENT_LEARNER_GROUP
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EPISODE_RETURN_MEAN, LEARNER_RESULTS
from ray.train.constants import DEFAULT_STORAGE_PATH

from datasets_io import open_shards
from off2on.errors import LearnerDied
from off2on.recipe.hooks import Recipe
from off2on.replay.new_data import NewDataReader
from off2on.rllib import checkpoint_rows
from off2on.rllib.config import OfflineToOnlineConfig
from off2on.rllib.env_runner import AnyBundle, Rollout
from off2on.rllib.evaluation import EvaluatedAlgorithm
from off2on.rllib.learner import RecipeLearner
from off2on.rllib.rllib_internals import LocalEnvRunnerGroup
from off2on.rllib.rollout_collector import RolloutCollector
from off2on.rllib.user_code import call_named

STATE = "off2on"


class OfflineToOnline(Recipe, EvaluatedAlgorithm):
    """Base class of every algorithm; a subclass defines a recipe."""

    @classmethod
    def configure(cls, dataset: str | Path | None = None) -> OfflineToOnlineConfig:
        """Return a configuration of this algorithm for a data set's name or folder."""
        return OfflineToOnlineConfig(cls).data(None if dataset is None else str(dataset))

    @classmethod
    def get_default_config(cls) -> OfflineToOnlineConfig:
        """Return a configuration without data; RLlib calls it."""
        return OfflineToOnlineConfig(cls)

    def setup(self, config: Any) -> None:
        """Build the learners; each reads its part of the data."""
        config.check_runners()
        super().setup(config)
        self.online_settings = self.config.resolved.online
        self.updates = 0
        self.env_steps = 0
        self.pause_at: int | None = None
        """Number of updates (offline) or steps (online) at which `train` pauses next; None: no pause."""
        self.advance_function: Any = RecipeLearner.advance
        """Function that makes a learner's updates; replaced for batched seeds, see `batched.learners`."""
        self.latest_metrics: dict[str, float] = {}
        """Metrics of the learners in the last step, averaged over them."""
        self.runners: RolloutCollector | None = None
        """The environment runners, from the handover on; None with new recorded data."""
        self.staleness: dict[str, float] = {}
        """Metrics of asynchronous collection: number of updates by which weights were old; else empty."""
        self.returns: list[float] = []
        """Returns of the finished episodes; the caller of `train` may empty the list."""
        self.recent_returns: list[float] = []
        """Returns of the last episodes, whose mean is a metric."""
        self.new_data: NewDataReader | None = None
        """New recorded data that replace the environment, from the handover on; None without."""
        self.is_fitted = not self.config.resolved.recipe.fitted_networks
        """True if the recipe's first stage (such as training a dynamics model) is done, or it has none."""

    @property
    def is_offline(self) -> bool:
        """True before the handover."""
        return bool(self.updates < self.config.offline_updates)

    @property
    def is_online(self) -> bool:
        """True after the handover."""
        return self.runners is not None or self.new_data is not None

    @property
    def finished(self) -> bool:
        """True if all planned updates and steps were made."""
        return self.is_fitted and not self.is_offline and bool(self.env_steps >= self.config.online_steps)

    def training_step(self) -> None:
        """Run the recipe's first stage, or make a block of updates, in the online phase after a rollout."""
        if not self.is_fitted:
            self.latest_metrics = self.call_learners(RecipeLearner.fit)[0]
            self.metrics.log_dict(self.latest_metrics, key=LEARNER_RESULTS, window=1)
            self.is_fitted = True
        elif self.is_offline:
            limit = self._remaining(self.updates, self.config.offline_updates)
            self._update(min(self.config.updates_per_call, limit))
        elif not self.finished:
            if not self.is_online:
                self.go_online()
            self._collect(self._remaining(self.env_steps, self.config.online_steps))
            self._update(self._updates_due(self.env_steps) - self.updates)

    def step(self) -> Any:
        """Run one training iteration; Tune reads ``done``, ``updates`` and ``env_steps`` of the result."""
        return super().step() | {"done": self.finished, "updates": self.updates, "env_steps": self.env_steps}

    def _remaining(self, now: int, end: int) -> int:
        """Return the number of updates or steps up to the end, or to `pause_at`."""
        pause = self.pause_at
        return (min(end, pause) if pause is not None and pause > now else end) - now

    def _updates_due(self, env_steps: int) -> int:
        """Return the number of offline and online updates due after a number of environment steps."""
        return int(self.config.offline_updates + self.online_settings.updates_due(env_steps))

    def _update(self, updates: int) -> None:
        if updates <= 0:
            return
        self.updates += updates
        results = self.call_learners(self.advance_function, updates=updates)
        # A learner without online rows has no metrics of online rows.
        names = dict.fromkeys(name for result in results for name in result)
        found = {name: [result[name] for result in results if name in result] for name in names}
        self.latest_metrics = {name: float(np.mean(each)) for name, each in found.items()} | self.staleness
        self.metrics.log_dict(self.latest_metrics, key=LEARNER_RESULTS, window=1)
        if self.runners is not None:
            self.runners.update_weights(self.updates)

    def call_learners(self, function: Any, **kwargs: Any) -> list[Any]:
        """Call a function with every learner as its first argument; return the results in order of ranks.

        Raises:
            LearnerDied: The process of a learner has ended.
            Exception: The function's own error; `UserCodeError` if code of the user raised it.
        """
        results = list(self.learner_group.foreach_learner(partial(call_named, function), **kwargs))
        failed = [result.get() for result in results if not result.ok]
        for error in failed:
            if not isinstance(error, RayTaskError):
                raise LearnerDied(f"the process of a learner has ended: {error}") from error
        if len(results) < max(1, self.config.num_learners):
            raise LearnerDied(f"only {len(results)} of {self.config.num_learners} learners returned a result")
        for error in failed:
            raise error.cause from error
        return [result.get() for result in results]

    def go_online(self, restored: bool = False) -> None:
        """Start the online phase: build the runners, and draw batches with the strategy.

        Args:
            restored: True if the networks come from a checkpoint of the online phase, in which the recipe's
                changes at the handover are already made.
        """
        if self.config.new_dataset is not None:
            self.new_data = NewDataReader(open_shards(self.config.new_dataset))
        else:
            kind = EnvRunnerGroup if self.config.num_env_runners else LocalEnvRunnerGroup
            self.env_runner_group = kind(
                env_creator=self.env_creator,
                config=self.config,
                local_env_runner=False,
                logdir=self.logdir,
                tune_trial_id=self.trial_id,
                pg_offset=AnyBundle(),
            )
            staleness = self.online_settings.staleness if self.online_settings.asynchronous else None
            self.runners = RolloutCollector(
                self.env_runner_group, self.learner_group, self._updates_due, staleness
            )
        self.call_learners(RecipeLearner.go_online, restored=restored)
        if self.runners is not None:
            self.runners.update_weights(self.updates)

    def roll_back(self, folder: Path, at_handover: bool = False) -> None:
        """Restore networks and optimisers from a checkpoint of this run, without its counters and rows.

        If it is that of the handover, the recipe's changes are made again: it was written before them.
        """
        self.learner_group.restore_from_path(str(folder / COMPONENT_LEARNER_GROUP))
        self.call_learners(_continue_from, updates=self.updates, at_handover=at_handover)

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """Add the runners that replace dead ones; RLlib calls it between two steps."""
        return [] if self.runners is None else self.runners.restore()

    def _collect(self, limit: int) -> None:
        """Collect a rollout of at most `limit` steps and store it."""
        steps = self.online_settings.rollout
        if self.new_data is not None:
            columns = self.new_data.read(self.env_steps, min(steps, limit))
            self._store([(Rollout(columns, returns=[], lengths=[]), 0)])
        elif self.runners is not None:
            self._store(self.runners.collect(steps, limit, self.env_steps, self.updates))

    def finish_rollouts(self) -> None:
        """Store the outstanding rollouts of asynchronous collection, and make the updates due then."""
        if self.runners is not None:
            self._store(self.runners.collect_outstanding(self.updates))
            self._update(self._updates_due(self.env_steps) - self.updates)

    def _store(self, rollouts: Iterable[tuple[Rollout, int]]) -> None:
        """Send rollouts, each with the staleness of its weights in updates, to the learners."""
        staleness, returns = [], []
        for rollout, updates in rollouts:
            columns = ray.put(rollout.columns) if self.learner_group.is_remote else rollout.columns
            self.call_learners(RecipeLearner.add, columns=columns, first=self.env_steps)
            self.env_steps += len(rollout.columns["rewards"])
            returns += rollout.returns
            staleness.append(updates)
        if staleness and self.runners is not None and self.runners.is_asynchronous:
            self.staleness = {"staleness": float(np.mean(staleness)), "staleness_most": float(max(staleness))}
        self.returns += returns
        window = self.config.metrics_num_episodes_for_smoothing
        self.recent_returns = [*self.recent_returns, *returns][-window:]
        if self.recent_returns:  # each time: RLlib reports NaN for a metric that is not logged
            mean = float(np.mean(self.recent_returns))
            self.metrics.log_value((ENV_RUNNER_RESULTS, EPISODE_RETURN_MEAN), mean, window=1)

    def network(self, name: str) -> bytes:
        """Return a network's weights as the content of a file that torch reads with ``weights_only``."""
        content = io.BytesIO()
        torch.save(self.call_learners(_weights, name=name)[0], content)
        return content.getvalue()

    def device_and_threads(self) -> dict[str, Any]:
        """Return the first learner's device, threads and first compiled update; None if there is none yet."""
        names = ("device", "threads", "compiled_since")
        return dict(zip(names, self.call_learners(RecipeLearner.device_and_threads)[0], strict=True))

    # Checkpoints: those of RLlib, and the counters and files of off2on.

    def get_state(self, *args: Any, **kwargs: Any) -> Any:
        """Return RLlib's state and the counters."""
        own: dict[str, Any] = {"updates": self.updates, "env_steps": self.env_steps}
        own |= {"crossed": self.is_online, "fitted": self.is_fitted, "latest": self.latest_metrics}
        own |= {"returns": list(self.returns), "recent_returns": self.recent_returns}
        return super().get_state(*args, **kwargs) | {STATE: own}

    def set_state(self, state: Any) -> None:
        """Restore the result of `get_state`; if it is of the online phase, start that phase first."""
        own = state.pop(STATE)
        self.updates, self.env_steps, self.latest_metrics = own["updates"], own["env_steps"], own["latest"]
        self.is_fitted, self.recent_returns = own["fitted"], own.get("recent_returns", [])
        self.returns = list(own.get("returns", []))
        if own["crossed"] and not self.is_online:
            self.go_online(restored=True)
        super().set_state(state)

    def save_to_path(self, path: Any = None, **kwargs: Any) -> str:
        """Save everything, with the learners' online rows and strategies, after `finish_rollouts`."""
        self.finish_rollouts()
        folder = str(super().save_to_path(path, **kwargs))
        checkpoint_rows.save_rows(self.call_learners, Path(folder))
        if self.runners is not None:
            self.runners.save_episodes(Path(folder))
        return folder

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Restore what `save_to_path` wrote."""
        Checkpointable.restore_from_path(self, path, *args, **kwargs)
        if set(self.call_learners(attrgetter("updates"))) != {self.updates}:  # RLlib ignores failures
            raise RuntimeError(f"the checkpoint {path} was not restored in every learner")
        checkpoint_rows.load_rows(self.call_learners, Path(path))
        if self.runners is not None:
            if not self.runners.weights_frozen:
                self.runners.send_weights(self.updates)
            self.runners.restore_episodes(Path(path))

    def cleanup(self) -> None:
        """Free everything, and remove the empty folder that RLlib creates for an algorithm without Tune."""
        super().cleanup()
        if Path(self.logdir).parent == Path(DEFAULT_STORAGE_PATH):  # Tune manages any other folder
            with suppress(OSError):  # not empty
                Path(self.logdir).rmdir()


def _continue_from(learner: RecipeLearner, updates: int, at_handover: bool) -> None:
    learner.updates = updates
    if at_handover:
        with torch.no_grad():
            learner.recipe.on_handover(learner.nets, learner.online_hp)


def _weights(learner: RecipeLearner, name: str) -> dict[str, torch.Tensor]:
    return {key: value.cpu() for key, value in getattr(learner.nets, name).state_dict().items()}
