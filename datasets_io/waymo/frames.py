"""The fields of a protobuf message that is mostly small messages of one size, a run of which costs one step.

Protobuf's own classes make an object of each point. Here what lies side by side stays together, as bytes that
`wire` turns into columns.
"""

from typing import NamedTuple

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
HEADER = 2
"""Bytes of tag and size before each message of a run."""


class NonCanonicalMessage(Exception):
    """Bytes that are no message in protobuf's canonical form; protobuf may still be able to read them."""


class MessageRun(NamedTuple):
    """Messages of one size, one after the other.

    Args:
        data: Of each its tag, its size, itself.
        size: Bytes of a message, without tag and size.
        number: Of messages.
    """

    data: bytes
    size: int
    number: int


def walk(data: bytes, repeated: int, runs: list[MessageRun]) -> tuple[dict[int, int], int]:
    """Take a message apart.

    Args:
        data: The message.
        repeated: Number of the field of small messages.
        runs: Those are added here, in order.

    Returns:
        The message's varints by the numbers of their fields, as they are on the wire (of several of a number
        the last); how many small messages there are.

    Raises:
        Unusual: It is no message; or it has a tag of more than one byte, a group, or small messages of more
            than 127 bytes.
    """
    wanted, integers, total = repeated << 3 | _LENGTH, dict[int, int](), 0
    place, stop = 0, len(data)
    try:
        while place < stop:
            tag, value = data[place], data[place + 1]
            wire_type = tag & 7
            if tag == wanted and value < 128:
                stride = HEADER + value
                # Where the next message's tag would be is a tag, as long as all before it had this size.
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
    """A number of at most 64 bits, and where the next thing begins."""
    number, shift = data[place] & 127, 7
    while data[place] > 127:
        place += 1
        number |= (data[place] & 127) << shift
        shift += 7
        if number >> 64 or shift > 70:
            raise NonCanonicalMessage
    return number, place + 1
