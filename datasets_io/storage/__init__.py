"""Files and folders, on this machine or in a bucket (`s3://`, `gs://`).

`places` opens, copies and deletes; `listing` lists; `buckets` connects to object stores; `redaction` removes
credentials from text; `errors` converts errors of file systems and stores; `parquet` opens Parquet files;
`tfrecord` and `tf_example` read TensorFlow's records, through classes of `messages`.
"""

from datasets_io.storage.buckets import Location
from datasets_io.storage.listing import list_files, list_folders, sizes, split_pattern, versions
from datasets_io.storage.places import (
    Place,
    absolute,
    copy,
    delete,
    exists,
    filesystem,
    is_file,
    is_folder,
    locate,
    open_input,
    open_output,
    publish,
    read_bytes,
    read_text,
    size,
    temporary_path_for,
    write_text,
)

__all__ = [
    "Location",
    "Place",
    "absolute",
    "copy",
    "delete",
    "exists",
    "filesystem",
    "is_file",
    "is_folder",
    "list_files",
    "list_folders",
    "locate",
    "open_input",
    "open_output",
    "publish",
    "read_bytes",
    "read_text",
    "size",
    "sizes",
    "split_pattern",
    "temporary_path_for",
    "versions",
    "write_text",
]
