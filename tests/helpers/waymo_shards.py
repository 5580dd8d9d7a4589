"""Shards of Waymo records, written for a test, and the scenes of a data set made of them."""

from datasets_io.storage.tfrecord import frame


def shard(path, *records):
    """A TFRecord file of serialised records."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(map(frame, records)))
    return path


def damaged(data):
    """A framed record with one byte changed."""
    whole = bytearray(frame(data))
    whole[100] ^= 1
    return bytes(whole)


def names(shards):
    """The scenes of its episodes, in order."""
    return [
        name.rpartition("/")[0]
        for file in shards.files
        for name in dict.fromkeys(shards.read(file, ["eps_id"])["eps_id"])
    ]
