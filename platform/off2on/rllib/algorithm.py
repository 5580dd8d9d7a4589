"""An algorithm as RLlib and Tune see it: a recipe, run on both sides of the handover.

`train()` makes gradient updates on the offline rows until ``config.offline_updates``; then, if
``config.online_steps`` says so, it makes the environment runners, lets the configured strategy
compose the batches, and alternates between collecting and updating.
"""

import io
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import ray
import torch
from ray.exceptions import RayTaskError
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_LEARNER_GROUP, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EPISODE_RETURN_MEAN, LEARNER_RESULTS
from ray.train.constants import DEFAULT_STORAGE_PATH

from datasets_io import open_shards
from off2on.errors import LearnerDied
from off2on.policy import Policy
from off2on.recipe.hooks import Recipe
from off2on.replay.log_stream import LogStream
from off2on.rllib import checkpoint_rows
from off2on.rllib.config import OfflineToOnlineConfig
from off2on.rllib.env_runner import AnyBundle, Rollout
from off2on.rllib.learner import RecipeLearner
from off2on.rllib.rollout_workers import RolloutWorkers

STATE = "off2on"


class OfflineToOnline(Recipe, Algorithm):
    """Base of every algorithm: subclass it and state a recipe."""

    @classmethod
    def configure(cls, dataset: str | Path | None = None) -> OfflineToOnlineConfig:
        """A configuration of this algorithm, on a data set's name or folder."""
        return OfflineToOnlineConfig(cls).data(None if dataset is None else str(dataset))

    @classmethod
    def get_default_config(cls) -> OfflineToOnlineConfig:
        """RLlib's name for `configure`."""
        return OfflineToOnlineConfig(cls)

    def setup(self, config: Any) -> None:
        """Build the learners, which read their data."""
        config.check_runners()
        super().setup(config)
        self.online_settings = self.config.resolved.online
        self.updates = 0
        self.env_steps = 0
        self.pause_at: int | None = None
        """No step of `train` goes beyond this many updates (offline) or environment steps (online)."""
        self.advancing: Any = RecipeLearner.advance
        """What a learner makes its updates by; see `off2on.rllib.batched.learners`."""
        self.latest: dict[str, float] = {}
        """The learners' metrics of the last step."""
        self.runners: RolloutWorkers | None = None
        """Who collects after the handover, if anybody does."""
        self.staleness: dict[str, float] = {}
        """By how many updates the weights of the last rollouts were behind, if they are collected beside."""
        self.returns: list[float] = []
        """Of the episodes that runners finished; whoever reads them may empty the list."""
        self.logs: LogStream | None = None
        """What takes the environment's place after the handover, if anything does."""
        self.is_fitted = not self.config.resolved.recipe.fitted_networks
        """Whether the recipe's first stage is done, or it has none."""

    @property
    def is_offline(self) -> bool:
        """Whether the handover is still ahead."""
        return bool(self.updates < self.config.offline_updates)

    @property
    def is_online(self) -> bool:
        """Whether the handover is behind: there are runners, or logs in their place."""
        return self.runners is not None or self.logs is not None

    @property
    def finished(self) -> bool:
        """Whether everything planned was done."""
        return self.is_fitted and not self.is_offline and bool(self.env_steps >= self.config.online_steps)

    def training_step(self) -> None:
        """A block of updates; online, after a rollout. The first of all is the recipe's first stage."""
        if not self.is_fitted:
            self.latest = self.ask(RecipeLearner.fit)[0]
            self.metrics.log_dict(self.latest, key=LEARNER_RESULTS, window=1)
            self.is_fitted = True
        elif self.is_offline:
            room = self._room(self.updates, self.config.offline_updates)
            self._learn(min(self.config.updates_per_step, room))
        elif not self.finished:
            if not self.is_online:
                self.go_online()
            self._collect(self._room(self.env_steps, self.config.online_steps))
            self._learn(self._due(self.env_steps) - self.updates)

    def step(self) -> Any:
        """One iteration, as Tune counts it; the result says when all is done."""
        return super().step() | {"done": self.finished, "updates": self.updates, "env_steps": self.env_steps}

    def _room(self, now: int, end: int) -> int:
        pause = self.pause_at
        return (min(end, pause) if pause is not None and pause > now else end) - now

    def _due(self, env_steps: int) -> int:
        """All updates, of both sides, that are due after so many environment steps."""
        return int(self.config.offline_updates + self.online_settings.updates_due(env_steps))

    def _learn(self, updates: int) -> None:
        if updates <= 0:
            return
        self.updates += updates
        answers = self.ask(self.advancing, updates=updates)
        # The first online row is one learner's alone, and so are then the metrics that need one.
        names = dict.fromkeys(name for answer in answers for name in answer)
        self.latest = {name: float(np.mean([one[name] for one in answers if name in one])) for name in names}
        self.latest |= self.staleness
        self.metrics.log_dict(self.latest, key=LEARNER_RESULTS, window=1)
        if self.runners is not None:
            self.runners.sync(self.updates)

    def ask(self, function: Any, **kwargs: Any) -> list[Any]:
        """Call a function of a learner on every learner; all must answer.

        Raises:
            LearnerDied: The process of one is gone.
            Exception: What the function raised: it would do so again.
        """
        results = list(self.learner_group.foreach_learner(function, **kwargs))
        failed = [result.get() for result in results if not result.ok]
        for error in failed:
            if not isinstance(error, RayTaskError):
                raise LearnerDied(f"a learner is gone: {error}") from error
        if len(results) < max(1, self.config.num_learners):
            raise LearnerDied(f"only {len(results)} of {self.config.num_learners} learners answered")
        for error in failed:
            raise error.cause from error
        return [result.get() for result in results]

    def go_online(self, restored: bool = False) -> None:
        """The handover: make the runners, and let the strategy make the batches.

        Args:
            restored: The networks come from a checkpoint after the handover: they have been handed over.
        """
        if self.config.new_dataset is not None:
            self.logs = LogStream(open_shards(self.config.new_dataset))
        else:
            self.env_runner_group = EnvRunnerGroup(
                env_creator=self.env_creator,
                validate_env=self.validate_env,
                config=self.config,
                local_env_runner=self.config.num_env_runners == 0,
                logdir=self.logdir,
                tune_trial_id=self.trial_id,
                pg_offset=AnyBundle(),
            )
            staleness = self.online_settings.staleness if self.online_settings.asynchronous else None
            self.runners = RolloutWorkers(self.env_runner_group, self.learner_group, self._due, staleness)
        self.ask(RecipeLearner.go_online, restored=restored)
        if self.runners is not None:
            self.runners.sync(self.updates)

    def roll_back(self, folder: Path) -> None:
        """Take networks and optimisers from a checkpoint of this run; counters and collected rows stay."""
        self.learner_group.restore_from_path(str(folder / COMPONENT_LEARNER_GROUP))
        self.ask(_count, updates=self.updates)

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """Bring back runners that died; RLlib calls it between two steps."""
        return [] if self.runners is None else self.runners.restore()

    def _collect(self, room: int) -> None:
        """A rollout, or what has arrived of it, into the learners' rows; there is room for so many steps."""
        steps = self.online_settings.rollout
        if self.logs is not None:
            self._enter(self.logs.take(self.env_steps, min(steps, room)))
        elif self.runners is not None:
            self._take(self.runners.collect(steps, room, self.env_steps, self.updates))

    def _take(self, arriving: Iterable[tuple[Rollout, int]]) -> None:
        """Rollouts into the learners' rows, with what is to be said of them."""
        behind, returns = [], []
        for rollout, updates in arriving:
            self._enter(rollout.columns)
            returns += rollout.returns
            behind.append(updates)
        if behind and self.online_settings.asynchronous:
            self.staleness = {"staleness": float(np.mean(behind)), "staleness_most": float(max(behind))}
        if returns:
            self.returns += returns
            mean = float(np.mean(returns))
            self.metrics.log_value((ENV_RUNNER_RESULTS, EPISODE_RETURN_MEAN), mean, window=10)

    def _enter(self, columns: dict[str, Any]) -> None:
        """Transitions into the learners' rows."""
        sent = ray.put(columns) if self.learner_group.is_remote else columns
        self.ask(_add, columns=sent, first=self.env_steps)
        self.env_steps += len(columns["rewards"])

    def policy(self) -> Policy:
        """The policy as it is now, on its own: raw observations to actions of the environment."""
        spec = self.config.get_default_rl_module_spec()
        spec.inference_only = True
        module = spec.build()
        path = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
        state = self.learner_group.get_state(components=path, inference_only=True)
        module.set_state(state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID])
        policy: Policy = module.policy.eval()
        return policy

    def network(self, name: str) -> bytes:
        """A network's weights as a file's content, which torch reads with ``weights_only``."""
        content = io.BytesIO()
        torch.save(self.ask(_weights, name=name)[0], content)
        return content.getvalue()

    def machine(self) -> dict[str, Any]:
        """What the learners run on: device and threads of the first."""
        return dict(zip(("device", "threads"), self.ask(RecipeLearner.machine)[0], strict=True))

    # Checkpoints: RLlib's, and beside them what only we know.

    def get_state(self, *args: Any, **kwargs: Any) -> Any:
        """RLlib's state, and the counters."""
        own = {
            "updates": self.updates,
            "env_steps": self.env_steps,
            "crossed": self.is_online,
            "fitted": self.is_fitted,
            "latest": self.latest,
        }
        return super().get_state(*args, **kwargs) | {STATE: own}

    def set_state(self, state: Any) -> None:
        """Take back what `get_state` gave; a state from after the handover crosses first."""
        own = state.pop(STATE)
        self.updates, self.env_steps, self.latest = own["updates"], own["env_steps"], own["latest"]
        self.is_fitted = own["fitted"]
        if own["crossed"] and not self.is_online:
            self.go_online(restored=True)
        super().set_state(state)

    def save_to_path(self, path: Any = None, **kwargs: Any) -> str:
        """Save everything, the learners' online rows and strategies included."""
        if self.runners is not None:  # what is under way belongs to the steps that are saved
            self._take(self.runners.rest(self.updates))
        folder = str(super().save_to_path(path, **kwargs))
        checkpoint_rows.save_rows(self.ask, Path(folder))
        if self.runners is not None:
            self.runners.save(Path(folder))
        return folder

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Take back what `save_to_path` wrote."""
        Checkpointable.restore_from_path(self, path, *args, **kwargs)
        if set(self.ask(_updates)) != {self.updates}:  # RLlib does not say that it could not
            raise RuntimeError(f"the checkpoint {path} did not come to every learner")
        checkpoint_rows.load_rows(self.ask, Path(path))
        if self.runners is not None:
            if not self.runners.is_held:
                self.runners.serve(self.updates)
            self.runners.go_on(Path(path))

    def cleanup(self) -> None:
        """Let go of everything; RLlib makes a folder for each algorithm of a process, and uses none."""
        super().cleanup()
        if Path(self.logdir).parent == Path(DEFAULT_STORAGE_PATH):  # another place is Tune's
            with suppress(OSError):  # somebody has put something there
                Path(self.logdir).rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _add(learner: RecipeLearner, columns: Any, first: int) -> None:
    learner.add(ray.get(columns) if isinstance(columns, ray.ObjectRef) else columns, first)


def _count(learner: RecipeLearner, updates: int) -> None:
    learner.updates = updates


def _updates(learner: RecipeLearner) -> int:
    return learner.updates


def _weights(learner: RecipeLearner, name: str) -> dict[str, torch.Tensor]:
    return {key: value.cpu() for key, value in getattr(learner.nets, name).state_dict().items()}
