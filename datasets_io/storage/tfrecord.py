"""Read TFRecord files: frames of length, CRC of the length, data, CRC of the data. No TensorFlow."""

import struct
from collections.abc import Callable, Iterator

from datasets_io import storage
from datasets_io.errors import Corrupt, UserError

_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")
_LENGTH = struct.Struct("<Q")
_MASK_DELTA = 0xA282EAD8
RECORD_BYTES = 2**24
"""Bytes of a record, at most: scenes have about one million, and decoding takes thirty times their memory."""

RecordErrorHandler = Callable[[int, str], None]
"""Function that receives the offset of an unreadable record, and the reason."""


def read_records(
    path: str | storage.Place, on_error: RecordErrorHandler | None = None, limit: int = RECORD_BYTES
) -> Iterator[tuple[int, bytes]]:
    """Read a file record by record and check both CRCs.

    Args:
        path: File on this machine or in a bucket.
        on_error: Called for an unreadable record, instead of raising. If the data are wrong, the next record
            follows; if the length is wrong, the start of the next record is unknown and reading stops.
        limit: Bytes of a record, at most.

    Yields:
        Offset of the record in the file, and its data.

    Raises:
        UnknownName: The file does not exist.
        Corrupt: The file is truncated, or a CRC or a length is wrong.
    """

    def report(offset: int, reason: str) -> None:
        if on_error is None:
            raise Corrupt(f"{path} is damaged at byte {offset:,}.", reason)
        on_error(offset, reason)

    with storage.open_input(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        offset = 0
        while offset < size:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                report(offset, f"the file ends {len(header)} bytes into a record's header of {_HEADER.size}.")
                return
            length, length_crc = _HEADER.unpack(header)
            if masked_crc(header[: _LENGTH.size]) != length_crc:
                hint = " It is gzip: unpack it first." if not offset and header[:2] == b"\x1f\x8b" else ""
                lost = f"{size - offset:,} bytes, to the end of the file, are not read"
                report(offset, f"the CRC of the record's length is wrong: {lost}.{hint}")
                return
            left = size - offset - _HEADER.size - _FOOTER.size
            if length > left:
                report(offset, f"a record of {length:,} bytes begins here, but only {max(left, 0):,} follow.")
                return
            if length > limit:
                report(offset, f"a record of {length:,} bytes; at most {limit:,} are read.")
                offset += _HEADER.size + length + _FOOTER.size
                file.seek(offset)
                continue
            data = file.read(length)
            (data_crc,) = _FOOTER.unpack(file.read(_FOOTER.size))
            if masked_crc(data) == data_crc:
                yield offset, data
            else:
                report(offset, f"the CRC of the record's {length:,} bytes of data is wrong.")
            offset += _HEADER.size + length + _FOOTER.size


def frame(data: bytes) -> bytes:
    """Encode a record as a frame; a file is a sequence of frames."""
    length = _LENGTH.pack(len(data))
    return length + _FOOTER.pack(masked_crc(length)) + data + _FOOTER.pack(masked_crc(data))


def masked_crc(data: bytes) -> int:
    """Compute CRC-32C, rotated right by 15 bits, plus a constant: the CRC of data that hold CRCs is weak."""
    try:
        import google_crc32c
    except ImportError:
        raise UserError(
            "TFRecords need the package google-crc32c.", "", "pip install google-crc32c"
        ) from None
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
