"""Resolve names, as `off2on data add` takes them, to sources."""

import shlex
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from datasets_io import storage
from datasets_io.errors import DataError, UnknownName, UserError
from datasets_io.imports import import_object
from datasets_io.registry import MINARI, find, registry
from datasets_io.source import Source
from datasets_io.sources.ogbench_tasks import generated_names
from datasets_io.sources.options import construct
from datasets_io.storage import Place
from datasets_io.storage.names import derive_name

GENERATED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "toy-pendulum": ("datasets_io.sources.toy:ToyPendulum", {}),
    "toy-cartpole": ("datasets_io.sources.toy:ToyCartPole", {}),
    "maze-umaze": ("datasets_io.sources.mazes:PointMaze", {"maze": "umaze"}),
    "maze-medium": ("datasets_io.sources.mazes:PointMaze", {"maze": "medium"}),
    "maze-large": ("datasets_io.sources.mazes:PointMaze", {"maze": "large"}),
    **{
        name: (
            "datasets_io.sources.ogbench_play:OGBenchPlay",
            {"environment": environment, "task": task},
        )
        for name, (environment, task) in generated_names().items()
    },
}
"""Generated data sets: source and options."""
_SUFFIXES = {
    ".hdf5": "datasets_io.sources.d4rl:D4RL",
    ".h5": "datasets_io.sources.d4rl:D4RL",
    ".csv": "datasets_io.sources.tabular:Table",
    ".parquet": "datasets_io.sources.tabular:Table",
    ".npz": "datasets_io.sources.ogbench:OGBench",
    ".arrow": "datasets_io.sources.tabular:Table",
    ".tfrecord": "datasets_io.waymo:Waymo",
}

_UNPACK = {
    ".gz": "gunzip --keep",
    ".bz2": "bunzip2 --keep",
    ".xz": "unxz --keep",
    ".zst": "unzstd",
    ".zip": "unzip",
}
_PICKLES = (".pkl", ".pickle")
_SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods")
_FOLDERS = "LeRobot, RLDS, RLlib or Hugging Face"


class Resolved(NamedTuple):
    """Result of resolving a name: `source` and `path` for `ingest`, and a `name` for the data set."""

    source: Source
    path: Place | None
    name: str


def known_names() -> list[str]:
    """Return every name that can be added without a path."""
    return [*GENERATED, *registry()]


