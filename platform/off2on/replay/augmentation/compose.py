"""Combine the augmentations of a run: weights of episodes, and changes of batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets_io import Shards
from off2on.replay.augmentation.base import AugmentationContext, BatchAugmentation, Episodes, EpisodeWeighting
from off2on.replay.augmentation.catalogue import find_augmentation
from off2on.replay.transforms import Array, Transforms


def episode_weights(words: Sequence[str], shards: Shards) -> Array | None:
    """Compute the weight of the rows of each episode [episodes], 1 on average over the rows that are kept.

    Returns:
        None if no augmentation weights episodes.
    """
    found = [find_augmentation(word) for word in words]
    weightings = [kind(value) for kind, value in found if issubclass(kind, EpisodeWeighting)]
    if not weightings:
        return None
    left = Episodes(shards)
    weights: Array = np.ones(shards.episodes)
    for weighting in weightings:
        given = weighting.weights(left)
        product = weights[left.numbers] * given
        weights = np.zeros_like(weights)
        weights[left.numbers] = product
        left = left.subset(given > 0)
    lengths = np.asarray(shards.manifest.lengths)
    weights *= lengths[weights > 0].sum() / (weights * lengths).sum()
    return weights


def batch_augmentations(
    words: Sequence[str],
    shards: Shards,
    transforms: Transforms,
    *,
    members: int,
    seed: int,
    device: torch.device,
) -> list[BatchAugmentation]:
    """Build the augmentations that change batches, in their order.

    Args:
        words: The hyperparameter ``augment``.
        shards: The data, whose statistics scale the augmentations of observations.
        transforms: From raw to transformed units.
        members: Number of critics.
        seed: Seed of the run and the learner.
        device: Device of the batches.
    """

    def vector(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float64).flatten()

    statistics, scale = shards.manifest.statistics["obs"], vector(transforms.obs_std)
    mean = (vector(statistics["mean"]) - vector(transforms.obs_mean)) / scale
    std = vector(statistics["std"]) / scale
    context = AugmentationContext(mean.float().to(device), std.float().to(device), members, seed)
    found = [find_augmentation(word) for word in words]
    return [kind(value, context) for kind, value in found if issubclass(kind, BatchAugmentation)]
