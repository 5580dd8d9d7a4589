"""Base classes of augmentations, which weight episodes or change batches."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from datasets_io import Shards
from off2on.recipe.batch import Batch
from off2on.recipe.hyperparameters import Rule
from off2on.replay.transforms import Array
from off2on.replay.windows import EpisodeChange


class Episodes:
    """The episodes of a data set, or those that earlier augmentations did not drop.

    Args:
        shards: The data.
        numbers: Numbers of the episodes, in the order of the data; None: all.
    """

    def __init__(self, shards: Shards, numbers: Array | None = None) -> None:
        self.shards = shards
        self.numbers = np.arange(shards.episodes) if numbers is None else numbers

    def subset(self, kept: Array) -> Self:
        """Return the episodes where a mask [episodes] is true."""
        return type(self)(self.shards, self.numbers[kept])

    @property
    def returns(self) -> Array:
        """Undiscounted returns in raw units: [episodes], float64."""
        return self.shards.returns[self.numbers]

    @property
    def lengths(self) -> Array:
        """Numbers of steps: [episodes]."""
        return np.asarray(self.shards.manifest.lengths)[self.numbers]

    def first_obs(self) -> Array:
        """Return the first observations in raw units: [episodes, D], float64.

        This reads all observations of the data, piece by piece: the manifest does not contain the first ones.
        """
        lengths = self.shards.manifest.lengths
        starts = np.cumsum(lengths) - lengths
        first = []
        for piece in self.shards.pieces:
            inside = starts[piece.episodes] - piece.rows.start
            first.append(self.shards.read(piece, ["obs"])["obs"][inside])
        return np.concatenate(first).astype(np.float64)[self.numbers]


@dataclass(frozen=True)
class AugmentationContext:
    """Facts about the data and the run for a `BatchAugmentation`.

    Attributes:
        obs_mean: [D] mean of the data's observations, in transformed units.
        obs_std: [D] standard deviation of the data's observations, in transformed units.
        members: Number of critics in the ensemble.
        seed: Seed of random values that stay fixed for the whole run.
    """

    obs_mean: Tensor
    obs_std: Tensor
    members: int = 1
    seed: int = 0


class Augmentation:
    """An entry NAME:NUMBER of ``augment``.

    Subclass `EpisodeWeighting`, `EpisodeAugmentation` or `BatchAugmentation`.

    Args:
        value: NUMBER of the entry.
    """

    number: ClassVar[Rule] = Rule("not used")
    """Meaning and range of NUMBER."""
    default: ClassVar[float] = 0.0
    """NUMBER of an entry that gives only NAME."""
    whole: ClassVar[bool] = False
    """True if NUMBER must be a whole number."""
    columns: ClassVar[tuple[str, ...]] = ()
    """Columns of a batch that it needs; an algorithm that does not read them cannot use it."""
    objectives: ClassVar[tuple[str, ...]] = ()
    """Names of the objectives (losses) that it needs."""

    def __init__(self, value: float) -> None:
        self.value = value


class EpisodeWeighting(Augmentation):
    """Weights the offline rows of each episode."""

    def weights(self, episodes: Episodes) -> Array:
        """Return the weight of the rows of each episode: [episodes], at least 0; 0 drops the rows.

        Weights of several augmentations are multiplied. Each gets only the episodes with positive weight so
        far.
        """
        raise NotImplementedError


class EpisodeAugmentation(Augmentation, EpisodeChange):
    """Changes the rows of whole episodes once, before they are stored; offline and online rows alike."""

    @property
    def has_effect(self) -> bool:
        """False if this NUMBER changes nothing; the rows are then those of a run without the entry."""
        return True


class BatchAugmentation(Augmentation):
    """Changes the batch of every update, offline and online rows alike.

    Args:
        value: NUMBER of the entry.
        context: Facts about the data and the run.
    """

    single_steps: ClassVar[bool] = False
    """True if ``next_obs`` must be the observation one step later."""

    def __init__(self, value: float, context: AugmentationContext) -> None:
        super().__init__(value)
        self.context = context

    def augment(self, batch: Batch, position: Tensor, generator: torch.Generator) -> Batch:
        """Return the augmented batch.

        Columns may be views of the buffer: replace them, and do not write into them.

        Args:
            batch: [B, …].
            position: [n] positions in the buffer of the first n rows; the other rows are model rollouts.
            generator: The only source of random numbers, on the batch's device.
        """
        raise NotImplementedError
