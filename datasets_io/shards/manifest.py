"""The manifest of a data set (manifest.json): its description, spaces, statistics and list of files."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np

from datasets_io.episode import Array
from datasets_io.errors import BadValues, Corrupt
from datasets_io.faults import Fault

SCHEMA_VERSION = 2
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class Generation:
    """One addition to a data set; its episodes and files follow those of the earlier generations.

    Args:
        created: ISO time, UTC.
        source: kind, path (or url), sha256 (of the data that were read), options.
        rows: Number of transitions.
        episodes: Number of episodes.
        terminated: Number of episodes ended by the task.
        truncated: Number of episodes that were cut off.
        files: Number of shards.
        scene_files: Number of files of scenes.
        moments: {column: `Moments` as plain values}; moments can be added exactly, rounded statistics cannot.
        faults: Faults that were found and accepted.
    """

    created: str
    source: dict[str, Any]
    rows: int
    episodes: int
    terminated: int
    truncated: int
    files: int
    scene_files: int
    moments: dict[str, dict[str, Any]]
    faults: list[Fault]


@dataclass(frozen=True)
class Manifest:
    """Description of a data set in plain JSON values.

    Args:
        name: Name of the data set and of its folder.
        description: One line.
        licence: Licence of the data.
        source: kind, path (or url), sha256 (of the data that were read), options.
        created: ISO time, UTC.
        observation_space: A Box or Discrete as plain values, see `space_to_json`.
        action_space: A Box or Discrete as plain values.
        env_id: Gymnasium id, or None if the environment is unknown.
        env_options: Options for `environments.make`.
        rows: Number of transitions.
        episodes: Number of episodes.
        terminated: Number of episodes ended by the task.
        truncated: Number of episodes that were cut off.
        columns: (name, dtype, shape of a row) of each stored column.
        statistics: {column: {mean, std, min, max}} over all rows, per dimension.
        returns: Undiscounted return of each episode, in the order of the files.
        lengths: Number of steps of each episode.
        files: {name, rows, bytes, sha256} of each shard, in order.
        content_hash: SHA-256 over the hashes of the files.
        discount: Discount of the stored column `ret`; None if it is not stored.
        faults: Faults that were found and accepted.
        nested_observation_space: The space whose flat form is `observation_space`, or None.
        scene_files: {name, rows, bytes, sha256} of each file of scenes.
        generations: The additions, oldest first; the first one is the original data set.
        schema_version: Version of this layout.
    """

    name: str
    description: str
    licence: str
    source: dict[str, Any]
    created: str
    observation_space: dict[str, Any]
    action_space: dict[str, Any]
    env_id: str | None
    rows: int
    episodes: int
    terminated: int
    truncated: int
    columns: list[tuple[str, str, list[int]]]
    statistics: dict[str, dict[str, Any]]
    returns: list[float]
    lengths: list[int]
    files: list[dict[str, Any]]
    content_hash: str
    discount: float | None = None
    faults: list[Fault] = field(default_factory=list)
    env_options: dict[str, Any] = field(default_factory=dict)
    nested_observation_space: dict[str, Any] | None = None
    scene_files: list[dict[str, Any]] = field(default_factory=list)
    generations: list[Generation] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    @property
    def rows_per_file(self) -> list[int]:
        """Return the number of rows of each shard, in order."""
        return [int(file["rows"]) for file in self.files]

    def episodes_of(self, number: int) -> slice:
        """Return the range of the episodes in shard `number`; no episode spans two shards."""
        ends = np.cumsum(self.lengths)
        bounds = np.cumsum([0, *self.rows_per_file])[number : number + 2]
        first, stop = np.searchsorted(ends, bounds, side="right")
        return slice(int(first), int(stop))

    def to_json(self) -> str:
        """Return the manifest as JSON text."""
        return json.dumps(asdict(self), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse the text that `to_json` returns.

        Raises:
            Corrupt: The text is not JSON, or not a manifest of this version.
        """
        try:
            plain = json.loads(text)
            version = plain["schema_version"]
            if version != SCHEMA_VERSION:
                raise Corrupt(
                    f"the manifest has schema version {version}.",
                    f"This version of off2on reads schema version {SCHEMA_VERSION}.",
                    f"off2on data add {plain['name']} --overwrite",
                )
            plain["columns"] = [(name, dtype, shape) for name, dtype, shape in plain["columns"]]
            plain["faults"] = [Fault(**fault) for fault in plain["faults"]]
            for part in plain["generations"]:
                part["faults"] = [Fault(**fault) for fault in part["faults"]]
            plain["generations"] = [Generation(**part) for part in plain["generations"]]
            known = {item.name for item in fields(cls)}
            manifest = cls(**{name: value for name, value in plain.items() if name in known})
            for file in (*manifest.files, *manifest.scene_files):
                if Path(file["name"]).name != file["name"]:
                    raise Corrupt("the manifest names a file outside its own folder.")
            return manifest
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"the manifest cannot be read: {error!r}.") from None


def content_hash(files: Iterable[Mapping[str, Any]]) -> str:
    """Return the SHA-256 over the hashes of shards."""
    return hashlib.sha256("".join(file["sha256"] for file in files).encode()).hexdigest()


def space_to_json(space: Any) -> dict[str, Any]:
    """Convert a Gymnasium Box or Discrete to plain values; a bound equal in all dimensions is one number.

    Raises:
        BadValues: The space is of another kind.
    """
    from gymnasium.spaces import Box, Discrete

    if isinstance(space, Discrete) and space.start == 0:
        return {"type": "Discrete", "n": int(space.n)}
    if isinstance(space, Box):
        return {
            "type": "Box",
            "shape": list(space.shape),
            "low": _bound(space.low),
            "high": _bound(space.high),
        }
    raise BadValues(f"{space} cannot be stored.", "Spaces are Box (vectors) or Discrete starting at 0.")


def space_from_json(plain: dict[str, Any]) -> Any:
    """Create the space from the values of `space_to_json`; a Box has dtype float32, like the columns."""
    from gymnasium.spaces import Box, Discrete

    if plain["type"] == "Discrete":
        return Discrete(plain["n"])
    low, high = (np.asarray(plain[side], np.float64).astype(np.float32) for side in ("low", "high"))
    shape = tuple(plain["shape"])
    return Box(np.broadcast_to(low, shape).copy(), np.broadcast_to(high, shape).copy(), shape, np.float32)


def _bound(values: Array) -> Any:
    # JSON has no infinity; float() parses the text "inf". A float64 bound beyond the range of float32 (as in
    # some Gymnasium boxes) becomes infinite, which is its meaning.
    with np.errstate(over="ignore"):
        values = np.asarray(values, np.float64).astype(np.float32).astype(np.float64)
    flat = [float(x) if np.isfinite(x) else str(float(x)) for x in values.flat]
    if len(set(flat)) == 1:
        return flat[0]
    return _nest(flat, list(values.shape))


def _nest(flat: list[Any], shape: list[int]) -> list[Any]:
    if len(shape) <= 1:
        return flat
    step = len(flat) // shape[0]
    return [_nest(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]
