"""Read a table (arrays, pandas frame, CSV, Parquet) with columns named by the user."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from datasets_io import storage
from datasets_io.column_names import SPELLINGS
from datasets_io.episode import Array, Episode
from datasets_io.errors import BadValues, MissingColumn, UnknownName, UserError
from datasets_io.source import Source
from datasets_io.sources.column_checks import check_episode_size
from datasets_io.sources.table_cells import EpisodeCodes, side_by_side
from datasets_io.sources.table_columns import box_of, check_no_leak, suggest_column
from datasets_io.sources.table_episodes import check_closed, cut_episodes, last_start, merge
from datasets_io.sources.table_files import open_table
from datasets_io.sources.table_folders import check_same_columns, is_one_table, table_files
from datasets_io.sources.table_repeats import RepeatedStep
from datasets_io.storage import Place

ROLES: Mapping[str, tuple[str, ...]] = {
    **SPELLINGS,
    "episode": ("eps_id", "episode", "episode_id"),
    "step": (),
    "action_logp": ("action_logp",),
}
"""Roles of columns, with the names that are searched if no column is given."""
_ROLE_OF = {name: role for role, names in ROLES.items() for name in names}

OPTIONS = ("bounds", "continuous", "licence", "split")
"""Options of tables, and of folders of them, that a command line gives between the roles of columns."""

WHOLE_BYTES = 3 * 2**27
"""Largest table, in bytes of its numbers, that is held in memory."""
Columns = Mapping[str, str | Sequence[str]]


def parse_columns(text: str | Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Parse `obs=x,v actions=u rewards=r episode=trip terminated=crashed`.

    Args:
        text: That text, or its words.

    Raises:
        UnknownName: A word is not role=column[,column…].
    """
    words = text.split() if isinstance(text, str) else list(text)
    columns: dict[str, tuple[str, ...]] = {}
    for word in words:
        role, _, names = word.partition("=")
        given = tuple(names.split(","))
        if not all(given):
            role = ""
        if role in columns:
            raise UnknownName(f"{word!r}: {role} is given twice.", f"Expected once: {role}=COLUMN,COLUMN")
        columns[_role(role, word)] = given
    return _check_numbers(columns)


