"""The undocumented attributes of RLlib's classes that this project sets, as base classes.

RLlib may rename them in any release, and would then ignore ours without an error.
``tests/test_ray_internals.py`` checks that RLlib still has each, and that no other class of this room
overrides such an attribute. Ray's own undocumented names are in `datasets_io.ray_internals`.
"""

from datetime import timedelta
from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.learner.torch.torch_learner import TorchLearner


class ManualConfig(AlgorithmConfig):
    """RLlib's configuration without the parts that RLlib adds by itself.

    Args:
        algo_class: The algorithm.
    """

    def __init__(self, algo_class: Any = None) -> None:
        super().__init__(algo_class=algo_class)
        self._is_online = False  # environment runners are made at the handover
        self._dont_auto_sync_env_runner_states = True  # `RolloutWorkers` sends the weights

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return {}


class ManualLearner(TorchLearner):
    """RLlib's learner without its own update: gradients are averaged one vector per objective."""

    def _make_modules_ddp_if_necessary(self) -> None:
        """Leave the modules as they are."""

    def compute_loss_for_module(self, **_: Any) -> Any:
        """Refuse: the losses are the recipe's, and `advance` computes them."""
        raise RuntimeError("off2on's learner is driven by advance(), not by update()")

    def mark_weights_changed(self) -> None:
        """Count up the weights' version: EnvRunners ignore weights of a version that they have."""
        self._weights_seq_no += 1


def set_gradient_timeout(timeout: timedelta) -> None:
    """Limit the wait for another learner's gradient; RLlib's process group waits for half an hour."""
    torch.distributed.distributed_c10d._set_pg_timeout(timeout)
