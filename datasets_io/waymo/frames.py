"""Split a protobuf message into runs of small messages of one size; a run costs one Python step.

The classes of protobuf create an object for each point. Here adjacent messages stay together, as bytes that
`wire` decodes to columns.
"""

from typing import NamedTuple

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
HEADER = 2
"""Number of bytes of tag and size before each message of a run."""


class NonCanonicalMessage(Exception):
    """The bytes are not a message in canonical form; protobuf itself may still be able to read them."""


class MessageRun(NamedTuple):
    """Consecutive messages of one size.

    Args:
        data: Tag, size and content of each message.
        size: Number of bytes of a message, without tag and size.
        number: Number of messages.
    """

    data: bytes
    size: int
    number: int


def walk(data: bytes, repeated: int, runs: list[MessageRun]) -> tuple[dict[int, int], int]:
    """Split a message into its varint fields and its runs of small messages.

    Args:
        data: The message.
        repeated: Number of the field of small messages.
        runs: List to which the runs are appended, in order.

    Returns:
        The varints of the message by field number, as encoded (the last one of a repeated field); the number
        of small messages.

    Raises:
        NonCanonicalMessage: The data are not a message, or have a tag of more than one byte, a group or
            small messages of more than 127 bytes.
    """
    wanted, integers, total = repeated << 3 | _LENGTH, dict[int, int](), 0
    place, stop = 0, len(data)
    try:
        while place < stop:
            tag, value = data[place], data[place + 1]
            wire_type = tag & 7
            if tag == wanted and value < 128:
                stride = HEADER + value
                # As long as all messages so far have this size, the next tag is one stride further.
                tags, sizes = data[place::stride], data[place + 1 :: stride]
                count = min(len(tags) - len(tags.lstrip(tags[:1])), len(sizes) - len(sizes.lstrip(sizes[:1])))
                runs.append(MessageRun(data[place : place + count * stride], value, count))
                place += count * stride
                total += count
            elif tag == wanted or not 8 <= tag < 128:
                raise NonCanonicalMessage
            elif wire_type == _FIXED64:
                place += 9
            elif wire_type == _FIXED32:
                place += 5
            elif wire_type in (_VARINT, _LENGTH):
                place += 2
                if value > 127:
                    value, place = _varint(data, place - 1)
                if wire_type == _VARINT:
                    integers[tag >> 3] = value
                else:
                    place += value
            else:
                raise NonCanonicalMessage
    except IndexError:
        raise NonCanonicalMessage from None
    if place != stop:
        raise NonCanonicalMessage
    return integers, total


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Decode a varint of at most 64 bits; return it and the offset after it."""
    number, shift = data[place] & 127, 7
    while data[place] > 127:
        place += 1
        number |= (data[place] & 127) << shift
        shift += 7
        if number >> 64 or shift > 70:
            raise NonCanonicalMessage
    return number, place + 1
