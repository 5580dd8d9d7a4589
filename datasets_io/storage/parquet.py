"""Open Parquet files; refuse columns of Python objects.

A file declares the types of its columns, and pyarrow applies every type registered in the process: once Ray
Data is imported, one of them unpickles every cell that is read, which runs code from the file.
"""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datasets_io.errors import Corrupt


def open_parquet(source: Any, name: Any, **options: Any) -> pq.ParquetFile:
    """Open a Parquet file.

    Args:
        source: A path or an open file.
        name: Name of the file for messages.
        options: Options of `pyarrow.parquet.ParquetFile`.

    Raises:
        Corrupt: The file is not Parquet, or has a column of objects.
    """
    try:
        file = pq.ParquetFile(source, **options)
        schema = file.schema_arrow
    # ValueError and TypeError: types that Ray refuses. OSError without a number: damaged metadata.
    except (pa.ArrowException, ValueError, TypeError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise Corrupt(f"{name} cannot be read as Parquet: {error}.") from None
    check_no_objects(schema, name)
    return file


def check_no_objects(schema: pa.Schema, name: Any) -> None:
    """Check that columns hold numbers, text, lists and tensors.

    Raises:
        Corrupt: A column holds objects, which can only be created by running code.
    """
    for column in schema:
        if _is_object(column.type):
            raise Corrupt(
                f"the column {column.name!r} of {name} has the type {column.type}: Python objects.",
                "Expected: numbers, text, lists or tensors.",
            )


def _is_object(kind: pa.DataType) -> bool:
    """Return True if a type, or one inside it, is defined in Python."""
    if isinstance(kind, pa.ExtensionType):
        return True
    if pa.types.is_dictionary(kind):
        return _is_object(kind.value_type)
    return any(_is_object(kind.field(index).type) for index in range(kind.num_fields))
