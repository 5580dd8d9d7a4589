"""RLlib's AlgorithmConfig, with the data, the hyperparameters and the online phase.

config = IQL.configure("halfcheetah-medium").training(expectile=0.9).online(20_000, strategy="balanced")
algo = config.build_algo()
"""

from typing import Any, Self

import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from datasets_io import Shards, open_shards
from datasets_io.column_names import EPISODE_COLUMNS, STEP_COLUMNS
from datasets_io.environments import may_make, options_for
from off2on.errors import HyperparameterError, OnlineSettingsError, RecipeError, SimulatorError
from off2on.recipe.hyperparameters import PRESET, RENAMED, Hyperparameters
from off2on.replay.memory_budget import default_budget
from off2on.replay.transforms import Transforms
from off2on.rllib import data_checks
from off2on.rllib.checked_config import TRAINING, CheckedConfig
from off2on.rllib.env_runner import RecipeEnvRunner
from off2on.rllib.module import RecipeModule
from off2on.rllib.precision import FLOAT32, PRECISIONS
from off2on.rllib.resolved import ResolvedSettings, resolve
from off2on.rllib.traced.compilation import AUTO, MODES
from off2on.strategies import DEFAULT

_RESOLVED = "_resolved"
_RESOLVED_FROM = {
    "algo_class",
    "algorithm_name",
    "dataset",
    "hyperparameters",
    "strategy_name",
    "strategy_options",
    "online_overrides",
    "offline_updates",
    "num_learners",
    "_train_batch_size_per_learner",
}
"""The attributes that `OfflineToOnlineConfig.resolved` is computed from."""


