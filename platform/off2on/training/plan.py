"""Make the plan of a run: check its options, and compute the configuration from them."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from datasets_io import Shards, open_shards, storage
from datasets_io.column_names import SHARD_COLUMNS
from datasets_io.environments import options_for
from datasets_io.shards.generations import parse_generations
from datasets_io.storage import Place
from datasets_io.storage.buckets import Location
from off2on.algorithms import find_algorithm
from off2on.errors import MissingColumn, SimulatorError, UnknownName, UserError
from off2on.online.settings import OnlineSettings
from off2on.recipe.hyperparameters import PRESET
from off2on.replay.memory_budget import default_budget
from off2on.rllib.resolved import ResolvedSettings
from off2on.runs.bucket_mirror import fetch, working_folder
from off2on.runs.checkpoints import check_checkpoint
from off2on.runs.folder import HANDOVER, Run, refuse_existing
from off2on.runs.lock import refuse_trained
from off2on.runs.metadata import FILE, read_metadata
from off2on.training.evaluate import check_simulator
from off2on.training.guard import GuardOptions
from off2on.training.options import OPTIONS, RunOptions
from off2on.training.process import cluster_address
from off2on.training.resume import check_resumable, plain
from off2on.training.trackers import check_trackers

SMALLEST_WINDOW = 2**20
"""Smallest window on larger data, in bytes; a smaller one is no sample of the data."""


class ResolvedPlan(NamedTuple):
    """A checked plan, with all names looked up.

    Attributes:
        shards: The data.
        config: RLlib's configuration of the run.
        guard: Settings of the guard; None runs without it.
        env: Id of the environment for evaluation and the online phase.
        start: Checkpoint of the handover to start from.
        new: New data that replace the environment in the online phase.
    """

    shards: Shards
    config: Any
    guard: GuardOptions | None
    env: str | None
    start: Path | None
    new: Shards | None

    @property
    def settings(self) -> ResolvedSettings:
        """The settings of the algorithm, the strategy and the online phase."""
        resolved: ResolvedSettings = self.config.resolved
        return resolved

    @property
    def env_options(self) -> dict[str, Any]:
        """Arguments for making the environment."""
        if self.env is None:
            return {}
        return options_for(self.env, self.shards.env_id, self.shards.env_options)


@dataclass(frozen=True)
class Plan(RunOptions):
    """One run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory == 0:
            object.__setattr__(self, "memory", default_budget(self.learners))
        object.__setattr__(self, "address", cluster_address(self.address))

    @property
    def place(self) -> Place:
        """Location of the run. Its name is made of the options, so that the same command finds it again."""
        algorithm = self.algorithm.rpartition(":")[2]
        suffix = f"-{self.strategy.rpartition(':')[2]}" if self.online else ""
        if self.new_data is not None:
            suffix += f"-{Path(self.new_data).name}"
        suffix += "-guarded" if self.guard is not None else ""
        generations = parse_generations(self.data)
        data = self.data if generations is None else generations.name
        return storage.locate(self.out) / Path(data).name / f"{algorithm}{suffix}-s{self.seed}"

    @property
    def folder(self) -> Path:
        """Working folder: `place`, or a local folder if that is in a bucket."""
        return working_folder(self.place)

    @property
    def has_begun(self) -> bool:
        """True if its folder has a run, which can be resumed."""
        return (self.folder / FILE).is_file()

    @property
    def is_finished(self) -> bool:
        """True if its folder has a finished run of at least as many updates."""
        if not self.has_begun:
            return False
        known = read_metadata(self.folder)
        return known.status == "finished" and known.updates >= self.updates

    def check(self, resume: bool = False) -> ResolvedPlan:
        """Find every name and check every value, before any process starts.

        Args:
            resume: Continue a run that has begun.

        Raises:
            UserError: The run cannot work as requested.
        """
        # RLlib logs advice on its configuration, which users of off2on do not write.
        logging.getLogger("ray.rllib.algorithms.algorithm_config").setLevel(logging.ERROR)
        shards = open_shards(self.data)
        self.check_bounds()
        self._check_amounts()
        check_trackers(self.track)
        refuse_trained(self.folder, self.place)
        if isinstance(self.place, Location):
            fetch(self.place)
        config = self._configure(shards)
        settings: ResolvedSettings = config.resolved
        self._check_columns(settings.recipe.columns, shards)
        env = self._environment(shards)
        # A run with a checkpoint of its own needs its source no more, which may have changed since.
        continues = resume and Run(self.folder).last_checkpoint is not None
        start = None if continues else self._start(shards, settings)
        guard = self._guard(env)
        if resume and self.has_begun:
            check_resumable(self, self.folder, shards, settings, guard=guard, online=True)
        new = None if self.new_data is None else open_shards(self.new_data)
        plan = ResolvedPlan(shards, config, guard, env, start, new)
        if env is not None:
            config.environment(env, env_config=plan.env_options)
        if new is not None:
            config.new_data(portable_name(new))
        config.validate()
        config.check_runners()
        if not resume:
            refuse_existing(self.folder)
        return plan

    def config(self, plan: ResolvedPlan, gpus: int | None = None) -> Any:
        """Return RLlib's configuration of the run.

        Args:
            plan: The checked plan.
            gpus: GPUs per learner; None: one, if this machine has enough.
        """
        import torch

        if gpus is None:  # Ray would wait without end for GPUs that do not exist
            gpus = 1 if torch.cuda.is_available() and torch.cuda.device_count() >= self.learners else 0
        return plan.config.copy(copy_frozen=False).learners(num_gpus_per_learner=gpus)

    def _configure(self, shards: Shards) -> Any:
        """Return RLlib's configuration, still without the environment and new data."""
        # Learners and runners may be on other machines, with another working directory.
        config = (
            find_algorithm(self.algorithm).configure(portable_name(shards)).data(memory_budget=self.memory)
        )
        config.algorithm_name, config.hyperparameters = self.algorithm, dict(self.hyperparameters)
        return (
            config.training(threads=self.threads, compile=self.compile, precision=self.precision)
            .offline(self.updates)
            .online(
                self.online,
                strategy=self.strategy,
                options=dict(self.strategy_options),
                **dict[str, Any](self.online_overrides),
            )
            .learners(num_learners=self.learners)
            .env_runners(num_env_runners=self.workers, num_envs_per_env_runner=self.envs)
            .debugging(seed=self.seed)
        )

    def describe(self) -> list[tuple[str, str, str]]:
        """Return the name, value and origin of every option."""
        values = {name: getattr(self, name) for name in ("algorithm", "data", *OPTIONS)}
        values["track"] = " ".join(self.track)
        return [(name, str(value), self.origins.get(name, "default")) for name, value in values.items()]

    def hyperparameter_origins(self, settings: ResolvedSettings) -> dict[str, str]:
        """Return where the value of every hyperparameter of the offline phase comes from."""
        kind, preset = settings.recipe.Hyperparameters, settings.preset
        defaults, origins = kind().as_dict(), dict.fromkeys(kind.presets.get(preset, ()), f"preset {preset}")
        origins |= {name: self.origins.get(name, "given") for name in self.hyperparameters if name != PRESET}
        return {
            name: origins.get(name, "default" if value == defaults[name] else "the data")
            for name, value in settings.hp.as_dict().items()
        }

    def describe_online_settings(self, settings: ResolvedSettings) -> list[tuple[str, Any, Any, str]]:
        """Return the name, value, default and origin of the strategy's options and all online settings.

        These include the online hyperparameters, whose defaults are their values in the offline phase.
        """
        own, usual = plain(settings.strategy_options), plain(settings.strategy.Options())
        given = {name: self.origins.get(f"strategy.{name}", "given") for name in self.strategy_options}
        options = [(f"strategy.{name}", own[name], usual[name], given.get(name, "default")) for name in own]
        defaults = plain(OnlineSettings()) | plain(settings.hp)

        def origin(name: str, value: Any) -> str:
            if name in self.online_overrides:
                return self.origins.get(f"online.{name}", "given")
            if value == defaults[name]:
                return "default"
            return self.strategy if name in settings.strategy.online_settings else "regularisation"

        values = plain(settings.online) | plain(settings.online_hp)
        return options + [
            (f"online.{name}", value, defaults[name], origin(name, value)) for name, value in values.items()
        ]

    def evaluations(self) -> tuple[list[int], list[int]]:
        """Return the updates and the environment steps after which the policy is evaluated.

        Online: after the first step, often in the early part, and at the end.
        """
        every = self.eval_every or max(1, self.updates // 20)
        offline = sorted({*range(every, self.updates, every), self.updates} - {0})
        every = self.eval_every or max(1, self.online // 20)
        early = {step for step in (1, 1000, 2000, 5000, 10_000) if step <= self.online}
        online = sorted({*early, *range(every, self.online, every), self.online} - {0})
        return offline, online

    def _check_amounts(self) -> None:
        """Check conditions on several options, which their single ranges do not cover."""
        if self.memory < SMALLEST_WINDOW:
            raise UserError(f"--memory must be at least {SMALLEST_WINDOW:,} bytes: got {self.memory:,}.")
        if self.updates == 0 and self.online == 0:
            raise UserError("there is nothing to do: --updates and --online are both 0.")
        cores = os.cpu_count() or 1
        if self.address is None and self.learners > cores:
            raise UserError(
                f"{self.learners} learners need {self.learners} cores; this machine has {cores}.",
                "Join a cluster with --address HEAD:6379 for more.",
                "--learners 1",
                given="--learners",
            )

    def _guard(self, env: str | None) -> GuardOptions | None:
        """Return the settings of the guard, if one is requested."""
        if self.guard is None:
            return None
        if env is None or self.new_data is not None or self.online == 0:
            raise UserError(
                "the guard needs an online phase in an environment.",
                "Give --online N and an environment, or leave out --guard.",
            )
        return GuardOptions.parse(self.guard, "the guard")

    def _environment(self, shards: Shards) -> str | None:
        """Return the environment for scores and the online phase; the offline phase can do without."""
        env = self.env or shards.env_id
        if env is None:
            return None
        try:
            options = options_for(env, shards.env_id, shards.env_options)
            spaces = shards.observation_space, shards.action_space
            check_simulator(env, *spaces, shards.name, options, named=self.env is not None)
        except SimulatorError:
            if self.env or self.online:
                raise
            return None
        return env

    def _check_columns(self, columns: tuple[str, ...], shards: Shards) -> None:
        for name in columns:
            if name != "ret" and SHARD_COLUMNS.get(name, name) not in shards.columns:
                raise MissingColumn(
                    f"{self.algorithm} needs the column '{name}', and the shards of {shards.name} have none.",
                    f"They have: {' '.join(shards.columns)}",
                )

    def _start(self, shards: Shards, settings: ResolvedSettings) -> Path | None:
        """Return the checkpoint of the handover to start from, if the run starts from another."""
        if self.source is None:
            return None
        checkpoint = Path(self.source).absolute() / "checkpoints" / HANDOVER
        if not checkpoint.is_dir():
            raise UnknownName(
                f"{self.source} has no handover to start from.",
                f"Looked for {checkpoint}. A run writes it when its offline phase is finished.",
            )
        check_resumable(self, Path(self.source), shards, settings)
        return check_checkpoint(Path(self.source), HANDOVER)


def portable_name(shards: Shards) -> str:
    """Return a name of the data that processes with another working directory can open as well."""
    return str(storage.absolute(shards.pinned))
