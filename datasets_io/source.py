"""Define `Source`, the base class of data sources; a subclass implements `episodes`."""

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from datasets_io import storage
from datasets_io.code_files import files_of_code
from datasets_io.episode import Episode
from datasets_io.faults import Fault, Quarantined
from datasets_io.storage import Place
from datasets_io.storage.buckets import Location


class Source:
    """Recorded data that can be read as episodes.

    The first line of the docstring of a subclass is the description of the data set. Instances are sent to
    Ray workers, so they hold options, not open files.

    Attributes:
        env: Gymnasium id of the environment the data were recorded in, or None.
        env_options: Options of the environment for `environments.make`, as plain JSON values.
        env_from_file: True if only the data name the environment: its module is then not imported.
        licence: Licence of the data.
        observation_space: Gymnasium space; None: the environment's, else taken from the data.
        nested_observation_space: The space of which `observation_space` is the flat form, if it is one.
        action_space: Gymnasium space; None: the environment's, else taken from the data.
        expects_one_step_episodes: True if many episodes of one step are no fault of the data.
        row_options: Names of the options that choose which rows of the data are read, such as `split`; None:
            each option may.
        rows_per_shard: Approximate number of rows of a part; set by the ingest before it calls `parts`.
    """

    env: str | None = None
    env_options: Mapping[str, Any] = MappingProxyType({})
    env_from_file: bool = False
    licence: str = "unknown"
    observation_space: Any = None
    nested_observation_space: Any = None
    action_space: Any = None
    expects_one_step_episodes: bool = False
    row_options: tuple[str, ...] | None = None
    rows_per_shard: int = 100_000

    def parts(self, path: Any) -> list[Any]:
        """Split the data into pieces that are read independently, in parallel, one shard file each.

        Args:
            path: File or folder given by the user, or None.

        Returns:
            Picklable values, each handed to `episodes`. One part is split into files as it is read.
        """
        return [path]

    def episodes(self, part: Any) -> Iterator[Episode]:
        """Read one part, in order."""
        raise NotImplementedError(f"{type(self).__name__} must define episodes(self, part)")

    def fingerprint(self, path: Any) -> str:
        """Return a hash of the data to read: only finished parts of the same data are reused.

        In a bucket it is a hash of names, sizes and modification times, which change with the content:
        reading the content would take as long as the ingest.

        Raises:
            UnknownName: The file does not exist.
        """
        place = None if path is None else storage.locate(path)
        if isinstance(place, Location):
            return hashlib.sha256(repr(storage.versions(place)).encode()).hexdigest()
        return "" if place is None else hash_path(place)

    def options(self) -> dict[str, Any]:
        """Return the options for the manifest: public attributes as plain values."""
        elsewhere = (
            "observation_space",
            "nested_observation_space",
            "action_space",
            "env_options",
            "env_from_file",
            "rows_per_shard",
        )
        return {
            name: value if isinstance(value, str | int | float | None) else str(value)
            for name, value in vars(self).items()
            if not name.startswith("_") and name not in elsewhere
        }

    def note(self, kind: str, column: str, detail: str, **numbers: Any) -> None:
        """Report a fault of the data, to be counted in the manifest. See `Fault`."""
        self.faults.append(Fault(kind, column, detail, **numbers))

    def quarantine(self, file: str, offset: int, reason: str) -> None:
        """Report a record that cannot be read and was skipped.

        Args:
            file: Path of the file.
            offset: Offset of the first byte of the record.
            reason: Reason, for quarantine.csv.
        """
        records: list[Quarantined] = self.__dict__.setdefault("_quarantined", [])
        records.append(Quarantined(file, offset, reason))
        self.note("quarantined", "", "records cannot be read and were left out: see quarantine.csv", count=1)

    @property
    def quarantined(self) -> list[Quarantined]:
        """Records that this instance has skipped so far."""
        records: list[Quarantined] = self.__dict__.get("_quarantined", [])
        return records

    @property
    def faults(self) -> list[Fault]:
        """Faults that this instance has reported so far."""
        faults: list[Fault] = self.__dict__.setdefault("_faults", [])
        return faults

    @property
    def description(self) -> str:
        """First line of the docstring of the class."""
        doc = inspect.getdoc(type(self)) if type(self).__doc__ else None
        return doc.strip().splitlines()[0] if doc else type(self).__name__

    @property
    def code_hash(self) -> str:
        """Hash of the code, so that parts created by an older version are not reused.

        It is that of the defining file and, outside of this package, of the files beside it that it imports.
        """
        try:
            file = inspect.getsourcefile(type(self))
        except (TypeError, OSError):  # typed into an interactive session
            file = None
        if not file or not Path(file).is_file():
            return ""
        is_ours = type(self).__module__.partition(".")[0] == __name__.partition(".")[0]
        hashes = [hash_path(place) for place in ([Path(file)] if is_ours else files_of_code(Path(file)))]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def hash_path(path: Place) -> str:
    """Return the SHA-256 of a file, or of all files below a folder with their names.

    Raises:
        UnknownName: The path does not exist.
    """
    files = storage.list_files(path, recursive=True)
    if files == [str(path)]:
        with storage.open_input(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for name in files:
        below = name.removeprefix(str(path)).removeprefix("/")
        digest.update(f"{below} {hash_path(storage.locate(name))}\n".encode())
    return digest.hexdigest()
