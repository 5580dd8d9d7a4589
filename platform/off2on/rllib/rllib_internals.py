"""Base classes that set undocumented attributes of RLlib's classes.

RLlib may rename such an attribute in any release, and would then ignore ours without an error.
``tests/test_ray_internals.py`` checks that RLlib still has each, and that no other class of this package
overrides such an attribute. Ray's own undocumented names are in `datasets_io.ray_internals`.
"""

from datetime import timedelta
from functools import cached_property
from typing import Any, Self

import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.actor_manager import FaultTolerantActorManager


class ManualConfig(AlgorithmConfig):
    """RLlib's configuration without the parts that RLlib adds by itself.

    Args:
        algo_class: The algorithm.
    """

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class)
        self._is_online = False  # environment runners are made at the handover
        self._dont_auto_sync_env_runner_states = True  # `RolloutCollector` sends the weights

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return {}


class ManualAlgorithm(Algorithm):
    """RLlib's algorithm without the parts that cost time and have no use here."""

    @classmethod
    def _should_create_evaluation_env_runners(cls, eval_config: Any) -> bool:
        return False  # `evaluation.EvaluatedAlgorithm` needs none

    @cached_property
    def _result_config(self) -> dict[str, Any]:
        """The configuration in every result; it is frozen."""
        return dict(self.config.to_dict())

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the entries of Tune in a result.

        RLlib copies the whole configuration for each result, which takes as long as a small update.
        """
        filled: dict[str, Any] = super(Algorithm, self).get_auto_filled_metrics(*args, **kwargs)
        return filled | {"config": dict(self._result_config)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class LocalEnvRunnerGroup(EnvRunnerGroup):
    """RLlib's group with one environment runner, in this process, which needs no Ray.

    RLlib's own constructor puts the configuration into Ray's object store, also without remote runners: Ray
    would start a cluster for it.

    Args:
        config: The configuration of the algorithm.
        tune_trial_id: Id of the trial that the algorithm is a part of; None without Tune.
        arguments: RLlib's other arguments, of which a `RecipeEnvRunner` needs none.
    """

    def __init__(
        self, *, config: AlgorithmConfig, tune_trial_id: str | None = None, **arguments: Any
    ) -> None:
        self._remote_config = config
        self._ignore_ray_errors_on_env_runners = False
        self._num_env_runners_dropped_lifetime = 0
        self._worker_manager = FaultTolerantActorManager(init_id=1)
        self._local_env_runner = config.env_runner_cls(
            config=config.copy(copy_frozen=False), worker_index=0, num_workers=0, tune_trial_id=tune_trial_id
        )


class ManualLearner(TorchLearner):
    """RLlib's learner without RLlib's update and DDP: subclasses average one gradient per objective."""

    def _make_modules_ddp_if_necessary(self) -> None:
        """Leave the modules as they are."""

    def compute_loss_for_module(self, **_: Any) -> Any:
        """Raise an error: `advance` computes the losses, which the recipe defines."""
        raise RuntimeError("RLlib's update() is not supported: call advance()")

    def mark_weights_changed(self) -> None:
        """Increment the weights' version: EnvRunners ignore weights of a version that they already have."""
        self._weights_seq_no += 1


def set_gradient_timeout(timeout: timedelta) -> None:
    """Set the longest wait for another learner's gradient; RLlib's process group waits for half an hour."""
    torch.distributed.distributed_c10d._set_pg_timeout(timeout)
