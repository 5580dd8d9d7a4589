"""Read data sets of Minari, in its HDF5, Arrow and Parquet formats, with or without an environment."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets_io import storage
from datasets_io.environments import OBSERVE
from datasets_io.episode import Array, Episode
from datasets_io.errors import BadValues, Corrupt, MissingColumn, UnknownName, UserError
from datasets_io.flatten import flat_space, flatten_rows, nested_from_json
from datasets_io.scores import horizon
from datasets_io.source import Source
from datasets_io.sources.minari_server import METADATA, minari

OFF2ON_KEY = "off2on"
"""Key in the metadata of an exported data set, with `env`, `env_options`, `columns` (infos that were columns)
and `nested`, the observation space in its own order, which Minari replaces by alphabetical order."""
_KNOWN_PACKAGES = ("gymnasium", "gymnasium_robotics")
"""Packages with environments that need no module before their id."""


class EpisodeRange(NamedTuple):
    """Range of episodes of a data set, from start to stop (exclusive)."""

    folder: str
    start: int
    stop: int


class Minari(Source):
    """A data set of Minari.

    The environment is the one given for evaluation, else the one of the recording; it is not created here.
    An episode is divided after a step that is marked as an end.

    Args:
        name: Minari's id, "mujoco/hopper/medium-v0".
        env: Environment to use instead of that of the data set.
        infos: Infos to keep as columns, "success,qpos"; a slash separates the keys of nested dictionaries.
    """

    def __init__(self, name: str, env: str | None = None, infos: str = "") -> None:
        self.name, self.env, self.infos = name, env, infos
        self._description = ""

    @property
    def description(self) -> str:
        """Description by the authors of the data set, else a default."""
        return self._description or f"{self.name}, a data set of Minari."

    def parts(self, path: Any) -> list[EpisodeRange]:
        """Return ranges of episodes of about `rows_per_shard` rows (exact if all have the same length).

        Raises:
            UnknownName: The path holds no data set.
            Corrupt: The installed Minari cannot read the data set.
            BadValues: A space cannot be flattened to vectors.
        """
        folder = data_folder(path)
        data = _open(folder)
        metadata = data.storage.metadata
        self._description = str(metadata.get("description") or "").strip().partition("\n")[0]
        self._spaces(data)
        if self.env is None:
            self._environment(metadata)
        count, rows = data.total_episodes, data.total_steps
        if not count or not rows:
            raise BadValues(f"{self.name} is empty.", f"{count} episodes, {rows} steps in {folder}.")
        size = max(1, round(self.rows_per_shard * count / rows))
        return [EpisodeRange(str(folder), first, min(first + size, count)) for first in range(0, count, size)]

    def episodes(self, part: Any) -> Iterator[Episode]:
        """Yield the episodes of a part."""
        folder, start, stop = Path(part[0]), part[1], part[2]
        data = _open(folder)
        space = _observation_space(data)
        names = [
            *filter(None, self.infos.split(",")),
            *data.storage.metadata.get(OFF2ON_KEY, {}).get("columns", ()),
        ]
        _check_no_objects(folder, range(start, stop))
        with _convert_errors(folder):
            lengths = [
                about["total_steps"] for about in data.storage.get_episode_metadata(range(start, stop))
            ]
            read = data.iterate_episodes(range(start, stop))
            for number, (steps, episode) in enumerate(zip(lengths, read, strict=True), start):
                if len(episode.rewards) != steps:
                    raise Corrupt(
                        f"episode {number} in {folder} has {len(episode.rewards):,} steps.",
                        f"Expected: {steps:,}, as in its metadata.",
                    )
                yield from self._pieces(str(number), episode, space, names)

    def _pieces(self, name: str, episode: Any, space: Any, names: Iterable[str]) -> Iterator[Episode]:
        """Yield the episodes of one recording, which may continue after an end."""
        steps = len(episode.rewards)
        terminations, truncations = (
            np.asarray(flags).reshape(-1).astype(bool)
            for flags in (episode.terminations, episode.truncations)
        )
        obs = flatten_rows(space, episode.observations) if _is_nested(space) else episode.observations
        extras = {name: _info(episode.infos or {}, name, steps) for name in names}
        ends = np.flatnonzero(terminations | truncations) + 1
        if not len(ends) or ends[-1] != steps:
            self.note("open_end", "", "episodes stop without an end: they count as cut off", count=1)
            ends = np.append(ends, steps)
        if len(ends) > 1:
            self.note("inner_end", "", "episodes go on behind an end: they were divided there", count=1)
        for index, (first, stop) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            terminated = bool(terminations[stop - 1])
            yield Episode(
                np.asarray(obs)[first : stop + 1],
                np.asarray(episode.actions)[first:stop],
                episode.rewards[first:stop],
                terminated=terminated,
                truncated=bool(truncations[stop - 1]) or not terminated,
                id=name if len(ends) == 1 else f"{name}.{index}",
                extras={column: values[first:stop] for column, values in extras.items()},
            )

    def _spaces(self, data: Any) -> None:
        from gymnasium.spaces import Box, Discrete

        obs, self.action_space = _observation_space(data), data.action_space
        if not isinstance(self.action_space, Box | Discrete):
            raise BadValues(f"the action space is {self.action_space}.", "Expected: Box or Discrete.")
        if _is_nested(obs):
            self.observation_space, self.nested_observation_space = flat_space(obs), obs
            # The space of the environment may have another order than the space that Minari stored.
            self.env_options = {OBSERVE: list(_leaves(obs))}
        elif isinstance(obs, Box):
            self.observation_space = obs
        else:  # numbers without one-hot encoding, as the environment returns them
            flat_space(obs)
            self.observation_space = Box(-np.inf, np.inf, obs.shape or (1,))

    def _environment(self, metadata: Mapping[str, Any]) -> None:
        """Set id and options of the environment: that for evaluation, else that of the recording."""
        if metadata.get(OFF2ON_KEY):
            self.env, self.env_options = metadata[OFF2ON_KEY]["env"], metadata[OFF2ON_KEY]["env_options"]
            return
        recorded, meant = (_environment(metadata.get(key)) for key in ("env_spec", "eval_env_spec"))
        chosen = meant or recorded
        if chosen is None:
            return
        self.env, self.env_options = chosen.id, {**chosen.options, **self.env_options}
        if recorded is not None and recorded != chosen:
            origin = f"{_describe(recorded)} recorded these data"
            self.note("env", "", f"{origin}; {_describe(chosen)} is meant for evaluation and taken")
        if chosen.wrappers:
            self.note("env", "", f"{chosen.id} had wrappers that are not put on: {' '.join(chosen.wrappers)}")


class _Environment(NamedTuple):
    id: str
    options: dict[str, Any]
    wrappers: list[str]


def _environment(text: str | None) -> _Environment | None:
    """Parse a serialised EnvSpec into id and options, without making it or importing its package."""
    if not text:
        return None
    spec = json.loads(text)
    name, entry = spec["id"], str(spec.get("entry_point") or "")
    module = entry.partition(":")[0]
    if module and module.partition(".")[0] not in _KNOWN_PACKAGES:
        name = f"{module}:{name}"  # its import, or its package's, registers the environment
    options = {key: value for key, value in (spec.get("kwargs") or {}).items() if key != "render_mode"}
    limit = spec.get("max_episode_steps")
    if limit != horizon(name):
        options["max_episode_steps"] = -1 if limit is None else limit
    return _Environment(name, options, [wrapper["name"] for wrapper in spec.get("additional_wrappers") or ()])


def _describe(environment: _Environment) -> str:
    options = ", ".join(f"{name}={value}" for name, value in environment.options.items())
    return f"{environment.id} ({options})" if options else environment.id


def _observation_space(data: Any) -> Any:
    nested = data.storage.metadata.get(OFF2ON_KEY, {}).get("nested")
    return data.observation_space if nested is None else nested_from_json(nested)


def _leaves(space: Any, above: str = "") -> Iterator[str]:
    """Return the paths of all leaves of a nested space, in its order: "goal.xy"."""
    parts = space.items() if hasattr(space, "items") else enumerate(space)
    for key, part in parts:
        yield from _leaves(part, f"{above}{key}.") if _is_nested(part) else [f"{above}{key}"]


def _is_nested(space: Any) -> bool:
    from gymnasium.spaces import Dict, Tuple

    return isinstance(space, Dict | Tuple)


def _info(infos: Mapping[str, Any], name: str, steps: int) -> Array:
    """Return one of the infos [T, …], without the value of the reset if it was recorded."""
    values: Any = infos
    for key in [name] if name in infos else name.split("/"):
        if not isinstance(values, Mapping) or key not in values:
            there = " ".join(map(str, values)) if isinstance(values, Mapping) else ""
            raise MissingColumn(f"there is no info {name!r}.", f"There are: {there or 'none'}")
        values = values[key]
    array = np.asarray(values)
    if len(array) not in (steps, steps + 1):
        raise BadValues(f"info {name!r} has {len(array)} values.", f"{steps} or {steps + 1} were expected.")
    return array[len(array) - steps :]


def data_folder(path: Any) -> Path:
    """Return the folder `data` of the data set at a path.

    Raises:
        UnknownName: The path holds no data set.
        UserError: The path is in a bucket.
    """
    place = storage.locate(path)
    if not isinstance(place, Path):
        raise UserError(f"{place} is in a bucket.", "Minari reads local folders only: copy it first.")
    for folder in (place / "data", place):
        if (folder / METADATA).is_file():
            return folder.absolute()
    raise UnknownName(
        f"there is no data set of Minari in {place}.", f"Looked for {place / 'data' / METADATA}."
    )


def _open(folder: Path) -> Any:
    """Open the data set for reading."""
    package = minari()
    with _convert_errors(folder):
        return package.MinariDataset(folder)


def _check_no_objects(folder: Path, episodes: Iterable[int]) -> None:
    """Check that no column of these episodes holds Python objects; HDF5 files cannot hold any.

    Raises:
        Corrupt: A column holds objects.
    """
    import pyarrow as pa

    from datasets_io.storage.parquet import check_no_objects, open_parquet

    for path in (path for number in episodes for path in (folder / str(number)).glob("*.*")):
        if path.suffix == ".parquet":
            open_parquet(path, path).close()
        elif path.suffix == ".arrow":
            with _convert_errors(folder), pa.ipc.open_file(path) as file:
                schema = file.schema
            check_no_objects(schema, path)


@contextmanager
def _convert_errors(folder: Path) -> Iterator[None]:
    """Convert Minari's exceptions about invalid files to `Corrupt`."""
    import gymnasium

    try:
        yield
    except gymnasium.error.Error as error:  # old data sets without stored spaces
        raise Corrupt(
            f"{folder} stores no spaces, and its environment cannot be created.", f"{error}".strip()
        ) from None
    except (OSError, KeyError, ValueError, TypeError, AssertionError, IndexError, RuntimeError) as error:
        raise Corrupt(f"{folder} cannot be read by Minari.", f"{type(error).__name__}: {error}") from None
