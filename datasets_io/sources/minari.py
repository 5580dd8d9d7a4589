"""Read data sets of Minari, in its HDF5, Arrow and Parquet formats, with or without an environment."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets_io import storage
from datasets_io.environments import OBSERVE
from datasets_io.episode import Array, Episode
from datasets_io.errors import BadValues, MissingColumn, UnknownName, UserError
from datasets_io.flatten import flat_space, flatten_rows, pick, select
from datasets_io.source import Source
from datasets_io.sources.column_checks import to_flags
from datasets_io.sources.minari_files import check_count, observation_space, read_episodes
from datasets_io.sources.minari_metadata import OFF2ON_KEY, Metadata, environment, read_metadata, spaces
from datasets_io.sources.minari_server import METADATA

__all__ = ["OFF2ON_KEY", "Minari", "data_folder"]


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
        obs: Parts of a dictionary of observations to read, side by side in this order: `joints,goal.xy`.
    """

    row_options = ()

    def __init__(self, name: str, env: str | None = None, infos: str = "", obs: str | None = None) -> None:
        self.name, self.env, self.infos, self.obs = name, env, infos, obs
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
        metadata = read_metadata(folder)
        self._description = (metadata.description or "").strip().partition("\n")[0]
        check_count(folder, metadata)
        self._set_spaces(folder, metadata)
        if self.env is None:
            self._set_environment(folder, metadata)
        count, rows = metadata.total_episodes, metadata.total_steps
        if not count or not rows:
            raise BadValues(f"{self.name} is empty.", f"{count} episodes, {rows} steps in {folder}.")
        size = max(1, round(self.rows_per_shard * count / rows))
        return [EpisodeRange(str(folder), first, min(first + size, count)) for first in range(0, count, size)]

    def episodes(self, part: Any) -> Iterator[Episode]:
        """Yield the episodes of a part."""
        folder, numbers = Path(part[0]), range(part[1], part[2])
        metadata = read_metadata(folder)
        obs, action = spaces(folder, metadata)
        obs = observation_space(folder, metadata) if obs is None else obs
        names = [*filter(None, self.infos.split(",")), *metadata.off2on.columns]
        for number, columns in read_episodes(folder, metadata, (obs, action), numbers):
            if self.obs is not None:
                columns = {**columns, "observations": pick(columns["observations"], self.obs.split(","))}
            yield from self._pieces(str(number), columns, self._observed(obs), names)

    def _pieces(
        self, name: str, columns: Mapping[str, Any], space: Any, names: Iterable[str]
    ) -> Iterator[Episode]:
        """Yield the episodes of one recording, which may continue after an end."""
        obs, actions, rewards = (columns[key] for key in ("observations", "actions", "rewards"))
        steps = len(rewards)
        terminations, truncations = (
            to_flags(np.asarray(columns[key]), f"episode {name}: {key}")
            for key in ("terminations", "truncations")
        )
        obs = np.asarray(flatten_rows(space, obs) if _is_nested(space) else obs)
        for key, values, length in (("observations", obs, steps + 1), ("actions", actions, steps)):
            shape = np.shape(values)
            if shape[:1] != (length,):
                raise BadValues(f"episode {name} has {key} of shape {list(shape)}.", f"Expected: {length:,}.")
        extras = {name: _info(columns["infos"] or {}, name, steps) for name in names}
        ends = np.flatnonzero(terminations | truncations) + 1
        if not len(ends) or ends[-1] != steps:
            self.note("open_end", "", "episodes stop without an end: they count as cut off", count=1)
            ends = np.append(ends, steps)
        if len(ends) > 1:
            self.note("inner_end", "", "episodes go on behind an end: they were divided there", count=1)
        for index, (first, stop) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            terminated = bool(terminations[stop - 1])
            yield Episode(
                obs[first : stop + 1],
                np.asarray(actions)[first:stop],
                rewards[first:stop],
                terminated=terminated,
                truncated=bool(truncations[stop - 1]) or not terminated,
                id=name if len(ends) == 1 else f"{name}.{index}",
                extras={column: values[first:stop] for column, values in extras.items()},
            )

    def _observed(self, space: Any) -> Any:
        """Return the part of a space that is read."""
        return space if self.obs is None else select(space, self.obs.split(","))

    def _set_spaces(self, folder: Path, metadata: Metadata) -> None:
        from gymnasium.spaces import Box, Discrete

        obs, self.action_space = spaces(folder, metadata)
        if not isinstance(self.action_space, Box | Discrete | None):
            raise BadValues(f"the action space is {self.action_space}.", "Expected: Box or Discrete.")
        if obs is None:
            obs = observation_space(folder, metadata)
            if self.obs is None and not _is_nested(obs):
                return  # the environment's if it is known, else taken from the data
        obs = self._observed(obs)
        if _is_nested(obs):
            self.observation_space, self.nested_observation_space = flat_space(obs), obs
            # The space of the environment may have another order than the space that Minari stored.
            self.env_options = {OBSERVE: list(_leaves(obs))}
        elif isinstance(obs, Box):
            self.observation_space = obs
        else:  # numbers without one-hot encoding, as the environment returns them
            flat_space(obs)
            self.observation_space = Box(-np.inf, np.inf, obs.shape or (1,))

    def _set_environment(self, folder: Path, metadata: Metadata) -> None:
        """Set id and options of the environment: that for evaluation, else that of the recording."""
        self.env_from_file = True
        ours = metadata.off2on
        if ours.env is not None:
            chosen_parts = {} if self.obs is None else self.env_options
            self.env, self.env_options = ours.env, {**ours.env_options, **chosen_parts}
            return
        recorded, meant = (environment(folder, metadata, key) for key in ("env_spec", "eval_env_spec"))
        chosen = meant or recorded
        if chosen is None:
            return
        self.env, self.env_options = chosen.id, {**chosen.options, **self.env_options}
        if recorded is not None and recorded != chosen:
            origin = f"{recorded} recorded these data"
            self.note("env", "", f"{origin}; {chosen} is meant for evaluation and taken")
        if chosen.wrappers:
            self.note("env", "", f"{chosen.id} had wrappers that are not put on: {' '.join(chosen.wrappers)}")


def _leaves(space: Any, above: str = "") -> Iterator[str]:
    """Return the paths of all leaves of a nested space, in its order: "goal.xy"."""
    parts = space.items() if hasattr(space, "items") else enumerate(space)
    for key, part in parts:
        yield from _leaves(part, f"{above}{key}.") if _is_nested(part) else [f"{above}{key}"]


def _is_nested(space: Any) -> bool:
    from gymnasium.spaces import Dict, Tuple

    return isinstance(space, Dict | Tuple)


def _info(infos: Mapping[str, Any], name: str, steps: int) -> Array:
    """Return one of the infos [T, …], without the value of the reset if it was recorded.

    Raises:
        MissingColumn: There is no such info, or it is a dictionary of infos.
        BadValues: It has another number of values.
    """
    values: Any = infos
    for key in [name] if name in infos else name.split("/"):
        if not isinstance(values, Mapping) or key not in values:
            there = " ".join(map(str, values)) if isinstance(values, Mapping) else ""
            raise MissingColumn(f"there is no info {name!r}.", f"There are: {there or 'none'}")
        values = values[key]
    if isinstance(values, Mapping):
        inside = " ".join(f"{name}/{key}" for key in values)
        raise MissingColumn(f"info {name!r} is a dictionary.", f"It holds: {inside or 'nothing'}")
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