def _check_numbers(columns: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Check that roles of one number a row have one column, and that no column is named twice.

    Raises:
        UnknownName: They do not.
    """
    for role, names in columns.items():
        if len(names) > 1 and role not in ("obs", "new_obs", "actions"):
            raise UnknownName(f"{role}={','.join(names)} has {len(names)} columns.", "Expected one.")
        if len({*names}) < len(names):
            raise UnknownName(f"{role}={','.join(names)} has a column twice.", "Expected each once.")
    return columns


def _role(role: str, word: str = "") -> str:
    if role in ROLES:
        return role
    word = word or role
    given = word.partition("=")[0]
    error = UnknownName(
        f"{word!r} does not name columns.",
        f"Expected ROLE=COLUMN or ROLE=COLUMN,COLUMN; roles: {' '.join(ROLES)}",
        "--columns obs=x,v actions=u rewards=r episode=trip terminated=crashed",
        given=given,
        known=[*ROLES, *_ROLE_OF, *OPTIONS],
    )
    near = given if given in _ROLE_OF else error.nearest
    error.nearest = _ROLE_OF.get(near, near)
    raise error


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


class Table(Source):
    """A table with one row a step.

    Give it to `ingest` with a dict of arrays [N, …], a pandas frame, a .csv, .parquet or .arrow file, or a
    folder of such files. Rows of an episode are in order, or a `step` column orders them; episodes may be
    interleaved if an `episode` column identifies them. An episode may go on in another file of a folder only
    with both.

    Args:
        columns: Role → column, or columns that are put side by side; see `ROLES`. Or as `parse_columns`
            reads. A role that is not given is searched under its usual names. `episode`, `terminated`
            or `truncated` marks the ends of episodes.
        env: Gymnasium id of the environment, if there is one.
        licence: Licence of the data.
        continuous: True if a column of whole numbers for `actions` has amounts, such as degrees; otherwise
            such numbers are choices.
        bounds: Range of the actions, see `box_of`; they are continuous then. None: that of the data.
    """

    row_options: tuple[str, ...] = ()

    def __init__(
        self,
        columns: Columns | str | None = None,
        env: str | None = None,
        licence: str = "unknown",
        continuous: bool = False,
        bounds: str | None = None,
    ) -> None:
        self.columns = (
            parse_columns(columns)
            if isinstance(columns, str)
            else _check_numbers({_role(role): _names(names) for role, names in (columns or {}).items()})
        )
        self.env, self.licence, self.bounds = env, licence, bounds
        self.continuous = continuous or bounds is not None
        if bounds is not None:
            self.action_space = box_of(bounds, len(self.columns.get("actions", ("",))))

    def parts(self, path: Any) -> list[Any]:
        """Return the table itself, or each table of a folder.

        Raises:
            UnknownName: The folder holds no table.
            BadValues: An episode may go on in the next file.
        """
        if not isinstance(path, str | Place) or not storage.is_folder(path):
            return [path]
        files, others = table_files(storage.locate(path))
        if others:
            names = ", ".join(storage.locate(file).name for file in others[:5])
            self.note("skipped", "", f"files that are no tables: {names}", count=len(others))
        if len(files) == 1:
            return [*files]
        found = [self._columns_of(file) for file in files]
        check_same_columns(files, found)
        if is_one_table(files, found[0], self._blocks):
            self.note("joined", "", f"files of {path} are one table", count=len(files))
            return [tuple(files)]
        return [*files]

    def fingerprint(self, path: Any) -> str:
        """Return a hash of the file's bytes, or of the arrays."""
        if isinstance(path, str | Place):
            return super().fingerprint(path)
        digest = hashlib.sha256()
        for name in path:
            values = np.asarray(path[name])
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            plain = values.tobytes() if values.dtype.kind != "O" else repr(values.tolist()).encode()
            digest.update(plain)
        return digest.hexdigest()

    def episodes(self, part: Any) -> Iterator[Episode]:
        """Read the table and cut it into episodes.

        A table of up to `WHOLE_BYTES` is read as a whole. A larger one is read in pieces, for which the rows
        of an episode must follow one another.

        Raises:
            MissingColumn: A column is missing.
            BadValues: Text among numbers, different lengths, or an end inside an episode.
        """
        codes, files = EpisodeCodes(), part if isinstance(part, tuple) else (part,)
        try:
            for first, columns in self._pieces(files, codes):
                yield from cut_episodes(first, columns)
        except UserError as error:
            if isinstance(error, RepeatedStep):
                error.describe([*codes.known], self._columns_of(files[0]), part)
            _locate(error, part)
            raise

    def _columns_of(self, file: Any) -> dict[str, tuple[str, ...]]:
        try:
            return self._found(open_table(file)[0])
        except UserError as error:
            _locate(error, file)
            raise

    def _blocks(
        self, file: Any, roles: Mapping[str, tuple[str, ...]], codes: EpisodeCodes
    ) -> Iterator[dict[str, Array]]:
        """Yield the column [N, …] of each role, block by block."""
        row = 0
        try:
            for block in open_table(file)[1](sorted({name for names in roles.values() for name in names})):
                numbers = self._numbers(roles, block, row, codes)
                yield numbers
                row += len(next(iter(numbers.values())))
        except UserError as error:
            _locate(error, file)
            raise

    def _pieces(self, files: tuple[Any, ...], codes: EpisodeCodes) -> Iterator[tuple[int, dict[str, Array]]]:
        """Yield pieces of whole episodes: the row of the first, and the column [N, …] of each role."""
        closed = 0
        held: list[dict[str, Array]] = []
        first = row = size = 0
        for block in (it for file in files for it in self._blocks(file, self._columns_of(file), codes)):
            held.append(block)
            row += len(block["rewards"])
            size += sum(values.nbytes for values in block.values())
            if size > WHOLE_BYTES:
                merged = merge(held)
                stop = last_start(merged)
                check_episode_size(row - first - stop, size // (row - first), files[-1], first + stop, 0)
                closed = check_closed(merged, stop, closed, first)
                if stop:
                    yield first, {role: values[:stop] for role, values in merged.items()}
                held = [{role: values[stop:] for role, values in merged.items()}]
                first += stop
                size = sum(values.nbytes for values in held[0].values())
        if not row:
            raise BadValues("the table has no rows.")
        merged = merge(held)
        held.clear()
        if first:  # earlier episodes were given out: none may go on here
            check_closed(merged, 0, closed, first)
        yield first, merged

    def _numbers(
        self, columns: Mapping[str, tuple[str, ...]], block: Any, row: int, codes: EpisodeCodes
    ) -> dict[str, Array]:
        """Return the column [N, …] of each role, of one block that begins at a row of the table."""
        read = {
            role: codes.of(names[0], block[names[0]])
            if role == "episode"
            else side_by_side(role, names, block, row, self.continuous)
            for role, names in columns.items()
        }
        lengths = {role: len(values) for role, values in read.items()}
        if len(set(lengths.values())) > 1:
            raise BadValues(
                "columns of different lengths.", ", ".join(f"{r} {n:,}" for r, n in lengths.items())
            )
        return read

    def _found(self, there: list[str]) -> dict[str, tuple[str, ...]]:
        """Return the names of the columns of each role, given or usual.

        Raises:
            MissingColumn: The table does not have them.
            BadValues: One is an observation and an action.
        """
        columns: dict[str, tuple[str, ...]] = {**self.columns}
        for role, usual in ROLES.items():
            found = next((name for name in usual if name in there), None)
            if role not in columns and found is not None:
                columns[role] = (found,)
        listed = " ".join(there[:50]) + (f" and {len(there) - 50:,} more" if len(there) > 50 else "")
        known, used = {*there}, {name for names in columns.values() for name in names}
        free = [name for name in there[:1000] if name not in used]
        for role in ("obs", "actions", "rewards"):
            if role not in columns:
                near = suggest_column(ROLES[role][-1], free)
                raise MissingColumn(
                    f"no column is named for {role!r}.", f"There are: {listed}", f"--columns {role}={near} …"
                )
        for name in (name for names in columns.values() for name in names):
            if name not in known:
                raise MissingColumn(
                    f"there is no column {name!r}.", f"There are: {listed}", given=name, known=free
                )
        check_no_leak(columns)
        if not {"episode", "terminated", "truncated"} & set(columns):
            raise MissingColumn(
                "no column marks the ends of episodes.",
                f"Name a column for episode, terminated or truncated. There are: {listed}",
            )
        if "step" in columns and "episode" not in columns:
            raise MissingColumn(
                "a column for step orders the rows of episodes, but none identifies episodes.",
                f"Name a column for episode. There are: {listed}",
            )
        return columns


def _locate(error: UserError, part: Any) -> None:
    """Add the file to an error that does not name it."""
    files = part if isinstance(part, tuple) else (part,)
    named = [str(file) for file in files if isinstance(file, str | Place)]
    if named and not error.where and not any(file in error.what for file in named):
        error.where = named[0] if len(named) == 1 else f"{named[0]} … {named[-1]}"
