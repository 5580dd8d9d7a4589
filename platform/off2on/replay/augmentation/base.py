"""What an expansion may do: weigh the episodes, or change the batches."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from datasets_io import Shards
from off2on.recipe.batch import Batch
from off2on.recipe.hyperparameters import Rule
from off2on.replay.transforms import Array


class Episodes:
    """The episodes of a data set, or those that earlier words have left of them.

    Args:
        shards: The data.
        numbers: Which episodes, in the order of the data; None is all of them.
    """

    def __init__(self, shards: Shards, numbers: Array | None = None) -> None:
        self.shards = shards
        self.numbers = np.arange(shards.episodes) if numbers is None else numbers

    def those(self, kept: Array) -> Self:
        """The episodes where a mask [episodes] is true."""
        return type(self)(self.shards, self.numbers[kept])

    @property
    def returns(self) -> Array:
        """Undiscounted returns in the world's units: [episodes], float64."""
        return self.shards.returns[self.numbers]

    @property
    def lengths(self) -> Array:
        """Steps: [episodes]."""
        return np.asarray(self.shards.manifest.lengths)[self.numbers]

    def first_obs(self) -> Array:
        """The observations they begin with, in the world's units: [episodes, D], float64.

        The manifest does not hold them: this reads all the data's observations, piece by piece.
        """
        lengths = self.shards.manifest.lengths
        starts = np.cumsum(lengths) - lengths
        first = []
        for piece in self.shards.pieces:
            inside = starts[piece.episodes] - piece.rows.start
            first.append(self.shards.read(piece, ["obs"])["obs"][inside])
        return np.concatenate(first).astype(np.float64)[self.numbers]


@dataclass(frozen=True)
class About:
    """What a change of batches may need to know.

    Attributes:
        obs_mean: [D] mean of the data's observations, in the learner's units.
        obs_std: [D] their standard deviation, in the learner's units.
        members: Number of critics.
        seed: Of what must not change from update to update.
    """

    obs_mean: Tensor
    obs_std: Tensor
    members: int = 1
    seed: int = 0


class Expansion:
    """A word NAME:NUMBER of the hyperparameter `augment`.

    Subclass `EpisodeWeighting` or `BatchAugmentation`.
    """

    number: ClassVar[Rule] = Rule("not used")
    """What NUMBER means, and its range."""
    default: ClassVar[float] = 0.0
    """The number of a word that names none."""
    columns: ClassVar[tuple[str, ...]] = ()
    """The columns of a batch that it needs; an algorithm without them cannot be expanded by it."""
    objectives: ClassVar[tuple[str, ...]] = ()
    """The objectives that it needs."""

    def __init__(self, value: float) -> None:
        self.value = value


class EpisodeWeighting(Expansion):
    """Says how often the offline rows of each episode are drawn."""

    def weights(self, episodes: Episodes) -> Array:
        """The weight of every row of each episode: [episodes], at least 0; rows of weight 0 are dropped.

        Several words multiply their weights; a later one sees only the episodes that are left.
        """
        raise NotImplementedError


class BatchAugmentation(Expansion):
    """Changes the batch of every update, offline and online rows alike.

    Args:
        value: The word's number.
        about: What there is to know.
    """

    def __init__(self, value: float, about: About) -> None:
        super().__init__(value)
        self.about = about

    def batch(self, batch: Batch, position: Tensor, generator: torch.Generator) -> Batch:
        """The batch to learn from.

        Columns may be views of the rows held: replace them, do not write into them.

        Args:
            batch: [B, …].
            position: [n] the places of its first n rows among the rows held; a model made up the others.
            generator: The only source of random numbers, on the batch's device.
        """
        raise NotImplementedError
