"""The augmentations of a run, put together: the weights of episodes, and the changes of batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets_io import Shards
from off2on.replay.augmentation.base import About, BatchAugmentation, Episodes, EpisodeWeighting
from off2on.replay.augmentation.catalogue import find_augmentation
from off2on.replay.transforms import Array, Transforms


def episode_weights(words: Sequence[str], shards: Shards) -> Array | None:
    """The weight of every row of each episode [episodes], 1 on average over the rows that are kept.

    Returns:
        None if no word weighs episodes.
    """
    found = [find_augmentation(word) for word in words]
    weighing = [kind(value) for kind, value in found if issubclass(kind, EpisodeWeighting)]
    if not weighing:
        return None
    left = Episodes(shards)
    weights: Array = np.ones(shards.episodes)
    for expansion in weighing:
        given = expansion.weights(left)
        product = weights[left.numbers] * given
        weights = np.zeros_like(weights)
        weights[left.numbers] = product
        left = left.those(given > 0)
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
    """The words that change batches, in their order.

    Args:
        words: The hyperparameter `augment`.
        shards: The data, whose statistics give observations their scale.
        transforms: Units.
        members: Number of critics.
        seed: Of the run and the learner.
        device: Where batches lie.
    """

    def vector(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float64).flatten()

    statistics, scale = shards.manifest.statistics["obs"], vector(transforms.obs_std)
    mean = (vector(statistics["mean"]) - vector(transforms.obs_mean)) / scale
    std = vector(statistics["std"]) / scale
    about = About(mean.float().to(device), std.float().to(device), members, seed)
    found = [find_augmentation(word) for word in words]
    return [kind(value, about) for kind, value in found if issubclass(kind, BatchAugmentation)]
