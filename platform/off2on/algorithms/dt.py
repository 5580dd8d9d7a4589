"""DT: a policy that imitates the data's actions, given the return that is still to come.

Chen et al., "Decision Transformer: Reinforcement Learning via Sequence Modeling", NeurIPS 2021,
arXiv:2106.01345.

    tokens  R_1, s_1, a_1, R_2, s_2, a_2, ..., R_K, s_K,   R_t = r_t + r_{t+1} + ... to the episode's end
            each W_kind x + b_kind + time(t), then layer normalisation; a causal transformer (GPT-2)
    actor   L_pi = E[ mean over the steps and dimensions of |pi(R_1, s_1, a_1, ..., R_t, s_t) - a_t|^2 ]
    acting  R_1 = target return,  R_{t+1} = R_t - r_t

No values are learned: the policy does what was done before such returns. ``target_return`` is by default the
highest return of an episode of the data, ``return_scale`` the largest absolute one. The authors' targets are
presets; ``off2on eval --target-return`` tries others. The transform of the reward must be ``raw``, because
returns are those of the environment. Steps beyond the longest episode of the data have its last time(t).

Differences: windows end at a step that is drawn uniformly, and are shorter at the start of an episode, as
when acting; the authors' begin at such a step. The last action, which nothing attends to, is no token. The
learning rate rises over a tenth of the offline updates, which are the authors' 10,000 of 100,000. The
authors' heads for states and returns are left out; they are not trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from datasets_io import Shards
from off2on.errors import HyperparameterError
from off2on.recipe.batch import Batch
from off2on.recipe.histories import MEANING, split
from off2on.recipe.hooks import Loss
from off2on.recipe.hyperparameters import NORMALISE, Hyperparameters, hp
from off2on.recipe.networks import Nets
from off2on.recipe.transformers import DecisionTransformer
from off2on.rllib.algorithm import OfflineToOnline

CORL = {"batch_size": 4096, "actor_lr": 8e-4, "return_scale": 1.0}


@dataclass(frozen=True)
class DTHyperparameters(Hyperparameters):
    """Hyperparameters of the paper's table 9 and the authors' code."""

    context: int = hp(20, MEANING, least=1, most=200, search=("choice", 5, 10, 20, 40))
    target_return: float | None = hp(
        None, "return that the policy is asked for, raw; by default the highest of the data"
    )
    return_scale: float | None = hp(
        None, "divisor of returns; by default the largest absolute return of the data", above=0, built=True
    )
    max_steps: int | None = hp(
        None, "steps of an episode that are told apart; by default the longest episode's", least=1, built=True
    )
    width: int = hp(128, "width of the tokens", least=1, built=True)
    blocks: int = hp(3, "blocks of the transformer", least=1, built=True)
    heads: int = hp(1, "attention heads of each block; width must be a multiple", least=1, built=True)
    hidden: tuple[int, ...] = hp((512,), "widths of the hidden layers of each block", least=1)
    dropout: float = hp(0.1, "dropout of tokens, attention and blocks in training", least=0, below=1)
    actor_lr: float = hp(1e-4, "learning rate (AdamW)", above=0, search=("log", 3e-5, 1e-3))
    lr_warm_up: float = hp(0.1, "share of the offline updates in which it rises from 0", least=0, most=1)
    weight_decay: float = hp(1e-4, "weight decay (AdamW)", least=0, built=True)
    gradient_norm: float = hp(0.25, "largest norm of the gradient", above=0)
    batch_size: int = hp(64, "windows per gradient update, over all learners", least=1)
    normalise_obs: bool = hp(True, NORMALISE)

    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "halfcheetah": {"target_return": 12_000.0, "return_scale": 1000.0},
        "hopper": {"target_return": 3600.0, "return_scale": 1000.0},
        "walker2d": {"target_return": 5000.0, "return_scale": 1000.0},
        "antmaze": {"target_return": 1.0, "return_scale": 1.0},  # CORL's, as those below
        "pen-human": CORL | {"target_return": 3100.0},
        "door-human": CORL | {"target_return": 2900.0},
        "maze2d-medium": CORL | {"target_return": 280.0},
    }


class DT(OfflineToOnline):
    """A transformer that imitates the data's actions, given the return that is still to come."""

    Hyperparameters = DTHyperparameters
    columns = ("obs", "action", "reward")
    objectives = ("actor",)
    schedules = ("lr_warm_up",)

    @classmethod
    def resolve(cls, hp: DTHyperparameters, shards: Shards) -> DTHyperparameters:
        """Fill in the target return, the scale of returns and the longest episode."""
        if hp.reward != "raw":
            raise HyperparameterError(
                f"{cls.__name__} needs reward=raw: got {hp.reward}.", "return_scale is what scales returns."
            )
        if hp.width % hp.heads:
            raise HyperparameterError(f"width {hp.width} is not a multiple of heads, {hp.heads}.")
        best, largest = float(shards.returns.max()), float(abs(shards.returns).max())
        return replace(
            hp,
            target_return=best if hp.target_return is None else hp.target_return,
            return_scale=hp.return_scale or largest or 1.0,
            max_steps=hp.max_steps or int(max(shards.manifest.lengths)),
        )

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: DTHyperparameters) -> Nets:
        """Build the policy; settings of the data that are not yet known are 1."""
        actor = DecisionTransformer(
            obs_space.shape[0],
            action_space.shape[0],
            hp.context,
            scale=hp.return_scale or 1.0,
            longest=hp.max_steps or 1,
            width=hp.width,
            hidden=hp.hidden,
            blocks=hp.blocks,
            heads=hp.heads,
        )
        return Nets(actor=actor)

    @classmethod
    def compute_actor_loss(cls, nets: Nets, batch: Batch, hp: DTHyperparameters) -> Loss:
        """Compute the mean squared distance to the data's actions over the steps in the episode."""
        steps = split(batch.obs, hp.context, nets.actor.obs)
        actions = torch.cat((steps.action[:, :-1], batch.action.unsqueeze(1)), 1)
        error = (nets.actor(batch.obs, hp.dropout) - actions).square().mean(-1)
        return (error * steps.inside).sum() / steps.inside.sum(), {}

    @classmethod
    def act(cls, nets: Nets, obs: Tensor, hp: DTHyperparameters, explore: bool) -> Tensor:
        """Return the action after the newest observation of histories [B, K (D + A + 2)]."""
        return nets.actor(obs)[:, -1]  # type: ignore[no-any-return]

    @classmethod
    def max_gradient_norm(cls, objective: str, hp: DTHyperparameters) -> float:
        """Return the limit of the gradient's norm."""
        return hp.gradient_norm

    @classmethod
    def optimizer(cls, objective: str, hp: DTHyperparameters, vector: Tensor) -> torch.optim.Optimizer:
        """Return AdamW."""
        return torch.optim.AdamW([vector], lr=hp.actor_lr, weight_decay=hp.weight_decay, fused=True)

    @classmethod
    def lr(cls, objective: str, hp: DTHyperparameters, progress: float) -> float:
        """Return the learning rate, which rises linearly at first."""
        return hp.actor_lr * (min(1.0, progress / hp.lr_warm_up) if hp.lr_warm_up else 1.0)
