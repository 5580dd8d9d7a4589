"""Damaged data sets of RLDS: episodes, or a refusal."""

import json
import shutil
from pathlib import Path
from typing import Any

from fuzzing import changed, damaged, fuzz, read_or_refused
from hypothesis import given

from datasets_io.episode import Episode
from datasets_io.errors import UserError
from datasets_io.sources.rlds import RLDS
from datasets_io.storage.tfrecord import frame, read_records

FILES = Path(__file__).parents[1] / "fixtures" / "rlds" / "arm" / "0.1.0"
SHARD = FILES / "arm-train.tfrecord-00000-of-00001"
RECORDS = [data for _, data in read_records(SHARD)]


def check(folder: Path, name: str, content: bytes) -> None:
    """Read a copy of the data set with another content of one file."""
    shutil.copytree(FILES, folder, dirs_exist_ok=True)
    (folder / name).write_bytes(content)
    source = RLDS(last_step="keep")
    found = read_or_refused(
        lambda: [episode for part in source.parts(folder) for episode in source.episodes(part)]
    )
    if not isinstance(found, UserError):
        assert all(isinstance(episode, Episode) for episode in found)


@fuzz
@given(content=damaged(RECORDS[0]))
def test_damaged_records_in_whole_frames(content: bytes, tmp_path: Path):
    check(tmp_path / "arm", SHARD.name, b"".join(map(frame, [content, *RECORDS[1:]])))


@fuzz
@given(content=damaged(SHARD.read_bytes()))
def test_damaged_frames(content: bytes, tmp_path: Path):
    check(tmp_path / "arm", SHARD.name, content)


@fuzz
@given(plain=changed(json.loads((FILES / "features.json").read_text())))
def test_changed_features(plain: Any, tmp_path: Path):
    check(tmp_path / "arm", "features.json", json.dumps(plain).encode())


@fuzz
@given(plain=changed(json.loads((FILES / "dataset_info.json").read_text())))
def test_changed_descriptions(plain: Any, tmp_path: Path):
    check(tmp_path / "arm", "dataset_info.json", json.dumps(plain).encode())