def resolve_source(
    text: str,
    path: str | Place | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Resolved:
    """Return the source for a name given on the command line, and a valid name for the data set.

    Args:
        text: `toy-pendulum`; a D4RL id, with or without `d4rl/`; `minari/` and Minari's id; a file ending in
            .hdf5, .h5, .csv, .parquet, .arrow or .npz; a folder of LeRobot, RLDS or Hugging Face;
            `module:Class`; or a name of the user's choice, if `path` is one of these.
        path: The data, on this machine or in a bucket; an id of D4RL or Minari without it is downloaded.
        options: For the source's constructor, as typed or as text: `seed`, `episodes`, `env`, `columns`, ….
        progress: Called during a download with bytes so far and in total.

    Raises:
        UnknownName: The name or an option is unknown.
        UserError: A class is not a Source, a package is missing, or a path is given for generated data.
        DataError: The file is a pickle.
        Offline: A required download failed.
    """
    found = _resolve(text, None if path is None else storage.locate(path), dict(options or {}), progress)
    return found._replace(name=derive_name(found.name))


def _resolve(
    text: str, given: Place | None, options: dict[str, Any], progress: Callable[[int, int], None] | None
) -> Resolved:
    name = text.removeprefix("d4rl/")
    if text in GENERATED:
        if given is not None:
            raise UserError(
                f"{text} is generated, and reads no data from {given}.",
                "Give the data of a path another name.",
                f"off2on data add my-data {shlex.quote(str(given))}",
            )
        where, own = GENERATED[text]
        return Resolved(_make(where, {**own, **options}), None, text)
    if text.startswith(MINARI):
        name = text.removeprefix(MINARI)
        if given is None:
            from datasets_io.sources import minari_server

            given = minari_server.fetch(name)
        return Resolved(
            _make("datasets_io.sources.minari:Minari", {"name": name, **options}),
            given,
            name.replace("/", "-"),
        )
    if ":" in text and "://" not in text:
        kind = _import(text)
        return Resolved(construct(kind, options), given, kind.__name__.lower())
    if name in registry() or (given is not None and find(name) is not None):
        if given is None:
            from datasets_io.sources.download import fetch

            given = fetch(name, progress)
        return Resolved(_make("datasets_io.sources.d4rl:D4RL", {"name": name, **options}), given, name)
    if given is None and _kind(example := _example(text)) in _SUFFIXES:
        given, name = storage.locate(text), Path(example).stem
    short = Path(name).name
    place = storage.locate(text) if given is None else given
    suffix = "" if given is None else _suffix(given)
    # LeRobot comes first: its folders may hold thousands of videos, which `_is_rllib` would list.
    if _is_lerobot(place):
        return Resolved(_make("datasets_io.sources.lerobot:LeRobot", options), place, short)
    if (folder := _rlds_folder(place)) is not None:
        from datasets_io.sources.rlds import VERSION

        short = folder.parent.name if VERSION.fullmatch(short) else short
        return Resolved(_make("datasets_io.sources.rlds:RLDS", options), folder, short)
    if given is not None and _is_rllib(given):
        return Resolved(_make("datasets_io.sources.rllib_episodes:RLlibEpisodes", options), given, short)
    if _is_hugging_face(place):
        return Resolved(_make("datasets_io.sources.hugging_face:HuggingFace", options), place, short)
    if given is not None and suffix in _SUFFIXES:
        own = {"name": short} if suffix == ".npz" else {}  # the name may contain the task
        return Resolved(_make(_SUFFIXES[suffix], {**own, **options}), given, short)
    _refuse_pickle(place)
    _refuse_compressed(place)
    _refuse_spreadsheet(place)
    if given is not None:
        raise UnknownName(
            f"{given} has no known suffix.",
            f"Known: {' '.join(_SUFFIXES)}; a folder of these, or of {_FOLDERS}.\n"
            "For anything else, write a Source:",
            f"off2on data add my_lab.trips:Trips {given}",
        )
    raise UnknownName(
        f"there is no source {text!r}.",
        f"Looked in the catalogue ({len(known_names())} names).\n"
        f"A file ends in {' '.join(_SUFFIXES)}; a source of your own is module:Class.\n"
        f"A folder is one of {_FOLDERS}; one of RLlib or of tables follows a name.",
        "off2on data list --catalogue",
        given=name,
        known=known_names(),
    )


def _is_lerobot(folder: Place) -> bool:
    if not storage.is_folder(folder):
        return False
    from datasets_io.sources.lerobot import INFO

    return storage.is_file(folder / INFO)


def _rlds_folder(place: Place) -> Place | None:
    """Return the folder of a data set of RLDS, or None.

    Raises:
        UserError: It is one file of such a folder.
    """
    if storage.is_folder(place):
        from datasets_io.sources.rlds import find_folder, is_rlds

        return find_folder(place) if is_rlds(place) else None
    if _kind(place.name) == ".tfrecord" and storage.is_file(place):
        from datasets_io.sources.rlds import is_rlds

        if is_rlds(place.parent):
            raise UserError(
                f"{place} is one file of a data set of TensorFlow Datasets.",
                "Give the folder; split=NAME chooses a split.",
                f"off2on data add {place.parent}",
            )
    return None


def _is_hugging_face(place: Place) -> bool:
    if not storage.is_folder(place):
        return False
    from datasets_io.sources.hugging_face import is_hugging_face

    return is_hugging_face(place)


def _is_rllib(place: Place) -> bool:
    """Return True if a Parquet file, or the first one below a folder, holds packed episodes of RLlib."""
    files = storage.list_files(place, recursive=True) if storage.is_folder(place) else [str(place)]
    first = next((file for file in files if file.endswith(".parquet")), None)
    if first is None or not storage.is_file(storage.locate(first)):
        return False
    from datasets_io.sources.rllib_episodes import ITEM
    from datasets_io.sources.table_files import open_table

    return open_table(first)[0] == [ITEM]


def _refuse_pickle(place: Place) -> None:
    if {place.suffix.lower(), Path(place.stem).suffix.lower()}.intersection(_PICKLES):
        raise DataError(
            f"{place} is a pickle, and is not loaded: to read one can run any code.",
            "Expected: numbers in HDF5, Parquet or CSV, written by the program that has the objects.\n"
            "For a replay buffer of Stable-Baselines3, the page Data has the lines that write it: section\n"
            "Stable-Baselines3 of platform/docs/data.md.",
        )


def _refuse_compressed(place: Place) -> None:
    if place.suffix in _UNPACK and _kind(place.stem) in _SUFFIXES:
        unpacked = str(place).removesuffix(place.suffix)
        line = f"{_UNPACK[place.suffix]} {shlex.quote(str(place))} && off2on data add {shlex.quote(unpacked)}"
        raise UserError(f"{place} is compressed.", f"Expected {_kind(place.stem)}, unpacked.", line)


def _refuse_spreadsheet(place: Place) -> None:
    if place.suffix.lower() in _SPREADSHEETS and storage.is_file(place):
        table = str(place).removesuffix(place.suffix) + ".csv"
        raise UserError(
            f"{place} is a spreadsheet, which is not read.",
            "Save it as CSV in UTF-8, with one header line and commas, and add that file.",
            f"off2on data add {shlex.quote(table)} …",
        )


def _suffix(place: Place) -> str:
    """Return a path's suffix; for a folder that of its first file of a kind stored in folders."""
    if not storage.is_folder(place):
        return _kind(_example(place))
    kinds = (_kind(file) for file in storage.list_files(place))
    return next((kind for kind in kinds if kind in (".csv", ".parquet", ".arrow", ".npz", ".tfrecord")), "")


def _example(path: str | Place) -> str:
    """Return the first file of a known kind that a pattern matches; the path itself if there is none."""
    root, pattern = storage.split_pattern(path)
    if not pattern:
        return str(path)
    names = (name for name, _, _ in storage.versions(root) if fnmatch(name, pattern))
    return next((name for name in names if _kind(name) in _SUFFIXES), str(path))


def _kind(name: str) -> str:
    """Return the suffix, without the number of a TFRecord shard (`training.tfrecord-00007-of-01000`)."""
    suffix = Path(name).suffix
    return ".tfrecord" if suffix.startswith(".tfrecord") else suffix


def _make(where: str, options: dict[str, Any]) -> Source:
    return construct(import_object(where), options)


def _import(text: str) -> type[Source]:
    kind: type[Source] = import_object(text, Source)
    return kind
