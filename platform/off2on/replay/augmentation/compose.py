"""Combine the augmentations of a run: weights of episodes, changes of episodes and changes of batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets_io import Shards
from off2on.recipe.chunks import chunk_of
from off2on.recipe.histories import context_of
from off2on.replay.augmentation.base import (
    AugmentationContext,
    BatchAugmentation,
    EpisodeAugmentation,
    Episodes,
    EpisodeWeighting,
)
from off2on.replay.augmentation.catalogue import parse_entry
from off2on.replay.buffer import Layout
from off2on.replay.offline_rows import layout_of
from off2on.replay.transforms import Array, Transforms
from off2on.replay.windows import Chunks, EpisodeChange, Histories


def episode_weights(entries: Sequence[str], shards: Shards) -> Array | None:
    """Compute the weight of the rows of each episode [episodes], 1 on average over the rows that are kept.

    Returns:
        None if no augmentation weights episodes.
    """
    found = [parse_entry(entry) for entry in entries]
    weightings = [kind(value) for kind, value in found if issubclass(kind, EpisodeWeighting)]
    if not weightings:
        return None
    left = Episodes(shards)
    weights: Array = np.ones(shards.episodes)
    for weighting in weightings:
        factor = weighting.weights(left)
        product = weights[left.numbers] * factor
        weights = np.zeros_like(weights)
        weights[left.numbers] = product
        left = left.subset(factor > 0)
    lengths = np.asarray(shards.manifest.lengths)
    weights *= lengths[weights > 0].sum() / (weights * lengths).sum()
    return weights


def episode_changes(hp: Any) -> list[EpisodeChange]:
    """Return the changes of whole episodes that an algorithm's hyperparameters ask for, in their order."""
    chunk, context = chunk_of(hp), context_of(hp)
    windows: list[EpisodeChange] = [Chunks(chunk)] if chunk > 1 else []
    windows += [Histories(context)] if context else []
    return [*windows, *episode_augmentations(hp.augment)]


def layout_for(shards: Shards, recipe: Any, hp: Any) -> Layout:
    """Return the layout of the rows that an algorithm learns from."""
    return layout_of(shards, recipe.columns, recipe.relabelled_columns, episode_changes(hp))


def episode_augmentations(entries: Sequence[str]) -> list[EpisodeAugmentation]:
    """Build the augmentations that change whole episodes, in the order of the entries.

    Those whose number has no effect are left out.
    """
    found = [parse_entry(entry) for entry in entries]
    built = [kind(value) for kind, value in found if issubclass(kind, EpisodeAugmentation)]
    return [one for one in built if one.has_effect]


def batch_augmentations(
    entries: Sequence[str],
    shards: Shards,
    transforms: Transforms,
    *,
    members: int,
    seed: int,
    device: torch.device,
) -> list[BatchAugmentation]:
    """Build the augmentations that change batches, in the order of the entries.

    Args:
        entries: The hyperparameter ``augment``.
        shards: The data, whose statistics scale the augmentations of observations.
        transforms: From raw to transformed units.
        members: Number of critics in the ensemble.
        seed: Seed made from the run's seed and the learner's rank.
        device: Device of the batches.
    """

    def vector(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float64).flatten()

    statistics, scale = shards.manifest.statistics["obs"], vector(transforms.obs_std)
    mean = (vector(statistics["mean"]) - vector(transforms.obs_mean)) / scale
    std = vector(statistics["std"]) / scale
    context = AugmentationContext(mean.float().to(device), std.float().to(device), members, seed)
    found = [parse_entry(entry) for entry in entries]
    return [kind(value, context) for kind, value in found if issubclass(kind, BatchAugmentation)]
