"""Export shards as a Minari data set, atomically; further facts of the manifest go into its metadata."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from datasets_io.environments import OBSERVE, registered
from datasets_io.episode import Array
from datasets_io.errors import Exists, SimulatorError, UserError
from datasets_io.export.episodes import read_episodes
from datasets_io.flatten import unflatten_rows
from datasets_io.scores import horizon
from datasets_io.shards.columns import FIXED_COLUMNS
from datasets_io.shards.reading import Shards
from datasets_io.sources.minari import OFF2ON_KEY
from datasets_io.sources.minari_server import folder_of, minari
from datasets_io.storage.errors import convert_full_disk
from datasets_io.storage.locks import lock_place
from datasets_io.storage.names import check_name, derive_name

_DERIVED = ("new_obs", "ret")  # derived again when the data are read


def export_minari(
    shards: Shards,
    dataset_id: str,
    data_format: str = "hdf5",
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write a data set into Minari's own folder ($MINARI_DATASETS_PATH).

    Observations that were flattened are nested again. Columns beyond Minari's are kept as `infos`, whose
    first row, which Minari gives to the reset, is zero. `Minari`, the source, gives the same rows back, with
    other episode ids.

    Args:
        shards: Data set to export.
        dataset_id: "namespace/name-v0".
        data_format: "hdf5", "arrow" or "parquet".
        progress: Called with the number of rows written so far.

    Returns:
        The new folder.

    Raises:
        Exists: Minari has a data set with that id, or another process is writing it.
        UserError: The id is invalid, or Minari is not installed.
        BadValues: The rows do not follow each other, which Minari cannot express.
        NoSpace: The disk is full.
    """
    package, final = minari(), _place(dataset_id)
    with lock_place(final):
        _place(dataset_id)  # again: another process may just have written it
        _write(package, final, shards, dataset_id, data_format, progress)
    return final


def _write(
    package: Any,
    final: Path,
    shards: Shards,
    dataset_id: str,
    data_format: str,
    progress: Callable[[int], None] | None,
) -> None:
    extras = [name for name, _, _ in shards.manifest.columns if name not in (*FIXED_COLUMNS, *_DERIVED)]
    scratch = folder_of("") / f".{dataset_id.replace('/', '-')}.partial"
    shutil.rmtree(scratch, ignore_errors=True)  # of a killed process: nobody else has the lock
    try:
        with convert_full_disk(final):
            scratch.mkdir(parents=True)
            storage = _storage(scratch / "data", shards, data_format)
            rows = 0
            for piece in shards.pieces:
                buffers = list(_episodes(shards, piece, extras))
                storage.update_episodes(buffers)
                rows += sum(len(buffer) for buffer in buffers)
                if progress is not None:
                    progress(rows)
            ours = {
                "env": shards.env_id,
                "env_options": shards.manifest.env_options,
                "columns": extras,
                "nested": shards.manifest.nested_observation_space,
            }
            storage.update_metadata(
                {
                    "dataset_id": dataset_id,
                    "minari_version": package.__version__,
                    "description": shards.manifest.description,
                    OFF2ON_KEY: ours,
                }
            )
            final.parent.mkdir(parents=True, exist_ok=True)
            os.rename(scratch, final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _place(dataset_id: str) -> Path:
    """Return the path of the new data set; its id must be free."""
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError):  # TypeError: no version
        raise UserError(
            f"{dataset_id!r} is not a valid id of Minari.", "Expected: NAMESPACE/NAME-v0."
        ) from None
    parts = dataset_id.split("/")
    for part in parts:
        check_name(part, f"off2on data export NAME {'/'.join(map(derive_name, parts))}")
    final = folder_of(dataset_id)
    if final.exists():
        name, _, version = dataset_id.rpartition("-v")
        raise Exists(f"{final} exists.", "", f"off2on data export NAME {name}-v{int(version) + 1}")
    return final


def _storage(folder: Path, shards: Shards, data_format: str) -> Any:
    from minari.dataset.minari_storage import MinariStorage

    space = shards.nested_observation_space or shards.observation_space
    return MinariStorage.new(
        folder,
        observation_space=space,
        action_space=shards.action_space,
        env_spec=_spec(shards.env_id, shards.manifest.env_options),
        data_format=data_format,
        jpeg_encoding=False,  # JPEG is lossy
    )


def _spec(env_id: str | None, options: dict[str, Any]) -> Any:
    """Return the EnvSpec for Minari, without the options that the environment's constructor lacks."""
    import gymnasium

    if env_id is None:
        return None
    kwargs = {name: value for name, value in options.items() if name not in ("max_episode_steps", OBSERVE)}
    name, entry = env_id, None
    try:
        known = gymnasium.spec(registered(env_id))
        name, kwargs = known.id, {**known.kwargs, **kwargs}
        entry = known.entry_point if isinstance(known.entry_point, str) else None
    except (gymnasium.error.Error, ImportError, SimulatorError):
        pass  # not installed or not imported here; it may be where the data are read
    limit = horizon(env_id, options)
    return gymnasium.envs.registration.EnvSpec(name, entry, kwargs=kwargs, max_episode_steps=limit)


def _episodes(shards: Shards, piece: Any, extras: list[str]) -> Iterator[Any]:
    """Yield the episodes of one piece in Minari's format."""
    from minari.data_collector.episode_buffer import EpisodeBuffer

    nested = shards.nested_observation_space
    for obs, columns in read_episodes(shards, piece, extras):
        yield EpisodeBuffer(
            observations=obs if nested is None else unflatten_rows(nested, obs),
            actions=columns["actions"],
            rewards=columns["rewards"],
            terminations=columns["terminateds"],
            truncations=columns["truncateds"],
            infos={name: _info(columns[name]) for name in extras},
        )


def _info(values: Array) -> Any:
    """Convert a column [T, …] to Minari's layout of infos [T+1, …]."""
    padded = np.concatenate([np.zeros_like(values[:1]), values])
    # Minari's Arrow format reads an array of single numbers wrongly, and a list of them well.
    return list(padded) if padded.ndim == 1 else padded