class OfflineToOnlineConfig(CheckedConfig):
    """Configuration of a run, for every algorithm.

    Args:
        algo_class: The algorithm.
    """

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class)
        self.dataset: str | None = None
        self.new_dataset: str | None = None
        self.hyperparameters: dict[str, Any] = {}
        self.memory_budget = default_budget()
        self.updates_per_call = 200
        self.offline_updates = 1_000_000
        self.online_steps = 0
        self.strategy_name = DEFAULT
        self.strategy_options: dict[str, Any] = {}
        self.online_overrides: dict[str, object] = {}
        self.algorithm_name = ""
        self.replay_capacity = 1_000_000
        self.threads: int | None = None
        self.compile = AUTO
        self.precision = FLOAT32
        self.seed = 0
        self.num_env_runners = 0
        self.min_sample_timesteps_per_iteration = 0
        self.metrics_num_episodes_for_smoothing = 10
        self.env_runner_cls = RecipeEnvRunner
        self.restart_failed_env_runners = True
        # By default RLlib keeps a failed actor, also a learner, for a minute before it ends.
        self.delay_between_env_runner_restarts_s = 1.0

    def data(self, dataset: str | None = None, *, memory_budget: int | None = None) -> Self:
        """Set the data to learn from.

        Args:
            dataset: Name or folder of a data set, as for `datasets_io.open_shards`.
            memory_budget: Largest number of bytes of data that a learner holds; by default a quarter of this
                machine's memory. Larger data are streamed through a window.
        """
        if dataset is not None:
            self.dataset = str(dataset)
            shards = open_shards(dataset)
            self.environment(observation_space=shards.observation_space, action_space=shards.action_space)
            env = shards.env_id
            if env is not None and self.env is None and may_make(env):
                self.environment(env, env_config=options_for(env, env, shards.env_options))
        if memory_budget is not None:
            self.memory_budget = memory_budget
        return self

    def offline(self, updates: int) -> Self:
        """Set the number of gradient updates before the handover; 0 starts online at once."""
        self.offline_updates = updates
        return self

    def new_data(self, dataset: str) -> Self:
        """Set recorded transitions that replace the environment after the handover.

        Args:
            dataset: As for `data`; `NAME@1+` means the episodes added to a data set after its generation 1.
                The steps of `online` are its transitions, in their order.
        """
        self.new_dataset = dataset
        return self

    def online(
        self,
        steps: int,
        *,
        strategy: str = DEFAULT,
        options: dict[str, Any] | None = None,
        replay_capacity: int | None = None,
        **online_overrides: object,
    ) -> Self:
        """Configure the online phase.

        Args:
            steps: Environment steps.
            strategy: Fine-tuning strategy: a name of the catalogue or ``package.module:Class``.
            options: Options of the strategy.
            replay_capacity: Largest number of online transitions in the replay buffer.
            **online_overrides: Online settings (see `online.settings.OnlineSettings`: ``warm_up``, ``utd``,
                ``exploration`` …), and hyperparameters with another value online.
        """
        self.online_steps, self.strategy_name = steps, strategy
        self.strategy_options = dict(options or {})
        self.online_overrides = dict(online_overrides)
        self.replay_capacity = replay_capacity or self.replay_capacity
        return self

    def training(
        self,
        *,
        threads: int | None = None,
        updates_per_call: int | None = None,
        compile: str | None = None,  # noqa: A002 - torch's name
        precision: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Set hyperparameters of the algorithm and RLlib's own training settings.

        Args:
            threads: Threads of each learner; None: the fastest number, measured before the first update.
            updates_per_call: Gradient updates per call of ``train()`` before the handover.
            compile: ``on``: compile the updates, which are then faster and differ by rounding; ``off``; or
                ``auto``: as a measurement says, in a run of more than 50,000 updates.
            precision: Number format of the updates' matrix products: ``float32``, or ``bfloat16``, which is
                faster on some processors and keeps 8 bits of each factor.
            **kwargs: Hyperparameters by name; RLlib's settings as in `rllib_settings`.
        """
        rules = self.algo_class.Hyperparameters.rules()
        known = {name: kwargs.pop(name) for name in list(kwargs) if name in {*rules, *RENAMED, PRESET}}
        unknown = [name for name in kwargs if name not in TRAINING]
        if unknown:
            recipe = self.algo_class
            recipe.Hyperparameters.parse({unknown[0]: kwargs[unknown[0]]}, recipe.__name__)  # raises
        known = self.hyperparameters_of(kwargs, rules) | known
        self.hyperparameters = self.hyperparameters | known
        if "batch_size" in known:
            self._train_batch_size_per_learner = None
        for name, given, words in (("compile", compile, MODES), ("precision", precision, PRECISIONS)):
            if given is not None and given not in words:
                raise HyperparameterError(f"{name} must be one of {', '.join(words)}: got {given!r}.")
        self.threads, self.compile = threads or self.threads, compile or self.compile
        self.precision = precision or self.precision
        self.updates_per_call = updates_per_call or self.updates_per_call
        super().training(**kwargs)
        return self

    @property
    def resolved(self) -> ResolvedSettings:
        """Resolved settings: names looked up, values checked, defaults filled in. Computed once.

        Raises:
            UserError: A name is unknown, a value is out of range, or settings are incompatible.
        """
        known: ResolvedSettings | None = self.__dict__.get(_RESOLVED)
        if known is None:
            assert self.dataset is not None  # checked by validate()
            share = self.__dict__.get("_train_batch_size_per_learner")
            batch = {} if share is None else {"batch_size": share * max(1, self.num_learners)}
            known = resolve(
                self.algo_class,
                self.algorithm_name or self.algo_class.__name__,
                open_shards(self.dataset),
                self.hyperparameters | batch,
                self.strategy_name,
                self.strategy_options,
                self.online_overrides,
                self.offline_updates,
            )
            self.__dict__[_RESOLVED] = known  # not by setattr, which a frozen configuration refuses
        return known

    def __setattr__(self, key: str, value: Any) -> None:
        super().__setattr__(key, value)
        if key in _RESOLVED_FROM:
            self.__dict__.pop(_RESOLVED, None)

    def to_dict(self) -> Any:
        """Return the settings as RLlib's dictionary, without `resolved`, which follows from them."""
        return {name: value for name, value in super().to_dict().items() if name != _RESOLVED}

    def validate(self) -> None:
        """Check that the settings, the data and the environment are compatible, before any process starts.

        Raises:
            UserError: They are not.
        """
        super().validate()
        if self.dataset is None:
            name = self.algo_class.__name__
            raise RecipeError("no data set is given.", "", f"{name}.configure('toy-pendulum')")
        shards, resolved = open_shards(self.dataset), self.resolved
        recipe = resolved.recipe
        self._check_networks(shards)
        data_checks.check_actions(recipe, shards)
        data_checks.check_order(recipe, shards, max(1, self.num_learners), self.memory_budget)
        data_checks.check_rows(recipe, resolved.hp, resolved.online_hp)
        data_checks.check_batches(recipe, resolved.hp, resolved.online_hp, max(1, self.num_learners))
        data_checks.check_offline(recipe, resolved.hp, resolved.online_hp, self.offline_updates)
        data_checks.check_online(recipe, resolved.hp, self.online_steps)
        unknown = set(recipe.columns) - {*STEP_COLUMNS, *EPISODE_COLUMNS}
        if self.online_steps and unknown:
            raise RecipeError(
                f"{recipe.__name__} reads {', '.join(sorted(unknown))}, "
                "and transitions collected online do not have them.",
                "Leave out the online phase.",
            )
        if self.new_dataset is not None:
            data_checks.check_new_data(shards, open_shards(self.new_dataset), self.online_steps)
        elif (self.online_steps or self.evaluation_interval) and self.env is None:
            raise SimulatorError(
                f"{shards.name} has no environment for the online phase.",
                "Leave out the online phase, or give an environment (--env) or new data (--new-data).",
                f"--env {shards.env_id or 'my_lab.sim:Forklift-v0'}",
            )

    def check_runners(self) -> None:
        """Check that asynchronous collection has environment runners in other processes.

        It is not a part of `validate`, which RLlib also calls in the runners.

        Raises:
            OnlineSettingsError: There are none.
        """
        if self.resolved.online.asynchronous and self.online_steps and self.num_env_runners == 0:
            raise OnlineSettingsError(
                "asynchronous collection needs at least one worker: workers is 0.",
                "In one process, collection and updates can only alternate.",
                "--workers 1",
            )

    def _check_networks(self, shards: Shards) -> None:
        """Check that the hyperparameters of the online phase give networks of the same shapes."""
        resolved = self.resolved
        if resolved.online_hp == resolved.hp:
            return

        def shapes(hp: Hyperparameters) -> dict[str, Any]:
            with torch.random.fork_rng(devices=[]):
                nets = self.algo_class.build_nets(shards.observation_space, shards.action_space, hp)
            return {name: value.shape for name, value in nets.state_dict().items()}

        if shapes(resolved.hp) != shapes(resolved.online_hp):
            raise HyperparameterError(
                f"the networks would have other shapes online: {', '.join(resolved.changed_online)}.",
                "The networks are built once: give these hyperparameters one value for both phases.",
            )

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """Return the specification of the RLModule: networks, transforms, hyperparameters."""
        assert self.dataset is not None  # checked by validate()
        shards, resolved = open_shards(self.dataset), self.resolved
        return RLModuleSpec(
            module_class=RecipeModule,
            observation_space=shards.observation_space,
            action_space=shards.action_space,
            model_config={
                "recipe": resolved.recipe,
                "hp": resolved.hp,
                "online_hp": resolved.online_hp,
                "transforms": Transforms.of(shards, resolved.hp),
                "seed": self.seed,
            },
        )

    def get_default_learner_class(self) -> Any:
        """Return the learner of every algorithm."""
        from off2on.rllib.learner import RecipeLearner

        return RecipeLearner
