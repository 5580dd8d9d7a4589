"""Chunks of actions: policies that decide about h consecutive actions at once.

Li, Zhou & Levine, "Reinforcement Learning with Action Chunking", NeurIPS 2025, arXiv:2507.07969. A chunk is
one wide action of h A numbers, ordered by time. It is executed to its end without looking at the observations
in between, when collecting and in evaluations.

A row of the data is then a window of h steps of its episode (see `off2on.replay.windows`): ``action``
[B, h A], ``inside`` [B, h], 1 for the steps that are in the episode, the discounted sum ``reward``, the
observation ``next_obs`` after the window, and ``mask`` with gamma^{h-1}. An algorithm has chunks if its
hyperparameters have the name ``chunk``; with ``chunk=1`` rows and policies are those of single actions.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from off2on.recipe.batch import Batch
from off2on.recipe.flows import flow_matching
from off2on.recipe.hooks import Loss, Recipe
from off2on.recipe.networks import Nets

MEANING = "h, consecutive actions that are decided at once and executed to the end"


def chunk_of(hp: Any) -> int:
    """Return the number of actions h of a chunk of an algorithm's hyperparameters; 1: single actions."""
    return int(getattr(hp, "chunk", 1))


def in_steps(action: Tensor, chunk: int) -> Tensor:
    """Return chunks [..., h A] as actions [..., h, A]; single actions as they are."""
    return action if chunk == 1 else action.view(*action.shape[:-1], chunk, -1)


class ChunkedFlow(Recipe):
    """Makes of an algorithm with a flow of the data's actions one with a flow of chunks.

        flow    the squared error of step k is weighted by inside_k
        critic  the error is weighted by inside_{h-1}: windows that the episode's end cuts short teach nothing

    Both are still divided by the size of the batch. Put it in front of the algorithm in the order of
    inheritance.
    """

    @classmethod
    def build_nets(cls, obs_space: Any, action_space: Any, hp: Any) -> Nets:
        """Build the algorithm's networks for actions as wide as a chunk."""
        width = chunk_of(hp) * action_space.shape[0]
        return super().build_nets(obs_space, gym.spaces.Box(-1, 1, (width,), np.float32), hp)

    @classmethod
    def prepare(cls, nets: Nets, batch: Batch, hp: Any) -> Batch:
        """Weight the critics' errors of incomplete windows by 0; otherwise as the algorithm."""
        batch = super().prepare(nets, batch, hp)
        if chunk_of(hp) > 1:
            complete = batch.inside[:, -1]
            batch.weight = complete if batch.weight is None else batch.weight * complete
        return batch

    @classmethod
    def compute_flow_loss(cls, nets: Nets, batch: Batch, hp: Any) -> Loss:
        """Compute the flow matching loss of the steps that are in the episode."""
        weight = None
        if chunk_of(hp) > 1:
            weight = torch.repeat_interleave(batch.inside, batch.action.shape[-1] // chunk_of(hp), -1)
        return flow_matching(nets.flow, batch.obs, batch.action, batch.start, batch.time, weight), {}
