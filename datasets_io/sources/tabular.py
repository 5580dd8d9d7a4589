"""Read a table (arrays, pandas frame, CSV, Parquet) with columns named by the user."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from datasets_io import storage
from datasets_io.column_names import SPELLINGS
from datasets_io.episode import Array, Episode
from datasets_io.errors import BadValues, MissingColumn, UnknownName
from datasets_io.source import Source
from datasets_io.sources.table_cells import open_table, side_by_side
from datasets_io.storage import Place

ROLES: Mapping[str, tuple[str, ...]] = {
    **SPELLINGS,
    "episode": ("eps_id", "episode", "episode_id"),
    "action_logp": ("action_logp",),
}
"""Roles of columns, with the names that are searched if no column is given."""

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
        role, equals, names = word.partition("=")
        if not (equals and names):
            role = ""
        columns[_role(role, word)] = tuple(names.split(","))
    return columns


def _role(role: str, word: str = "") -> str:
    if role in ROLES:
        return role
    word = word or role
    raise UnknownName(
        f"{word!r} does not name columns.",
        f"Expected ROLE=COLUMN or ROLE=COLUMN,COLUMN; roles: {' '.join(ROLES)}",
        "--columns obs=x,v actions=u rewards=r episode=trip terminated=crashed",
        given=word.partition("=")[0],
        known=ROLES,
    )


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


class Table(Source):
    """A table with one row a step.

    Give it to `ingest` with a dict of arrays [N, …], a pandas frame, a .csv or .parquet file, or a folder of
    such files, each of which holds whole episodes. Rows of an episode are in order; episodes may be
    interleaved if an `episode` column identifies them.

    Args:
        columns: Role → column, or columns that are put side by side; see `ROLES`. Or as `parse_columns`
            reads. A role that is not given is searched under its usual names. `episode`, `terminated`
            or `truncated` marks the ends of episodes.
        env: Gymnasium id of the environment, if there is one.
        licence: Licence of the data.
    """

    def __init__(
        self, columns: Columns | str | None = None, env: str | None = None, licence: str = "unknown"
    ) -> None:
        self.columns = (
            parse_columns(columns)
            if isinstance(columns, str)
            else {_role(role): _names(names) for role, names in (columns or {}).items()}
        )
        self.env, self.licence = env, licence

    def parts(self, path: Any) -> list[Any]:
        """Return the table itself, or each file of a folder."""
        if not isinstance(path, str | Place) or not storage.is_folder(path):
            return [path]
        files = storage.list_files(storage.absolute(path), (".csv", ".parquet"))
        if not files:
            raise UnknownName(f"{path} holds no .csv or .parquet file.")
        return files

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

        Raises:
            MissingColumn: A column is missing.
            BadValues: Text among numbers, different lengths, or an end inside an episode.
        """
        columns = self._read(part)
        ends = [columns.pop(role, None) for role in ("terminated", "truncated")]
        rows = len(columns["rewards"])
        terminated, truncated = (np.zeros(rows, bool) if flag is None else flag for flag in ends)
        order, starts = _cut(columns.pop("episode", None), terminated | truncated)
        new_obs = columns.pop("new_obs", None)
        for start, stop in zip(starts, [*starts[1:], rows], strict=True):
            index = order[start:stop]
            _ends_last(index, terminated, truncated)
            obs = columns["obs"][index]
            extras = {"action_logp": columns["action_logp"][index]} if "action_logp" in columns else {}
            if new_obs is not None:
                extras["new_obs"] = new_obs[index]
                obs = np.concatenate([obs, new_obs[index[-1:]].reshape(1, *obs.shape[1:])])
            last = index[-1]
            yield Episode(
                obs,
                columns["actions"][index],
                columns["rewards"][index],
                terminated=bool(terminated[last]),
                truncated=bool(truncated[last]) or not terminated[last],
                extras=extras,
                row=int(index[0]),
            )

    def _read(self, part: Any) -> dict[str, Array]:
        """Return the column [N, …] of each role."""
        there, load = open_table(part)
        columns: dict[str, tuple[str, ...]] = dict(self.columns)
        for role, usual in ROLES.items():
            found = next((name for name in usual if name in there), None)
            if role not in columns and found is not None:
                columns[role] = (found,)
        for role in ("obs", "actions", "rewards"):
            if role not in columns:
                raise MissingColumn(
                    f"no column is named for {role!r}.",
                    f"There are: {' '.join(there)}",
                    f"--columns {role}={there[0] if there else 'NAME'} …",
                )
        for name in (name for names in columns.values() for name in names):
            if name not in there:
                raise MissingColumn(
                    f"there is no column {name!r}.", f"There are: {' '.join(there)}", given=name, known=there
                )
        if not {"episode", "terminated", "truncated"} & set(columns):
            raise MissingColumn(
                "no column marks the ends of episodes.",
                f"Name a column for episode, terminated or truncated. There are: {' '.join(there)}",
            )
        table = load(sorted({name for names in columns.values() for name in names}))
        read = {role: side_by_side(role, names, table) for role, names in columns.items()}
        lengths = {role: len(values) for role, values in read.items()}
        if len(set(lengths.values())) > 1:
            raise BadValues(
                "columns of different lengths.", ", ".join(f"{r} {n:,}" for r, n in lengths.items())
            )
        return read


def _cut(episode: Array | None, ends: Array) -> tuple[Array, Array]:
    """Return the order of rows by episode [N], and the start of each episode in that order [E]."""
    rows = np.arange(len(ends))
    if episode is None:
        if not len(rows):
            return rows, rows
        return rows, np.concatenate([[0], np.flatnonzero(ends[:-1]) + 1])
    if (missing := episode < 0).any():
        raise BadValues(
            f"row {int(np.argmax(missing)):,} belongs to no episode.", "Its episode column is empty."
        )
    order = np.argsort(episode, kind="stable")
    return order, np.flatnonzero(np.diff(episode[order], prepend=-1))


def _ends_last(index: Array, terminated: Array, truncated: Array) -> None:
    early = terminated[index[:-1]] | truncated[index[:-1]]
    if early.any():
        row = int(index[np.argmax(early)])
        raise BadValues(
            f"row {row:,} ends an episode that goes on in row {int(index[np.argmax(early) + 1]):,}."
        )
