"""RLModule of every recipe."""

from pathlib import Path
from typing import Any

import torch
from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule

from off2on.policy import Policy
from off2on.rllib.user_code import user_lines_named


class RecipeModule(TorchRLModule, InferenceOnlyAPI):
    """Holds a `Policy`; environment runners hold only the networks that acting needs.

    ``model_config`` has the recipe (a class), its hyperparameters offline (``hp``) and online
    (``online_hp``), the ``transforms`` and the ``seed`` of the initial weights, which are the same in every
    process.
    """

    def setup(self) -> None:
        """Build the networks."""
        config = self.model_config
        recipe, hp = config["recipe"], config["hp"]
        with torch.random.fork_rng(devices=[]), user_lines_named():
            torch.manual_seed(config["seed"])
            nets = recipe.build_nets(self.observation_space, self.action_space, hp)
        unused = [name for name in nets.names() if name not in recipe.acting_networks]
        unused += [f"target.{name}" for name in nets.targets if name not in recipe.acting_targets]
        self.non_inference_prefixes = [f"policy.nets.{name}" for name in unused]
        if self.inference_only:
            nets.keep(recipe.acting_networks, recipe.acting_targets)
        self.policy = Policy(recipe, nets, config["online_hp"], config["transforms"])

    def get_non_inference_attributes(self) -> list[str]:
        """Return the prefixes of the weights that environment runners do not need."""
        return self.non_inference_prefixes

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {Columns.ACTIONS: self.policy(batch[Columns.OBS])}

    def _forward_exploration(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        with torch.no_grad():
            return {Columns.ACTIONS: self.policy(batch[Columns.OBS], explore=True)}


def policy_from_checkpoint(checkpoint: Path) -> Policy:
    """Return the policy of a run's checkpoint.

    Unlike an exported policy, a checkpoint needs the algorithm's class and is unpickled, which can run any
    code: use this only for trusted runs.
    """
    parts = (COMPONENT_LEARNER_GROUP, COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID)
    module = RecipeModule.from_checkpoint(str(checkpoint.absolute().joinpath(*parts)))
    policy: Policy = module.policy.cpu().eval()
    return policy
