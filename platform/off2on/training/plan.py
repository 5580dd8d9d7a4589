"""What a run is to do: every option, its value and where it came from; checked before it starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from datasets_io import Shards, open_shards, storage
from datasets_io.environments import options_for
from datasets_io.shards.generations import parse
from datasets_io.storage import Place
from datasets_io.storage.buckets import Location
from off2on.algorithms import find_algorithm
from off2on.errors import MissingColumn, SimulatorError, UnknownName, UserError, suggesting
from off2on.online.settings import OnlineSettings, online_hyperparameters, split
from off2on.recipe.hyperparameters import PRESET, Hyperparameters, Settings
from off2on.replay.buffer import STORED
from off2on.replay.memory_budget import default_budget
from off2on.runs.bucket_mirror import fetch, working_folder
from off2on.runs.folder import HANDOVER, refuse_existing
from off2on.strategies import DEFAULT, find_strategy
from off2on.training.bounds import check_numbers
from off2on.training.evaluate import check_simulator
from off2on.training.guard import GuardOptions
from off2on.training.process import cluster_address
from off2on.training.resume import check_resumable, plain
from off2on.training.trackers import check_trackers


class ResolvedPlan(NamedTuple):
    """A plan whose names were found."""

    recipe: Any
    shards: Shards
    hp: Hyperparameters
    strategy: Settings
    online_settings: OnlineSettings
    online_hp: Hyperparameters
    guard: GuardOptions | None
    env: str | None
    start: Path | None
    new: Shards | None

    @property
    def env_options(self) -> dict[str, Any]:
        """What the environment is told."""
        if self.env is None:
            return {}
        return options_for(self.env, self.shards.env_id, self.shards.env_options)


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        algorithm: A catalogue name, or ``package.module:Class``.
        data: A data set's name or folder.
        hyperparameters: Names to values, which may be text.
        updates: Gradient updates before the handover.
        online: Environment steps after it.
        strategy: What a batch is made of online.
        strategy_options: Its own.
        new_data: Recorded transitions that take the environment's place after the handover: a data set's
            name, `NAME@1+` for what was added to one since.
        source: A run whose handover to start from, instead of learning offline again.
        seed: Of everything random.
        learners: Learner processes; 0 learns in this one.
        workers: Processes that step environments; 0 steps them in this one.
        envs: Environments per worker.
        env: Another environment than the data's.
        eval_every: Updates (or environment steps) between evaluations; None is 5 %.
        eval_episodes: Episodes per evaluation.
        out: Where runs go: a folder, or one in a bucket (see `mirror`).
        memory: Bytes of data a learner may hold; larger data stream. 0: see `memory.default_budget`.
        threads: Threads of a learner; None measures which number is fastest.
        address: An existing Ray cluster; $RAY_ADDRESS, if that is set, as it is in a cluster's jobs.
        wait: Minutes to wait for a cluster to have room.
        online_overrides: Online settings, and hyperparameters with another value online, by name; values may
            be text.
        guard: Settings of the guard; None does without.
        track: Who is told of the run besides TensorBoard, see `trackers`.
        command: The command line, for the record.
        origins: Option to where its value came from, if it is not the default.
    """

    algorithm: str
    data: str
    hyperparameters: Mapping[str, object] = field(default_factory=dict)
    updates: int = 1_000_000
    online: int = 0
    strategy: str = DEFAULT
    strategy_options: Mapping[str, object] = field(default_factory=dict)
    new_data: str | None = None
    source: str | None = None
    seed: int = 0
    learners: int = 0
    workers: int = 0
    envs: int = 1
    env: str | None = None
    eval_every: int | None = None
    eval_episodes: int = 10
    out: str = "runs"
    memory: int = 0
    threads: int | None = None
    address: str | None = None
    wait: int = 0
    online_overrides: Mapping[str, object] = field(default_factory=dict)
    guard: Mapping[str, object] | None = None
    track: Sequence[str] = ()
    command: str = ""
    origins: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.memory == 0:
            object.__setattr__(self, "memory", default_budget(self.learners))
        object.__setattr__(self, "address", cluster_address(self.address))

    @property
    def place(self) -> Place:
        """Where the run goes; its name is made of what is asked, not of the clock."""
        algorithm = self.algorithm.rpartition(":")[2]
        across = f"-{self.strategy.rpartition(':')[2]}" if self.online else ""
        if self.new_data is not None:
            across += f"-{Path(self.new_data).name}"
        across += "-guarded" if self.guard is not None else ""
        generations = parse(self.data)
        data = self.data if generations is None else generations.name
        return storage.locate(self.out) / Path(data).name / f"{algorithm}{across}-s{self.seed}"

    @property
    def folder(self) -> Path:
        """Where it works: at its place, unless that is in a bucket."""
        return working_folder(self.place)

    def check(self, resume: bool = False) -> ResolvedPlan:
        """Find every name and check every value, before any process starts.

        Raises:
            UserError: What is wrong, what was expected, and what to do.
        """
        shards = open_shards(self.data)
        check_numbers(self)
        check_trackers(self.track)
        if isinstance(self.place, Location):
            fetch(self.place)
        recipe = find_algorithm(self.algorithm)
        hp = recipe.resolve(recipe.Hyperparameters.parse(self.hyperparameters, self.algorithm), shards)
        kind = find_strategy(self.strategy)
        with suggesting(f"off2on strategies {self.strategy}"):
            strategy = kind.Options.parse(self.strategy_options, self.strategy)
        with suggesting("off2on strategies"):
            factors, online = split(self.online_overrides, recipe)
            online_settings = OnlineSettings.of(kind, factors, recipe)
        online_hp = online_hyperparameters(recipe, hp, online, online_settings.regularisation)
        self._check_columns(recipe.columns, shards)
        env = self._simulator(shards)
        start = self._start(shards, hp)
        guard = self._guard(env)
        if resume and (self.folder / "run.yaml").is_file():
            check_resumable(
                self, self.folder, shards, hp, online_settings, online_hp, *([guard] if guard else [])
            )
        new = None if self.new_data is None else open_shards(self.new_data)
        checked = ResolvedPlan(
            recipe, shards, hp, strategy, online_settings, online_hp, guard, env, start, new
        )
        config = self.config(checked)
        config.validate()
        config.check_runners()
        if not resume:
            refuse_existing(self.folder)
        return checked

    def config(self, checked: ResolvedPlan, gpus: int | None = None) -> Any:
        """The plan as RLlib's configuration.

        Args:
            checked: What was found for it.
            gpus: Of each learner; None: one, if this machine has as many.
        """
        import torch

        if gpus is None:  # a learner that waits for one would wait for ever
            gpus = 1 if torch.cuda.is_available() and torch.cuda.device_count() >= self.learners else 0
        # Learners and runners are elsewhere, and may have another current folder.
        config = checked.recipe.configure(everywhere(checked.shards)).data(memory_budget=self.memory)
        if checked.env is not None:
            config.environment(checked.env, env_config=checked.env_options)
        if checked.new is not None:
            config.new_data(everywhere(checked.new))
        return (
            config.training(threads=self.threads, **checked.hp.as_dict())
            .offline(self.updates)
            .online(
                self.online,
                strategy=self.strategy,
                options=checked.strategy.as_dict(),
                **self.online_overrides,
            )
            .learners(num_learners=self.learners, num_gpus_per_learner=gpus)
            .env_runners(num_env_runners=self.workers, num_envs_per_env_runner=self.envs)
            .debugging(seed=self.seed)
        )

    def describe(self) -> list[tuple[str, str, str]]:
        """Every option with its value and where it came from."""
        hidden = {"command", "origins", "hyperparameters", "strategy_options", "online_overrides", "guard"}
        said = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in hidden}
        said["track"] = " ".join(self.track)
        return [(name, str(value), self.origins.get(name, "default")) for name, value in said.items()]

    def set_by(self, checked: ResolvedPlan) -> dict[str, str]:
        """Every hyperparameter with where its value came from."""
        kind, preset = checked.recipe.Hyperparameters, self.hyperparameters.get(PRESET)
        defaults, origins = kind().as_dict(), dict.fromkeys(kind.presets.get(preset, ()), f"preset {preset}")
        origins |= {name: self.origins.get(name, "given") for name in self.hyperparameters}
        return {
            name: origins.get(name, "default" if value == defaults[name] else "the data")
            for name, value in checked.hp.as_dict().items()
        }

    def describe_online_settings(self, checked: ResolvedPlan) -> list[tuple[str, Any, Any, str]]:
        """What can be otherwise online, factors and hyperparameters: name, value, default, origin.

        The default of a hyperparameter is its value offline.
        """
        papers, offline, factors = (
            find_strategy(self.strategy).online_settings,
            plain(checked.hp),
            plain(checked.online_settings),
        )
        defaults = plain(OnlineSettings()) | offline

        def origin(name: str, value: Any) -> str:
            if name in self.online_overrides:
                return self.origins.get(f"online.{name}", "given")
            return (
                "default"
                if value == defaults[name]
                else self.strategy
                if name in papers
                else "regularisation"
            )

        both = (factors | plain(checked.online_hp)).items()
        return [(f"online.{name}", value, defaults[name], origin(name, value)) for name, value in both]

    def evaluations(self) -> tuple[list[int], list[int]]:
        """The updates and the environment steps after which the policy is evaluated.

        Online: after the first step, densely early, and at the end.
        """
        every = self.eval_every or max(1, self.updates // 20)
        offline = sorted({*range(every, self.updates, every), self.updates} - {0})
        every = self.eval_every or max(1, self.online // 20)
        early = {step for step in (1, 1000, 2000, 5000, 10_000) if step <= self.online}
        online = sorted({*early, *range(every, self.online, every), self.online} - {0})
        return offline, online

    def _guard(self, env: str | None) -> GuardOptions | None:
        """How careful a guard is to be, if one is asked for."""
        if self.guard is None:
            return None
        if env is None or self.new_data is not None or self.online == 0:
            raise UserError(
                "a guard tries policies in the environment, and here nothing is collected from one.",
                "Say --online N with an environment, or leave out --guard.",
            )
        return GuardOptions.parse(self.guard, "the guard")

    def _simulator(self, shards: Shards) -> str | None:
        """The environment to score and collect in; learning offline can do without."""
        env = self.env or shards.env_id
        if env is None:
            return None
        try:
            options = options_for(env, shards.env_id, shards.env_options)
            check_simulator(env, shards.observation_space, shards.action_space, shards.name, options)
        except SimulatorError:
            if self.env or self.online:
                raise
            return None
        return env

    def _check_columns(self, columns: tuple[str, ...], shards: Shards) -> None:
        for name in columns:
            if name != "ret" and STORED.get(name, name) not in shards.columns:
                raise MissingColumn(
                    f"{self.algorithm} needs the column '{name}', and the shards of {shards.name} have none.",
                    f"They have: {' '.join(shards.columns)}",
                )

    def _start(self, shards: Shards, hp: Hyperparameters) -> Path | None:
        """The handover checkpoint of the run to start from."""
        if self.source is None:
            return None
        checkpoint = Path(self.source).absolute() / "checkpoints" / HANDOVER
        if not checkpoint.is_dir():
            raise UnknownName(
                f"{self.source} has no handover to start from.",
                f"Looked for {checkpoint}. A run keeps one when its offline side is done.",
            )
        check_resumable(self, Path(self.source), shards, hp)
        return checkpoint


def everywhere(shards: Shards) -> str:
    """What opens these very data in a process with another current folder."""
    return str(storage.absolute(shards.pinned))
