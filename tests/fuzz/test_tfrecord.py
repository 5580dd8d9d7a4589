"""Damaged scenes of Waymo: they become episodes, are left out and counted, or the file is refused."""

from pathlib import Path

from fuzzing import damaged, fuzz, read_or_refused
from hypothesis import given
from waymo_records import made

from datasets_io.episode import Episode
from datasets_io.errors import UserError
from datasets_io.storage.tfrecord import frame
from datasets_io.waymo import Waymo

RECORD = made("scene").SerializeToString()


def check(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    source = Waymo()
    found = read_or_refused(lambda: list(source.episodes(str(file))))
    if not isinstance(found, UserError):
        assert all(isinstance(episode, Episode) for episode in found)
        assert found or source.quarantined or not content


@fuzz
@given(content=damaged(RECORD))
def test_damaged_messages_in_whole_frames(content: bytes, tmp_path: Path):
    check(frame(content), tmp_path / "x.tfrecord")


@fuzz
@given(content=damaged(frame(RECORD)))
def test_damaged_frames(content: bytes, tmp_path: Path):
    check(content, tmp_path / "x.tfrecord")
