"""Damaged files of Arrow, and damaged descriptions of Hugging Face: episodes, or a refusal."""

import json
import shutil
from pathlib import Path
from typing import Any

from fuzzing import changed, damaged, fuzz, read_or_refused
from hypothesis import given

from datasets_io.episode import Episode
from datasets_io.errors import UserError
from datasets_io.sources.hugging_face import HuggingFace

FILES = Path(__file__).parents[1] / "fixtures" / "hf_datasets" / "disk"
NAME = "data-00000-of-00002.arrow"


def check(folder: Path, name: str, content: bytes) -> None:
    """Read a copy of the data set with another content of one file."""
    shutil.copytree(FILES, folder, dirs_exist_ok=True)
    (folder / name).write_bytes(content)
    source = HuggingFace()
    found = read_or_refused(
        lambda: [episode for part in source.parts(folder) for episode in source.episodes(part)]
    )
    if not isinstance(found, UserError):
        assert all(isinstance(episode, Episode) for episode in found)


@fuzz
@given(content=damaged((FILES / NAME).read_bytes()))
def test_damaged_batches(content: bytes, tmp_path: Path):
    check(tmp_path / "x", NAME, content)


@fuzz
@given(plain=changed(json.loads((FILES / "state.json").read_text())))
def test_changed_states(plain: Any, tmp_path: Path):
    check(tmp_path / "x", "state.json", json.dumps(plain).encode())
