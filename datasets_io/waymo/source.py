"""Read shards of the Waymo Open Motion Dataset as episodes of driving."""

import hashlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets_io import storage
from datasets_io.driving.dynamics import find_controller, limits
from datasets_io.driving.episodes import episodes as driven
from datasets_io.driving.observation import View, columns
from datasets_io.driving.scene import Scene
from datasets_io.driving.situation import VEHICLE_CHOICES
from datasets_io.episode import Episode
from datasets_io.errors import BadValues, Corrupt, DataError, UnknownName
from datasets_io.source import Source, hash_path
from datasets_io.storage.tfrecord import read_records
from datasets_io.waymo.records import decode

SHARD = re.compile(r"\.tfrecords?(-\d+-of-\d+)?$")
"""Ending of the name of a shard; a download in progress has a further suffix."""
_ENV_OPTIONS = ("vehicles", "controller", "nearest", "end_on_collision")
# If the first records of a file are all invalid, the file has another format; single ones are damage.
_MAX_FOREIGN = 3


class Waymo(Source):
    """Cars of the Waymo Open Motion Dataset: what their drivers saw and did, at 10 Hz.

    TFRecord files of `Scenario` or tf.Example records are read record by record: one file, those of a folder,
    or those of one folder that match a pattern such as `training/*-of-01000`; on this machine or in a bucket.
    Observations, actions and rewards are defined in `datasets_io.driving`.

    Args:
        vehicles: Vehicles to drive: `ego`, the recording car; `moving` or `all` vehicles.
        controller: `bicycle` (acceleration, curvature) or `delta` (displacement and turn in a step).
        nearest: Number of objects in an observation.
        end_on_collision: End an episode at the first overlap with the box of another object.
        strict: Refuse data with an unreadable record; otherwise such records are skipped and listed.
        keep_scenes: Store the scenes with the episodes, for the simulator.

    Raises:
        BadValues: An option has an invalid value.
        UnknownName: The controller does not exist.
    """

    licence = "the Waymo Open Dataset's own terms (waymo.com/open/terms): do not redistribute"
    row_options = ("vehicles",)

    def __init__(
        self,
        vehicles: str = "ego",
        controller: str = "bicycle",
        nearest: int = 8,
        end_on_collision: bool = False,
        strict: bool = False,
        keep_scenes: bool = True,
    ) -> None:
        from gymnasium.spaces import Box

        if vehicles not in VEHICLE_CHOICES:
            raise BadValues(f"vehicles is {vehicles!r}.", f"Expected one of: {' '.join(VEHICLE_CHOICES)}")
        if nearest < 0:
            raise BadValues(f"nearest is {nearest}.", "Expected: a number of objects, at least 0.")
        model = find_controller(controller)
        self.vehicles, self.controller, self.nearest = vehicles, controller, nearest
        self.end_on_collision, self.strict, self.keep_scenes = end_on_collision, strict, keep_scenes
        self.env = "off2on/WaymoReplay-v0" if keep_scenes else None
        self.env_options = {name: value for name, value in vars(self).items() if name in _ENV_OPTIONS}
        width = len(columns(model, View(nearest=nearest)))
        self.observation_space = Box(-np.inf, np.inf, (width,), np.float32)
        self.action_space = Box(-limits(model), limits(model), dtype=np.float32)

    def parts(self, path: Any) -> list[str]:
        """Return the shards, sorted by name.

        Raises:
            UnknownName: No shard was found.
            BadValues: They are of several folders.
        """
        return [file for file, _, _ in _shards(path)]

    def fingerprint(self, path: Any) -> str:
        """Hash names, sizes and times of the shards; hashing the content would take as long as the ingest."""
        return hashlib.sha256(repr(_shards(path)).encode()).hexdigest()

    @property
    def code_hash(self) -> str:
        """Hash of all code that converts records to episodes."""
        here = Path(__file__).parent
        files = sorted(file for folder in (here, here.parent / "driving") for file in folder.glob("*.py"))
        files += [here.parent / "storage" / f"{name}.py" for name in ("messages", "tf_example", "tfrecord")]
        hashes = [super().code_hash, *map(hash_path, files)]
        return hashlib.sha256("".join(hashes).encode()).hexdigest()

    def episodes(self, part: str) -> Iterator[Episode]:
        """Read a shard record by record.

        Raises:
            BadValues: The shard is from a test split.
            Corrupt: The first records have another format; or, if `strict`, a record cannot be used.
        """
        used, unused = set[str](), 0
        for offset, data in read_records(part, None if self.strict else partial(self.quarantine, part)):
            try:
                scene = decode(data)
                if scene.id in used:
                    raise Corrupt(f"scene {scene.id} was read before from this file.")
                episodes = self._scene_episodes(scene) if _has_future(scene) else None
            except DataError as error:
                if self.strict:
                    raise Corrupt(
                        f"{part}: the record at byte {offset:,} cannot be used.", error.what
                    ) from None
                self.quarantine(part, offset, error.what)
                unused += 1
                if not used and unused == _MAX_FOREIGN:
                    raise _foreign_format(part, error) from None
                continue
            if episodes is None:
                raise _test_split_error(part, scene)
            used.add(scene.id)
            yield from episodes

    def _scene_episodes(self, scene: Scene) -> list[Episode]:
        episodes = driven(
            scene,
            vehicles=self.vehicles,
            controller=self.controller,
            nearest=self.nearest,
            end_on_collision=self.end_on_collision,
        )
        return [episode if self.keep_scenes else replace(episode, scene=None) for episode in episodes]


def _has_future(scene: Scene) -> bool:
    return bool(scene.valid[:, scene.current + 1 :].any())


def _test_split_error(part: str, scene: Scene) -> BadValues:
    return BadValues(
        f"{part} is from a test split: scene {scene.id} ends with its warm-up, step {scene.current}.",
        "The splits testing and testing_interactive contain no future steps.\n"
        "Use training, training_20s, validation or validation_interactive.",
    )


def _foreign_format(part: str, error: DataError) -> Corrupt:
    return Corrupt(
        f"{part} is not from the Waymo Open Motion Dataset: its first {_MAX_FOREIGN} records are invalid.",
        f"Last error: {error.what}\n"
        "Expected: its Scenario or tf.Example files, not those of the Perception or End-to-End data sets.",
    )


def _shards(path: str | storage.Place) -> list[tuple[str, int, int]]:
    """Return name, size in bytes and modification time of each shard, sorted by name."""
    root, pattern = storage.split_pattern(path)
    listed = storage.versions(root)
    if pattern:
        matching = [file for file in listed if fnmatch(file[0], pattern)]
        listed = _named_shards(matching) or [file for file in matching if ".tfrecord" not in file[0]]
    elif [name for name, _, _ in listed] != [""]:  # not one file
        listed = _named_shards(listed)
    folders = sorted({name.rpartition("/")[0].lstrip("/") or "." for name, _, _ in listed})
    if len(folders) > 1:
        below = next(folder for folder in folders if folder != ".")
        raise BadValues(
            f"{path} holds the files of {len(folders)} folders: {', '.join(folders)}.",
            "Expected: those of one split in one format. Move other folders away, or give a pattern.",
            f"off2on data add waymo {shlex.quote(f'{root}/{below}')}",
        )
    found = [(f"{root}{name}", size, changed) for name, size, changed in listed]
    if not found:
        raise UnknownName(
            f"{path} holds no TFRecord file.", "Expected names such as training.tfrecord-00000-of-01000."
        )
    return found


def _named_shards(listed: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    return [file for file in listed if SHARD.search(file[0])]
