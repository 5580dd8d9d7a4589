"""Read metadata.json of a data set of Minari: format, spaces and environments.

Minari's own reader makes the environment that the file describes, and so runs code that the file names, if a
space is missing. Here nothing of the file is imported or made.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from datasets_io.errors import BadValues, Corrupt, UserError
from datasets_io.imports import KNOWN_PACKAGES
from datasets_io.scores import horizon
from datasets_io.sources.minari_server import METADATA, minari
from datasets_io.storage.documents import parse_json, read_json
from datasets_io.storage.nested_spaces import nested_from_json

OFF2ON_KEY = "off2on"
"""Key in the metadata of an exported data set, with the fields of `Exported`."""

MOST_NUMBERS = 2**24
"""Largest number of values in one observation or action."""

Count = Annotated[int, Field(ge=0, le=2**53)]


@dataclass(frozen=True)
class Exported:
    """What an export adds to Minari's metadata.

    Attributes:
        env, env_options: The environment.
        columns: Infos that were columns.
        nested: The observation space in its own order, which Minari replaces by alphabetical order.
    """

    env: str | None = None
    env_options: dict[str, Any] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    nested: dict[str, Any] | None = None


@dataclass(frozen=True)
class Metadata:
    """The fields of metadata.json that are read; spaces and environments are JSON texts."""

    total_episodes: Count
    total_steps: Count
    minari_version: str
    data_format: Literal["hdf5", "arrow", "parquet"] = "hdf5"
    observation_space: str | None = None
    action_space: str | None = None
    env_spec: str | None = None
    eval_env_spec: str | None = None
    description: str | None = None
    jpeg_encoding: bool = True
    off2on: Exported = field(default_factory=Exported)


class Environment(NamedTuple):
    """An environment that the metadata describe."""

    id: str
    options: dict[str, Any]
    wrappers: list[str]

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.id} ({options})" if options else self.id


@dataclass(frozen=True)
class _Wrapper:
    name: str


@dataclass(frozen=True)
class _EnvSpec:
    id: Annotated[str, Field(min_length=1, max_length=1000)]
    entry_point: str | None = None
    kwargs: dict[str, Any] | None = None
    max_episode_steps: int | None = None
    additional_wrappers: list[_Wrapper] | None = None


def read_metadata(folder: Path) -> Metadata:
    """Read the metadata of a data set.

    Raises:
        Corrupt: They are no metadata of a version of Minari that is read here.
    """
    metadata = read_json(folder / METADATA, Metadata)
    package = minari()
    if metadata.minari_version not in package.supported_dataset_versions:
        raise Corrupt(
            f"{folder} was written by Minari {metadata.minari_version}.",
            f"Minari {package.__version__} reads: {' '.join(sorted(package.supported_dataset_versions))}",
        )
    return metadata


def spaces(folder: Path, metadata: Metadata) -> tuple[Any, Any]:
    """Return observation and action space of the file; None where it has none.

    The observation space is in the order of the export, if there is one.

    Raises:
        Corrupt: A space is not valid.
    """
    from minari.serialization import deserialize_space

    found = []
    for name in ("observation_space", "action_space"):
        text, space = getattr(metadata, name), None
        if text is not None:
            plain = parse_json(text, dict[str, Any], f"{folder / METADATA}: {name}")
            with convert_errors(f"{folder / METADATA}: {name}"):
                _check_sizes(plain)
                space = deserialize_space(plain)
        found.append(space)
    if metadata.off2on.nested is not None:
        with convert_errors(f"{folder / METADATA}: {OFF2ON_KEY}.nested"):
            _check_sizes(metadata.off2on.nested)
            found[0] = nested_from_json(metadata.off2on.nested)
    return found[0], found[1]


def environment(folder: Path, metadata: Metadata, name: str) -> Environment | None:
    """Return the environment of `env_spec` or `eval_env_spec`, without making it or importing its package.

    The module of an entry point that is in no known package becomes part of the id, as information: it is
    imported only if the user names that id.
    """
    text = getattr(metadata, name)
    if not text:
        return None
    spec = parse_json(text, _EnvSpec, f"{folder / METADATA}: {name}")
    module = (spec.entry_point or "").partition(":")[0]
    id_ = spec.id if not module or module.partition(".")[0] in KNOWN_PACKAGES else f"{module}:{spec.id}"
    options = {key: value for key, value in (spec.kwargs or {}).items() if key != "render_mode"}
    if spec.max_episode_steps != horizon(id_):
        options["max_episode_steps"] = -1 if spec.max_episode_steps is None else spec.max_episode_steps
    return Environment(id_, options, [wrapper.name for wrapper in spec.additional_wrappers or ()])


def _check_sizes(plain: Any) -> None:
    """Check types and sizes of a space before it is made.

    Raises:
        BadValues: A type is not that of numbers, or the space is too large.
    """
    if isinstance(plain, Mapping):
        if "dtype" in plain and np.dtype(plain["dtype"]).kind not in "biuf":
            raise BadValues(f"a space has the type {plain['dtype']!r}.", "Expected: numbers.")
        size = max(
            float(np.prod(np.asarray(plain.get("shape", ()), float))),
            *(float(np.sum(np.asarray(plain.get(key, 0), float))) for key in ("n", "nvec")),
        )
        if not size <= MOST_NUMBERS:
            raise BadValues(f"a space has {size:.3g} values.", f"Expected: at most {MOST_NUMBERS:,}.")
        plain = list(plain.values())
    for part in plain if isinstance(plain, list) else ():
        _check_sizes(part)


@contextmanager
def convert_errors(what: Any) -> Iterator[None]:
    """Convert the exceptions of Gymnasium and Minari about invalid files to `Corrupt`.

    Around their calls only: an error in this package is a defect.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        words = f"{error}".strip().partition("\n")[0]
        raise Corrupt(f"{what} cannot be read by Minari.", f"{type(error).__name__}: {words}") from None
