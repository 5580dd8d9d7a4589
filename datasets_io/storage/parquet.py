"""Open Parquet files; refuse columns made of Python objects.

A file names the types of its columns, and whatever types the process knows are taken at their word: once
Ray Data is imported, one of them unpickles every cell that is looked at.
"""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datasets_io.errors import Corrupt


def open_parquet(source: Any, name: Any, **options: Any) -> pq.ParquetFile:
    """Open a file.

    Args:
        source: A path or an open file.
        name: For messages.
        options: Of `pyarrow.parquet.ParquetFile`.

    Raises:
        Corrupt: It is no Parquet, or has a column of objects.
    """
    try:
        file = pq.ParquetFile(source, **options)
        schema = file.schema_arrow
    except (pa.ArrowException, ValueError, TypeError) as error:  # the last two of types that Ray refuses
        raise Corrupt(f"{name} cannot be read as Parquet: {error}.") from None
    check_no_objects(schema, name)
    return file


def check_no_objects(schema: pa.Schema, name: Any) -> None:
    """Check that columns hold numbers, text, lists and tensors.

    Raises:
        Corrupt: One holds objects, which only running code can make.
    """
    for column in schema:
        if _is_object(column.type):
            raise Corrupt(
                f"the column {column.name!r} of {name} is of the type {column.type}, made by code.",
                "Numbers, text, lists and tensors were expected.",
            )


def _is_object(kind: pa.DataType) -> bool:
    """Return True if a type, or one inside it, is defined in Python."""
    if isinstance(kind, pa.ExtensionType):
        return True
    if pa.types.is_dictionary(kind):
        return _is_object(kind.value_type)
    return any(_is_object(kind.field(index).type) for index in range(kind.num_fields))
