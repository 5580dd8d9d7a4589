"""RLlib's fluent configuration, with an algorithm's hyperparameters and the crossing inside.

config = IQL.configure("halfcheetah-medium").training(expectile=0.9).online(20_000, strategy="balanced")
algo = config.build_algo()
"""

from typing import Any, Self

import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from datasets_io import Shards, open_shards
from off2on.errors import HyperparameterError, OnlineSettingsError, RecipeError, SimulatorError
from off2on.online.settings import OnlineSettings, adapted, online_hyperparameters, split
from off2on.recipe.hyperparameters import PRESET, Hyperparameters, Settings
from off2on.replay.augmentation.catalogue import check_fit
from off2on.replay.buffer import LATE, ONLINE
from off2on.replay.memory_budget import default_budget
from off2on.replay.offline_rows import layout_of
from off2on.replay.transforms import Transforms
from off2on.rllib.env_runner import RecipeEnvRunner
from off2on.rllib.module import RecipeModule
from off2on.strategies import DEFAULT, find_strategy


class OfflineToOnlineConfig(AlgorithmConfig):
    """What a run of any recipe needs to know.

    Args:
        algo_class: The recipe.
    """

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class)
        self.dataset: str | None = None
        self.new_dataset: str | None = None
        self.hyperparameters: dict[str, Any] = {}
        self.memory_budget = default_budget()
        self.updates_per_step = 200
        self.offline_updates = 1_000_000
        self.online_steps = 0
        self.strategy_name = DEFAULT
        self.strategy_options: dict[str, Any] = {}
        self.factors: dict[str, object] = {}
        self.replay_capacity = 1_000_000
        self.threads: int | None = None
        self.seed = 0
        self.num_env_runners = 0
        self.min_sample_timesteps_per_iteration = 0
        # Runners are made at the handover: until then there is no environment to step.
        self.env_runner_cls = RecipeEnvRunner
        self._is_online = False
        self._dont_auto_sync_env_runner_states = True
        self.restart_failed_env_runners = True
        # RLlib has whoever failed wait a minute before it ends: learners too, whose run waits with them.
        self.delay_between_env_runner_restarts_s = 1.0

    def data(self, dataset: str | None = None, *, memory_budget: int | None = None) -> Self:
        """The data to learn from.

        Args:
            dataset: A name or a folder of shards, as `datasets_io.open_shards` takes it.
            memory_budget: Bytes that a learner may hold, a quarter of this machine's memory unless it is
                said; larger data stream through a window.
        """
        if dataset is not None:
            self.dataset = str(dataset)
            shards = open_shards(dataset)
            self.environment(observation_space=shards.observation_space, action_space=shards.action_space)
            if shards.env_id is not None and self.env is None:
                self.environment(shards.env_id, env_config=shards.env_options)
        if memory_budget is not None:
            self.memory_budget = memory_budget
        return self

    def offline(self, updates: int) -> Self:
        """Gradient updates before the handover; 0 starts online at once."""
        self.offline_updates = updates
        return self

    def new_data(self, dataset: str) -> Self:
        """Recorded transitions that take the environment's place after the handover.

        Args:
            dataset: As for `data`; `NAME@1+` is what was added to a data set since its generation 1. Give
                `online` as many steps as of it are to be gone through, in their order.
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
        **factors: object,
    ) -> Self:
        """What happens after the handover.

        Args:
            steps: Environment steps.
            strategy: What a batch is made of; a name of the catalogue or ``module:Class``.
            options: The strategy's own.
            replay_capacity: Most online rows held.
            **factors: Factors of the crossing (see `online_settings.OnlineSettings`: ``warm_up``, ``utd``,
                ``exploration`` …), and hyperparameters of the recipe that have another value online.
        """
        self.online_steps, self.strategy_name = steps, strategy
        self.strategy_options = dict(options or {})
        self.factors = dict(factors)
        self.replay_capacity = replay_capacity or self.replay_capacity
        return self

    def training(
        self, *, threads: int | None = None, updates_per_step: int | None = None, **kwargs: Any
    ) -> Self:
        """RLlib's training settings and the recipe's hyperparameters, by name.

        Args:
            threads: Threads of each learner; None measures which number is fastest.
            updates_per_step: Gradient updates per call of ``train()`` before the handover.
            **kwargs: Hyperparameters of the recipe; RLlib's other settings pass through.
        """
        names = {*self.algo_class.Hyperparameters.rules(), PRESET}
        known = {name: kwargs.pop(name) for name in list(kwargs) if name in names}
        foreign = [name for name in kwargs if not hasattr(self, name)]
        if foreign:
            recipe = self.algo_class
            recipe.Hyperparameters.parse({foreign[0]: kwargs[foreign[0]]}, recipe.__name__)
        self.hyperparameters.update(known)
        self.threads = threads or self.threads
        self.updates_per_step = updates_per_step or self.updates_per_step
        super().training(**kwargs)
        return self

    @property
    def recipe(self) -> Any:
        """The algorithm's class, changed as the crossing says."""
        return adapted(self.algo_class, self.online_settings, self.offline_updates)

    @property
    def hp(self) -> Hyperparameters:
        """The hyperparameters, checked, with what they leave to the data taken from it."""
        assert self.dataset is not None  # validate() has refused it
        recipe = self.algo_class
        parsed = recipe.Hyperparameters.parse(self.hyperparameters, recipe.__name__)
        settled: Hyperparameters = recipe.resolve(parsed, open_shards(self.dataset))
        return settled

    @property
    def online_settings(self) -> OnlineSettings:
        """What else happens at the handover, checked."""
        said, _ = split(self.factors, self.algo_class)
        return OnlineSettings.of(find_strategy(self.strategy_name), said, self.algo_class)

    @property
    def online_hp(self) -> Hyperparameters:
        """The hyperparameters after the handover, checked."""
        _, said = split(self.factors, self.algo_class)
        return online_hyperparameters(self.algo_class, self.hp, said, self.online_settings.regularisation)

    @property
    def strategy_settings(self) -> Settings:
        """The strategy's options, checked."""
        return find_strategy(self.strategy_name).Options.parse(self.strategy_options, self.strategy_name)

    def validate(self) -> None:
        """Check the whole plan before any process starts."""
        super().validate()
        if self.dataset is None:
            raise RecipeError(
                "no data set is given.", "", f"{self.recipe.__name__}.configure('toy-pendulum')"
            )
        shards, _ = open_shards(self.dataset), (self.hp, self.strategy_settings)
        self._check_networks(shards)
        self._check_actions(shards)
        self._check_order(shards)
        check_fit(self.hp.augment, self.recipe)
        if self.hp.batch_size % max(1, self.num_learners):
            raise HyperparameterError(
                f"batch_size {self.hp.batch_size} cannot be shared by {self.num_learners} learners.",
                "It counts the transitions of an update over all learners.",
            )
        unknown = set(self.recipe.columns) - {*ONLINE, *LATE}
        if self.online_steps and unknown:
            raise RecipeError(
                f"{self.recipe.__name__} reads {', '.join(sorted(unknown))}, "
                "which online transitions do not have.",
                "Leave out the online phase.",
            )
        if self.new_dataset is not None:
            self._check_logs(shards, open_shards(self.new_dataset))
        elif self.online_steps and self.env is None:
            raise SimulatorError(
                f"{shards.name} has no simulator, so there is nothing to be online with.",
                "Leave out the online phase, name an environment, or bring new logs with --new-data.",
                "--env my_lab.sim:Forklift-v0",
            )

    def check_runners(self) -> None:
        """That there are processes to collect in; RLlib asks `validate` of a runner's own part, too."""
        if self.online_settings.asynchronous and self.online_steps and self.num_env_runners == 0:
            raise OnlineSettingsError(
                "asynchronous collecting needs processes of its own to collect in: workers is 0.",
                "In one process, collecting and updating take turns.",
                "--workers 1",
            )

    def _check_networks(self, shards: Shards) -> None:
        """That what differs online fits the networks, which are built before."""
        if self.online_hp == self.hp:
            return
        spaces = shards.observation_space, shards.action_space

        def shapes(hp: Hyperparameters) -> dict[str, Any]:
            with torch.random.fork_rng(devices=[]):
                nets = self.algo_class.build_nets(*spaces, hp)
            return {name: value.shape for name, value in nets.state_dict().items()}

        if shapes(self.hp) != shapes(self.online_hp):
            _, said = split(self.factors, self.algo_class)
            raise HyperparameterError(
                f"the networks would be others online: {', '.join(said)}.",
                "They are built before the offline side; set there what shapes them.",
            )

    def _check_logs(self, shards: Shards, new: Shards) -> None:
        """That the new logs are of the same kind as the data, and enough."""
        for what in ("observations", "actions"):
            there, here = (getattr(one, f"{what[:-1]}_space") for one in (shards, new))
            if there.shape != here.shape or getattr(there, "n", None) != getattr(here, "n", None):
                raise RecipeError(f"{new.name} has {what} in {here}, {shards.name} in {there}.")
        if self.online_steps > new.rows:
            raise RecipeError(
                f"{new.name} has {new.rows:,} transitions, fewer than the {self.online_steps:,} asked for.",
                "They are gone through once.",
                f"--online {new.rows}",
            )

    def _check_actions(self, shards: Shards) -> None:
        """That the recipe takes actions of the data's kind."""
        space, kind = shards.action_space, self.recipe.actions
        if hasattr(space, "n") != (kind == "discrete"):
            raise RecipeError(
                f"{self.recipe.__name__} needs {kind} actions; those of {shards.name} are {space}.",
                "`off2on algos` lists the algorithms for either kind.",
            )
        if kind == "continuous" and not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise RecipeError(
                f"the actions of {shards.name} have no bounds: {space}.",
                "They are scaled to [-1, 1]; the data's source must state a bounded Box.",
            )

    def _check_order(self, shards: Shards) -> None:
        """That a recipe which needs whole episodes in order gets all of the data at once."""
        layout = layout_of(shards, self.recipe.columns, self.recipe.relabelled)
        needed = 4 * layout.width * shards.rows // max(1, self.num_learners)
        if self.recipe.relabelled and needed > self.memory_budget:
            raise RecipeError(
                f"{self.recipe.__name__} needs whole episodes, and the {needed:,} bytes of {shards.name} "
                f"that a learner holds do not fit its memory budget of {self.memory_budget:,}.",
                "Larger data stream in a shuffled order.",
                f"--memory {needed}",
            )

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The recipe's networks with their units."""
        assert self.dataset is not None  # validate() has refused it
        shards = open_shards(self.dataset)
        return RLModuleSpec(
            module_class=RecipeModule,
            observation_space=shards.observation_space,
            action_space=shards.action_space,
            model_config={
                "recipe": self.recipe,
                "hp": self.hp,
                "online_hp": self.online_hp,
                "transforms": Transforms.of(shards, self.hp),
                "seed": self.seed,
            },
        )

    def get_default_learner_class(self) -> Any:
        """The one machine."""
        from off2on.rllib.learner import RecipeLearner

        return RecipeLearner

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return {}
