"""The manifest of a data set (manifest.json): its description, spaces, statistics and list of files."""

import hashlib
import json
import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from pydantic import FiniteFloat

from datasets_io.episode import Array
from datasets_io.errors import BadValues, Corrupt
from datasets_io.faults import Fault
from datasets_io.shards.manifest_checks import (
    Column,
    Count,
    Lengths,
    ListedFile,
    Returns,
    SourceFacts,
    Text,
    check_manifest,
)
from datasets_io.storage import Place
from datasets_io.storage.documents import MAX_JSON_BYTES, parse_json, read_content

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

    created: Text
    source: SourceFacts
    rows: Count
    episodes: Count
    terminated: Count
    truncated: Count
    files: Count
    scene_files: Count
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

    name: Text
    description: Text
    licence: Text
    source: SourceFacts
    created: Text
    observation_space: dict[str, Any]
    action_space: dict[str, Any]
    env_id: Text | None
    rows: Count
    episodes: Count
    terminated: Count
    truncated: Count
    columns: list[Column]
    statistics: dict[str, dict[str, Any]]
    returns: Returns
    lengths: Lengths
    files: list[ListedFile]
    content_hash: Text
    discount: FiniteFloat | None = None
    faults: list[Fault] = field(default_factory=list)
    env_options: dict[str, Any] = field(default_factory=dict)
    nested_observation_space: dict[str, Any] | None = None
    scene_files: list[ListedFile] = field(default_factory=list)
    generations: list[Generation] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    @property
    def rows_per_file(self) -> list[int]:
        """Return the number of rows of each shard, in order."""
        return [int(file["rows"]) for file in self.files]

    def to_json(self) -> str:
        """Return the manifest as JSON text, in which each list of all episodes is one line.

        Raises:
            BadValues: It is longer than `read` accepts.
        """
        text = json.dumps(asdict(replace(self, returns=[], lengths=[])), indent=1, allow_nan=False)
        for name, values in (("returns", self.returns), ("lengths", self.lengths)):
            line = json.dumps(values, allow_nan=False, separators=(",", ":"))
            text = text.replace(f'\n "{name}": []', f'\n "{name}": {line}')
        if len(text) > MAX_JSON_BYTES:
            raise BadValues(
                f"{self.name} would have {self.episodes:,} episodes: a manifest of {len(text):,} bytes.",
                f"Expected at most {MAX_JSON_BYTES:,} bytes, about 12 million episodes.\n"
                "Add the data as several data sets. If most episodes have one step: is a column of their\n"
                "episodes missing (--columns episode=COLUMN)?",
            )
        return text

    @classmethod
    def read(cls, folder: Place) -> "Manifest":
        """Read the manifest of the data set in a folder; see `from_json`."""
        at = folder / MANIFEST_FILE
        return cls.from_json(read_content(at, MAX_JSON_BYTES), at)

    @classmethod
    def from_json(cls, text: str | bytes, where: object = "the manifest") -> "Manifest":
        """Parse the text that `to_json` returns, and check it.

        Args:
            text: The text.
            where: The file, for messages.

        Raises:
            Corrupt: The text is not JSON, is not a manifest of this version, or its fields disagree.
        """
        try:
            manifest = parse_json(text, Manifest, where)
        except Corrupt:
            _check_version(text, where)
            raise
        if manifest.schema_version != SCHEMA_VERSION:
            _check_version(text, where)
        try:
            check_manifest(manifest)
        except Corrupt as error:
            error.where = error.where or str(where)
            raise
        return manifest


def _check_version(text: str | bytes, where: object) -> None:
    plain = parse_json(text, dict[str, Any], where)
    version = plain.get("schema_version")
    if version != SCHEMA_VERSION:
        raise Corrupt(
            f"{where} has schema version {version!r}.",
            f"This version of off2on reads schema version {SCHEMA_VERSION}.",
            f"off2on data add {shlex.quote(str(plain.get('name', 'NAME'))[:100])} --overwrite",
        )


def content_hash(files: Iterable[ListedFile]) -> str:
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
