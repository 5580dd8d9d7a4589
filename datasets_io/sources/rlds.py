"""Read data sets in the form of RLDS: TFRecords of TensorFlow Datasets with one episode a record.

https://github.com/google-research/rlds. A step is what was observed, the action that followed, and the reward
of that action; in the last step of an episode only the observation counts. TensorFlow is not needed.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from datasets_io import storage
from datasets_io.environments import OBSERVE
from datasets_io.episode import Array, Episode
from datasets_io.errors import BadValues, Corrupt, MissingColumn, UnknownName, UserError
from datasets_io.flatten import flat_space
from datasets_io.source import Source
from datasets_io.sources.column_checks import HELD_BYTES, to_flags
from datasets_io.sources.rlds_features import (
    FEATURES,
    INFO,
    STEPS,
    Leaf,
    Split,
    StepFeatures,
    read_features,
    read_info,
)
from datasets_io.sources.splits import choose_split
from datasets_io.storage.tf_example import Features
from datasets_io.storage.tfrecord import read_records

OBSERVATION, ACTION, REWARD = "observation", "action", "reward"
IS_LAST, IS_TERMINAL = "is_last", "is_terminal"
DROP, KEEP = "drop", "keep"
RECORD_BYTES = HELD_BYTES
"""Bytes of an episode with its images, at most."""
VERSION = re.compile(r"\d+\.\d+\.\d+")
"""Name of a folder of TensorFlow Datasets, below that with the data set's name."""
_SHARD = re.compile(r"-(\w+)\.tfrecord-(\d+)-of-(\d+)$")


class RLDSPart(NamedTuple):
    """A file, the number of its records, and the features that are read of them."""

    file: str
    records: int
    obs: dict[str, Leaf]
    actions: dict[str, Leaf]
    has_rewards: bool


class RLDS(Source):
    """A data set in the form of RLDS.

    Observations are all numbers below ``observation``, side by side; images and text are not read. Episodes
    are terminated by ``is_terminal`` and otherwise cut off. The action and the reward of a step that
    ``is_last`` mean nothing by RLDS's definition, and are left out.

    Args:
        split: Split to read; None: ``train``, or the only one.
        obs: Names below ``observation`` to read, side by side in this order: ``state.joints,pose``.
        last_step: ``keep`` takes the action and the reward of the last step for valid, as data sets that
            reward success there mean it; the observation after it is unknown. Otherwise ``drop``.
        env: Gymnasium id of the environment, if there is one.
        licence: Licence of the data.
    """

    row_options = ("split",)

    def __init__(
        self,
        split: str | None = None,
        obs: str | None = None,
        last_step: str = DROP,
        env: str | None = None,
        licence: str = "unknown",
    ) -> None:
        if last_step not in (DROP, KEEP):
            raise UserError(f"last_step is {DROP} or {KEEP}: got {last_step!r}.")
        self.split, self.obs, self.last_step = split, obs, last_step
        self.env, self.licence = env, licence

    def parts(self, path: Any) -> list[RLDSPart]:
        """Return the files of the split, with the features that are read.

        Raises:
            Corrupt: A description is damaged, or a file is missing.
            UserError: The folder has no such split, or files of another format.
            MissingColumn: Steps have no numbers to observe, no actions, or no marks of the end.
        """
        root = find_folder(path)
        splits = {split.name: split for split in read_info(root).splits}
        split = splits[choose_split(self, self.split, splits, root)]
        features = read_features(root)
        for name in (IS_LAST, IS_TERMINAL):
            if name not in features.leaves:
                raise MissingColumn(f"{root}: steps have no {name!r}.", _listed(features))
        obs = self._observations(features, root)
        actions = _below(ACTION, features.leaves)
        if not actions:
            raise MissingColumn(f"{root}: steps have no numbers as {ACTION!r}.", _listed(features))
        self._set_spaces(obs)
        has_rewards = REWARD in features.leaves
        skipped = [name for name in features.skipped if name.partition(".")[0] in (OBSERVATION, ACTION)]
        if skipped:
            self.note("skipped", "", f"images, text and others: {', '.join(skipped[:5])}", count=len(skipped))
        if not has_rewards:
            self.note("no_rewards", "rewards", "no rewards are recorded, all are 0: only imitation can learn")
        files = _files(root, split)
        counts = (int(count) for count in split.shard_lengths)
        return [RLDSPart(file, n, obs, actions, has_rewards) for file, n in zip(files, counts, strict=True)]

    def episodes(self, part: RLDSPart) -> Iterator[Episode]:
        """Read a file record by record.

        Raises:
            Corrupt: A record is damaged, or some are missing.
            BadValues: The steps of an episode do not fit together.
        """
        count = 0
        for offset, data in read_records(part.file, limit=RECORD_BYTES):
            count += 1
            try:
                episode = self._episode(Features(data), part)
            except UserError as error:
                error.where = f"{part.file}, byte {offset:,}"
                raise
            if episode is not None:
                yield episode
        if count != part.records:
            raise Corrupt(f"{part.file} has {count:,} episodes.", f"{INFO} tells of {part.records:,}.")

    def _episode(self, features: Features, part: RLDSPart) -> Episode | None:
        """Return an episode; None if it has no step with an action that counts."""
        is_last, terminal = (
            to_flags(features.numbers(f"{STEPS}/{name}"), name) for name in (IS_LAST, IS_TERMINAL)
        )
        steps = len(is_last)
        if steps != len(terminal):
            raise BadValues(
                f"an episode has {steps:,} steps by is_last and {len(terminal):,} by is_terminal."
            )
        ends = is_last | terminal
        if ends[:-1].any():
            raise BadValues(f"an episode goes on after its end in step {int(np.argmax(ends)):,}.")
        obs, actions = (
            _side_by_side([_values(features, leaf, steps) for leaf in leaves.values()])
            for leaves in (part.obs, part.actions)
        )
        rewards = features.numbers(f"{STEPS}/{REWARD}") if part.has_rewards else np.zeros(steps, np.float32)
        if rewards.shape != (steps,):
            raise BadValues(f"an episode has {steps:,} steps and {len(rewards):,} rewards.")
        valid = steps
        if steps and ends[-1] and self.last_step == DROP:
            valid -= 1
            if rewards[-1]:
                self.note(
                    "last_reward",
                    REWARD,
                    "episodes with a reward in the last step, where RLDS has none, were read without it"
                    f" (last_step={KEEP} reads it)",
                    count=1,
                )
        if not valid:
            self.note("no_step", "", "episodes without an action that counts were left out", count=1)
            return None
        return Episode(obs, actions[:valid], rewards[:valid], terminated=bool(terminal[-1]))

    def _observations(self, features: StepFeatures, root: storage.Place) -> dict[str, Leaf]:
        there = _below(OBSERVATION, features.leaves)
        for name in wanted if (wanted := self.obs and self.obs.split(",")) else ():
            if name not in there:
                raise UnknownName(
                    f"{root}: there is no observation of numbers {name!r}.",
                    f"There are: {' '.join([*there][:50]) or 'none'}",
                    given=name,
                    known=there,
                )
        if not there:
            raise MissingColumn(f"{root}: steps have no numbers as {OBSERVATION!r}.", _listed(features))
        return {name: there[name] for name in wanted} if wanted else there

    def _set_spaces(self, obs: dict[str, Leaf]) -> None:
        """Describe observations with several parts, or of matrices, so that rows can be restored."""
        from gymnasium.spaces import Box, Dict

        if len(obs) == 1 and len(next(iter(obs.values())).shape) <= 1:
            return
        boxes = [(name, Box(-np.inf, np.inf, leaf.shape, np.float32)) for name, leaf in obs.items()]
        self.nested_observation_space = Dict(boxes)
        self.observation_space = flat_space(self.nested_observation_space)
        if self.env is not None:
            self.env_options = {OBSERVE: [*obs]}


