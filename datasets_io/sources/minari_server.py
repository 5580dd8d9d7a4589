"""Find a data set of Minari by its id: in its local folder, else on its server."""

import json
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from datasets_io.errors import Offline, UnknownData, UserError
from datasets_io.registry import minari_counterparts

METADATA = "metadata.json"


def minari() -> Any:
    """Import and return the package.

    Raises:
        UserError: It is not installed.
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
        UnknownData: Neither here nor on the server.
        Offline: It is not here, and the server cannot be reached.
        UserError: Minari is not installed, or not what it needs for its server.
    """
    package = minari()
    folder = folder_of(name)
    if _is_complete(folder / "data"):
        return folder
    try:
        # Minari speaks on stdout, which holds results only, and says of every download that newer ones exist.
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            package.download_dataset(name, force_download=folder.exists())
    except ImportError as error:
        raise UserError(f"{error}", f"{name} is not in {_root()}.", "pip install 'off2on[minari]'") from None
    except (ValueError, TypeError) as error:  # TypeError: of an id without a version
        raise _unknown(name, error) from None
    except Exception as error:
        # Whatever the client of the server raises: its classes differ between servers and versions.
        reason = f"{error}".strip().partition("\n")[0] or type(error).__name__
        here = _local()
        raise Offline(
            f"{name} is not here, and Minari's server cannot be reached: {reason}",
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

    return Path(get_dataset_path(name))


def _unknown(name: str, error: Exception) -> UnknownData:
    """Return the error for an id that the server does not know."""
    here = _local()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            there = list(minari().list_remote_datasets(prefix=name.partition("/")[0]))
        asked = f"and on Minari's server ({len(there)} called so)"
    except Exception as trouble:
        there, asked = [], f"but Minari's server does not list its own ({type(trouble).__name__})"
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
        warnings.simplefilter("ignore")  # of folders there that are no data sets
        return list(minari().list_local_datasets())


def _is_complete(data: Path) -> bool:
    """Return True if a data set is complete: an interrupted download leaves its folder behind."""
    if not (data / METADATA).is_file():
        return False
    try:
        about = json.loads((data / METADATA).read_text())
    except ValueError:
        return False
    if about.get("data_format", "hdf5") == "hdf5":
        return (data / "main_data.hdf5").is_file()
    return all((data / str(number) / METADATA).is_file() for number in range(about["total_episodes"]))
