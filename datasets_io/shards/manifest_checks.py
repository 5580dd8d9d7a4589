"""Types of the fields of a manifest, and checks of fields against one another."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

import numpy as np
from pydantic import AfterValidator, Field, FiniteFloat, NonNegativeInt, PositiveInt
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12

from datasets_io.errors import BadValues, Corrupt
from datasets_io.flatten import flat_space
from datasets_io.shards.columns import FIXED_COLUMNS, describe_columns
from datasets_io.storage.nested_spaces import MAX_WIDTH, nested_from_json

if TYPE_CHECKING:
    from datasets_io.shards.manifest import Manifest


def _plain_name(name: str) -> str:
    if not name or name.startswith(".") or any(letter in "/\\" or ord(letter) < 32 for letter in name):
        raise ValueError("expected the name of a file inside the data set")
    return name


Text = Annotated[str, Field(max_length=10_000)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Column = tuple[str, str, list[PositiveInt]]
Returns = list[FiniteFloat]
Lengths = list[PositiveInt]


class ListedFile(TypedDict):
    """A file of a data set as its manifest lists it, in the order in which an ingest writes it."""

    name: Annotated[str, Field(max_length=255), AfterValidator(_plain_name)]
    rows: PositiveInt
    groups: NotRequired[list[PositiveInt]]
    bytes: NonNegativeInt
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class SourceFacts(TypedDict):
    """Origin of the rows of a data set."""

    kind: Text
    path: Text | None
    sha256: Text
    options: dict[str, Any]


def check_manifest(manifest: "Manifest") -> None:
    """Check the fields of a manifest against one another.

    Raises:
        Corrupt: They disagree.
    """
    _equal("episodes", manifest.episodes, len(manifest.lengths), "lengths")
    _equal("episodes", manifest.episodes, len(manifest.returns), "returns")
    _equal("rows", manifest.rows, sum(manifest.lengths), "the sum of lengths")
    _equal("rows", manifest.rows, sum(file["rows"] for file in manifest.files), "the rows of all files")
    for file in manifest.files:
        _equal(f"rows of {file['name']}", file["rows"], sum(file.get("groups", [file["rows"]])), "its groups")
    parts = manifest.generations
    if not parts:
        raise Corrupt("there are no generations.")
    sizes = {name: len(getattr(manifest, name)) for name in ("files", "scene_files")}
    sizes |= {name: getattr(manifest, name) for name in ("rows", "episodes", "terminated", "truncated")}
    for name, total in sizes.items():
        _equal(name, total, sum(getattr(part, name) for part in parts), "the sum over generations")
    _check_columns(manifest)


def _check_columns(manifest: "Manifest") -> None:
    names = [name for name, _, _ in manifest.columns]
    if missing := [name for name in FIXED_COLUMNS if name not in names]:
        raise Corrupt(f"the column {missing[0]!r} is not listed.")
    if len({*names}) < len(names):
        raise Corrupt("a column is listed twice.")
    shapes = {name: tuple(shape) for name, _, shape in manifest.columns}
    for name, plain in (("obs", manifest.observation_space), ("actions", manifest.action_space)):
        shape = space_shape(name, plain)
        if shapes[name] != shape:
            raise Corrupt(f"the space of {name} has shape {list(shape)}, the column {list(shapes[name])}.")
    for name in ("obs", "rewards"):
        if name not in manifest.statistics:
            raise Corrupt(f"the statistics of {name} are missing.")
    keys = ("mean", "std", "min", "max"), ("mean", "m2", "low", "high")
    _check_numbers("statistics", manifest.statistics, shapes, keys[0])
    for number, part in enumerate(manifest.generations):
        if part.moments.keys() != manifest.statistics.keys():
            raise Corrupt(f"moments of generation {number} are of other columns than the statistics.")
        _check_numbers(f"moments of generation {number}", part.moments, shapes, keys[1])
        if any(moments.get("count") != part.rows for moments in part.moments.values()):
            raise Corrupt(f"moments of generation {number} are not of its {part.rows:,} rows.")
    if manifest.nested_observation_space is not None:
        _check_nested(manifest)


def _check_numbers(
    what: str,
    given: Mapping[str, Mapping[str, Any]],
    shapes: Mapping[str, tuple[int, ...]],
    keys: tuple[str, ...],
) -> None:
    for name, numbers in given.items():
        for key in keys:
            try:
                values = np.asarray(numbers[key])
            except (KeyError, ValueError):
                raise Corrupt(f"{what}: {key} of {name} is missing, or holds no numbers.") from None
            if values.dtype.kind not in "iuf":
                raise Corrupt(f"{what}: {key} of {name} holds no numbers.")
            if values.shape != shapes.get(name) or not np.isfinite(values).all():
                raise Corrupt(f"{what}: {key} of {name} has not one finite number for each value of a row.")
            if key in ("std", "m2") and (values < 0).any():
                raise Corrupt(f"{what}: {key} of {name} is negative.")


def space_shape(what: str, plain: Mapping[str, Any]) -> tuple[int, ...]:
    """Check the plain values of a Box or Discrete and return the shape of a row, () for a choice.

    Raises:
        Corrupt: They are no such space.
    """
    if plain.get("type") == "Discrete":
        if not (type(plain.get("n")) is int and 1 <= plain["n"] < 2**31):
            raise Corrupt(
                f"the space of {what} is {_short(plain)}.", "Expected: a positive number n of choices."
            )
        return ()
    shape = plain.get("shape")
    if (
        plain.get("type") != "Box"
        or not isinstance(shape, list)
        or not all(type(width) is int and width > 0 for width in shape)
    ):
        raise Corrupt(
            f"the space of {what} is {_short(plain)}.", "Expected: a Box with a shape, or Discrete."
        )
    if (size := int(np.prod(shape, dtype=object) if shape else 1)) > MAX_WIDTH:
        raise Corrupt(f"the space of {what} has {size:,} values.", f"Expected at most {MAX_WIDTH:,}.")
    try:
        low, high = (
            np.broadcast_to(np.asarray(plain[side], np.float64), tuple(shape)) for side in ("low", "high")
        )
    except (KeyError, ValueError, TypeError, OverflowError):
        raise Corrupt(f"the space of {what} has bounds that do not fit its shape {shape}.") from None
    if not (low <= high).all():  # also where one of them is NaN
        raise Corrupt(f"the space of {what} has a lower bound above its upper one.")
    return tuple(shape)


def _check_nested(manifest: "Manifest") -> None:
    plain = manifest.nested_observation_space
    assert plain is not None
    try:
        shape = flat_space(nested_from_json(plain)).shape
    except BadValues as error:
        raise Corrupt(f"the nested observation space: {error.what}", error.expected) from None
    if list(shape) != manifest.observation_space.get("shape"):
        raise Corrupt(f"the nested observation space has {shape[0]} values, not those of the flat one.")


def check_shard(parquet: Any, listed: ListedFile | None, columns: Sequence[Column], where: object) -> None:
    """Check that a Parquet file has the row groups and columns that the manifest lists.

    Args:
        parquet: The open file.
        listed: Its entry in the manifest; None: only the columns are checked.
        columns: Columns of the manifest.
        where: The file, for messages.

    Raises:
        Corrupt: It has others.
    """
    about = parquet.metadata
    groups = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
    if listed is not None and listed.get("groups", [listed["rows"]]) not in (groups, [sum(groups)]):
        raise Corrupt(f"{where} has row groups of {groups} rows.", f"The manifest lists {listed}.")
    found = {name: (kind, shape) for name, kind, shape in describe_columns(parquet.schema_arrow)}
    for name, kind, shape in columns:
        there, width = found.get(name, ("missing", []))
        # Arrow calls the values of a list "item", Parquet "element".
        if width != shape or there.replace("element: ", "item: ") != kind.replace("element: ", "item: "):
            raise Corrupt(
                f"{where}: the column {name!r} is {there} {width}.", f"The manifest lists {kind} {shape}."
            )


def _equal(what: str, given: int, expected: int, of: str) -> None:
    if given != expected:
        raise Corrupt(f"{what} are {given:,}, but {of} give {expected:,}.")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