def is_rlds(folder: storage.Place) -> bool:
    """Return True if a folder holds a data set of TensorFlow Datasets, or versions of one."""
    return storage.is_folder(folder) and bool(_folders(folder))


def find_folder(path: Any) -> storage.Place:
    """Return the folder with the descriptions: the one given, or that of the only version in it.

    Raises:
        UnknownName: There is none.
        UserError: There are several versions.
    """
    root = storage.locate(path)
    found = _folders(root)
    if not found:
        raise UnknownName(f"{root} is no data set of TensorFlow Datasets.", f"Looked for {INFO}, {FEATURES}.")
    if len(found) > 1:
        names = " ".join(folder.name for folder in found)
        raise UserError(f"{root} has several versions: {names}.", "", f"off2on data add {found[-1]}")
    return found[0]


def _folders(root: storage.Place) -> list[storage.Place]:
    versions = [folder for folder in storage.list_folders(root) if VERSION.fullmatch(folder.name)]
    return [
        folder
        for folder in (root, *versions)
        if storage.is_file(folder / FEATURES) and storage.is_file(folder / INFO)
    ]


def _files(root: storage.Place, split: Split) -> list[str]:
    """Return the files of a split in order.

    Raises:
        Corrupt: There are not as many as the description says.
    """
    found = {}
    for file in storage.list_files(root):
        if (match := _SHARD.search(file)) and match[1] == split.name:
            found[int(match[2]), int(match[3])] = file
    count = len(split.shard_lengths)
    wanted = [(number, count) for number in range(count)]
    if not wanted or not found.keys() >= {*wanted}:
        there = sum(key in found for key in wanted)
        raise Corrupt(f"{root} has {there:,} files of {split.name}.", f"{INFO} tells of {count:,}.")
    return [found[key] for key in wanted]


def _below(name: str, leaves: dict[str, Leaf]) -> dict[str, Leaf]:
    """Return the leaves of a feature by their names below it, or the feature itself."""
    if name in leaves:
        return {name: leaves[name]}
    start = f"{name}."
    return {key.removeprefix(start): leaf for key, leaf in leaves.items() if key.startswith(start)}


def _values(features: Features, leaf: Leaf, steps: int) -> Array:
    """Return the values of a leaf, [T, …].

    Raises:
        BadValues: There are others than its shape says.
    """
    values = features.numbers(leaf.key)
    if values.size != steps * int(np.prod(leaf.shape)):
        raise BadValues(
            f"{leaf.key} has {values.size:,} numbers.",
            f"Expected: {steps:,} steps of shape {list(leaf.shape)}.",
        )
    if not leaf.is_whole:
        values = values.astype(np.result_type(values, np.float32), copy=False)
    return values.reshape(steps, *leaf.shape)


def _side_by_side(parts: list[Array]) -> Array:
    """Return one number a step as it is, [T], and others as vectors [T, D]."""
    if len(parts) == 1 and parts[0].ndim == 1:
        return parts[0]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _listed(features: StepFeatures) -> str:
    return f"There are: {' '.join([*features.leaves, *features.skipped][:50]) or 'none'}"
