"""Find a data set of Minari by its id: in its local folder, else on its server."""

import os
import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt

from datasets_io.errors import Corrupt, Offline, UnknownData, UserError
from datasets_io.registry import minari_counterparts
from datasets_io.storage.documents import read_json
from datasets_io.storage.errors import convert_errors

METADATA = "metadata.json"


@dataclass(frozen=True)
class LocalCopy:
    """The part of a data set's metadata that tells which files belong to it."""

    total_episodes: NonNegativeInt
    data_format: str = "hdf5"


def minari() -> Any:
    """Import and return the package.

    Raises:
        UserError: The package is not installed.
    """
    try:
        import minari as package
    except ImportError as error:
        raise UserError(f"{error}.", "Data sets of Minari need it.", "pip install 'off2on[minari]'") from None
    return package


def fetch(name: str) -> Path:
    """Return the folder of a data set; download it into Minari's own folder if it is missing.

    Args:
        name: Minari's id, "mujoco/hopper/medium-v0".

    Raises:
        UnknownData: The data set is neither in the folder nor on the server.
        Offline: The data set is not in the folder, and the server cannot be reached.
        UserError: Minari, or a package it needs for its server, is not installed.
    """
    package = minari()
    from minari.dataset.minari_dataset import parse_dataset_id

    try:
        parse_dataset_id(name)  # before it becomes a part of a path
    except (ValueError, TypeError) as error:  # TypeError: an id without a version
        raise _unknown(name, error) from None
    folder = folder_of(name)
    if _is_complete(folder / "data"):
        return folder
    try:
        # Minari prints to stdout, which is for results only, and warns of newer versions at every download.
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            package.download_dataset(name, force_download=folder.exists())
    except ImportError as error:
        raise UserError(f"{error}", f"{name} is not in {_root()}.", "pip install 'off2on[minari]'") from None
    except (ValueError, TypeError) as error:
        raise _unknown(name, error) from None
    except Exception as error:
        # Any exception of the client: the classes differ between servers and versions.
        reason = f"{error}".strip().partition("\n")[0] or type(error).__name__
        here = _local()
        raise Offline(
            f"{name} is not on this machine, and the server of Minari cannot be reached: {reason}",
            f"Looked in {_root()} ({len(here)} data sets).",
            f"off2on data add minari/{name} FOLDER",
            given=name,
            known=here,
        ) from None
    return folder


def folder_of(name: str) -> Path:
    """Return the path at which Minari stores a data set."""
    minari()
    from minari.storage.datasets_root_dir import get_dataset_path

    with convert_errors(Path(os.environ.get("MINARI_DATASETS_PATH", "~/.minari"))):  # it makes the folder
        return Path(get_dataset_path(name))


def _unknown(name: str, error: Exception) -> UnknownData:
    """Return the error for an id that the server does not know."""
    here = _local()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            there = list(minari().list_remote_datasets(prefix=name.partition("/")[0]))
        asked = f"and on the server of Minari ({len(there)} with this prefix)"
    except Exception as trouble:
        there, asked = [], f"; the server of Minari did not return its list ({type(trouble).__name__})"
    known = [*here, *there, *(pair.minari for pair in minari_counterparts())]
    return UnknownData(
        f"Minari has no data set {name!r}.",
        f"Looked in {_root()} ({len(here)} data sets) {asked}.\n{error}",
        "off2on data add minari/mujoco/hopper/medium-v0",
        given=name,
        known=known,
    )


def _root() -> Path:
    return folder_of("")


def _local() -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about folders that are not data sets
        try:
            return list(minari().list_local_datasets())
        except Exception:  # of Minari, about a damaged one: the names are only for a message
            return []


def _is_complete(data: Path) -> bool:
    """Return True if a data set is complete: an interrupted download leaves its folder behind."""
    try:
        about = read_json(data / METADATA, LocalCopy)
    except Corrupt:  # missing, or half of it
        return False
    if about.data_format == "hdf5":
        return (data / "main_data.hdf5").is_file()
    return all((data / str(number) / METADATA).is_file() for number in range(about.total_episodes))
