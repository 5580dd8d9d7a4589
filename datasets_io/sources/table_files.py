"""Read tables of a file, block by block: CSV, Parquet and Arrow, as columns of pyarrow.

Cells of a CSV file stay text: only `table_cells` decides which texts are numbers, for all blocks alike.
"""

import csv
import io
import json
import shlex
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from datasets_io import storage
from datasets_io.errors import BadValues, Corrupt, MissingColumn, UnknownName
from datasets_io.storage import Place
from datasets_io.storage.parquet import check_no_objects, open_parquet

BLOCK_ROWS = 65_536
BLOCK_BYTES = 2**24
"""Bytes of a CSV file that are parsed at once; a line must be shorter."""

Block = Mapping[str, Any]
"""Columns by name, of some consecutive rows."""


class TableFile(ABC):
    """A file with a table.

    Args:
        path: The file.
    """

    def __init__(self, path: Place) -> None:
        self.path = path

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of the columns.

        Raises:
            DataError: The file is not such a table.
        """

    @abstractmethod
    def blocks(self, names: list[str]) -> Iterator[Block]:
        """Yield blocks of rows with the columns of these names.

        Raises:
            DataError: A line or a page is damaged.
        """


class CSVFile(TableFile):
    """Text with a header, separated by commas, in UTF-8."""

    def names(self) -> list[str]:
        """Return the names of the columns, from the first line."""
        with storage.open_input(self.path) as file:
            text = io.TextIOWrapper(io.BytesIO(file.read(BLOCK_BYTES)), encoding="utf-8-sig", newline="")
            try:
                header = next(csv.reader(text), [])
            except UnicodeDecodeError:
                raise _not_utf8(self.path) from None
            except csv.Error as error:
                raise BadValues(f"{self.path} cannot be read as CSV: line 1: {error}.") from None
        _check_separator(self.path, header)
        if not any(header):
            raise BadValues(f"{self.path} has no header.", "Expected: the names of the columns in line 1.")
        return header

    def blocks(self, names: list[str]) -> Iterator[Block]:
        """Yield blocks of rows, whose cells are text; empty cells and NA are null."""
        convert = pcsv.ConvertOptions(
            include_columns=names,
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        )
        # One thread: with several, the errors of pyarrow do not tell the row.
        options = pcsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, encoding="utf-8")
        parse = pcsv.ParseOptions(newlines_in_values=False)
        with storage.open_input(self.path) as file:
            try:
                yield from map(_columns, pcsv.open_csv(file, options, parse, convert))
            except UnicodeDecodeError:
                raise _not_utf8(self.path) from None
            except pa.ArrowException as error:
                text = str(error).partition("\n")[0]
                if "UTF8" in text or "UTF-8" in text:
                    raise _not_utf8(self.path) from None
                if "straddling" in text:
                    text = f"a line is longer than {BLOCK_BYTES:,} bytes, or a quote is not closed"
                text = text.removeprefix("CSV parse error: ").replace("Row #", "line ")
                raise BadValues(
                    f"{self.path} cannot be read as CSV: {text[:100]}.",
                    "Expected: as many cells in each line as in the header.",
                ) from None


class ParquetFile(TableFile):
    """A Parquet file."""

    def names(self) -> list[str]:
        """Return the names of the columns."""
        with storage.open_input(self.path) as file:
            return list(open_parquet(file, self.path).schema_arrow.names)

    def blocks(self, names: list[str]) -> Iterator[Block]:
        """Yield blocks of rows."""
        with storage.open_input(self.path) as file:
            opened = open_parquet(file, self.path)
            try:
                yield from map(_columns, opened.iter_batches(_block_rows(opened, names), columns=names))
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, OSError) and error.errno:
                    raise
                text = str(error).partition("\n")[0]
                raise Corrupt(f"{self.path} is damaged: {text[:200]}.") from None


class ArrowFile(TableFile):
    """Batches of Arrow: in the stream format, as Hugging Face writes them, or in the file format."""

    def names(self) -> list[str]:
        """Return the names of the columns."""
        with storage.open_input(self.path) as file, self._convert_errors():
            return list(self._open(file).schema.names)

    def blocks(self, names: list[str]) -> Iterator[Block]:
        """Yield blocks of rows; other columns are not decoded."""
        with storage.open_input(self.path) as file, self._convert_errors():
            there = self._open(file).schema.names
            reader = self._open(file, [there.index(name) for name in names])
            is_stream = isinstance(reader, pa.RecordBatchStreamReader)
            for batch in reader if is_stream else map(reader.get_batch, range(reader.num_record_batches)):
                batch.validate(full=True)  # offsets of a damaged file may lie outside of its buffers
                yield _columns(batch)

    def _open(self, file: Any, fields: list[int] | None = None) -> Any:
        """Return pyarrow's reader of all columns, or of those with these numbers."""
        file.seek(0)
        is_file = file.read(len(_FILE_FORMAT)) == _FILE_FORMAT
        file.seek(0)
        options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
        reader = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(file, options=options)
        check_no_objects(reader.schema, self.path)
        return reader

    @contextmanager
    def _convert_errors(self) -> Iterator[None]:
        try:
            yield
        # ValueError and TypeError: types that Ray refuses. OSError without a number: damaged metadata.
        except (pa.ArrowException, ValueError, TypeError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            text = str(error).partition("\n")[0]
            raise Corrupt(f"{self.path} cannot be read as Arrow: {text[:200]}.") from None


_FILE_FORMAT = b"ARROW1"
"""First bytes of Arrow's file format; a stream has none."""
_KINDS: dict[str, type[TableFile]] = {".csv": CSVFile, ".parquet": ParquetFile, ".arrow": ArrowFile}
SUFFIXES = tuple(_KINDS)


def open_table(part: Any) -> tuple[list[str], Any]:
    """Return the names of the columns of a part, and a function from wanted names to blocks.

    Args:
        part: A file; or columns by name, such as a frame of pandas, which are one block.

    Raises:
        UnknownName: There is no such file, or it has another suffix.
        MissingColumn: Two columns have the same name.
    """
    if not isinstance(part, str | Place):
        names = [str(name) for name in part]
        return names, lambda wanted: iter([{name: part[name] for name in wanted}])
    path = storage.locate(part)
    if not storage.is_file(path):
        raise UnknownName(f"there is no file {path}.", f"Looked in {storage.absolute(path).parent}.")
    if path.suffix not in _KINDS:
        raise UnknownName(f"{path.name} is not a table that is known.", f"They end in {', '.join(_KINDS)}.")
    table = _KINDS[path.suffix](path)
    names = table.names()
    count = Counter(names)

    def blocks(wanted: list[str]) -> Iterator[Block]:
        if twice := [name for name in wanted if count[name] > 1]:
            raise MissingColumn(f"{path} has {count[twice[0]]} columns with the name {twice[0]!r}.")
        return table.blocks(wanted)

    return names, blocks


def _block_rows(file: pq.ParquetFile, names: list[str]) -> int:
    """Return the number of rows to read at once: of long lists fewer."""
    wanted, widest = {*names}, 1
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        chunks = (group.column(place) for place in range(group.num_columns))
        values = sum(it.num_values for it in chunks if it.path_in_schema.partition(".")[0] in wanted)
        widest = max(widest, values // max(1, group.num_rows))
    return max(1, min(BLOCK_ROWS, BLOCK_BYTES // (8 * widest)))


def _columns(batch: pa.RecordBatch) -> Block:
    return dict(zip(batch.schema.names, batch.columns, strict=True))


def _check_separator(path: Place, header: list[str]) -> None:
    """Check that a header without a comma is not separated by something else.

    Raises:
        BadValues: It is.
    """
    if len(header) != 1 or not (other := next((it for it in ";\t" if it in header[0]), "")):
        return
    converted = str(path).removesuffix(path.suffix) + "-commas.csv"
    decimal = ', decimal=","' if other == ";" else ""  # languages that write 1,5 separate by semicolons
    names = [json.dumps(name, ensure_ascii=False) for name in (str(path), converted)]
    code = (
        f"import pandas as pd; pd.read_csv({names[0]}, sep={json.dumps(other)}{decimal},"
        f' float_precision="round_trip").to_csv({names[1]}, index=False)'
    )
    called = "';'" if other == ";" else "tabs"
    raise BadValues(
        f"{path} is separated by {called}.", "Expected: commas.", f"python -c {shlex.quote(code)}"
    )


def _not_utf8(path: Place) -> BadValues:
    return BadValues(
        f"{path} is not text in UTF-8.", "", f"iconv -f LATIN1 -t UTF-8 {path.name} > utf8-{path.name}"
    )
