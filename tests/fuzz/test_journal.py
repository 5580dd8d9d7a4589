"""The journal of served episodes: damaged lines are set aside, foreign ones refused, the others are kept."""

import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from fuzzing import changed, damaged, fuzz, read_or_refused
from hypothesis import given

from datasets_io import Shards
from off2on.errors import UserError
from off2on.serving.journal import LINES, Journal
from off2on.serving.served_episodes import EXTRAS, ServedEpisodes

STEPS: list[dict[str, Any]] = [
    {"id": f"{number}", "at": 1795932796000 + number, "session": "s", "episode": "a", "obs": [1.0, 0.0, 0.5],
     "action": [0.5], "log_prob": -0.5, "version": "ab", "reward": 1.0, "terminated": False,
     "truncated": number == 2, "next_obs": [1.0, 0.0, 0.5]}
    for number in range(3)
]  # fmt: skip
OPEN: list[dict[str, Any]] = [
    {key: STEPS[0][key] for key in ("at", "session", "obs", "action", "log_prob", "version")}
    | {"id": "3", "episode": "b"},
    {"id": "3", "reward": 0.5, "terminated": True, "truncated": False, "next_obs": [0.0, 0.0, 0.0]},
]
LINE_VALUES = [*STEPS, *OPEN]


def lines(values: list[Any]) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def start_and_flush(tmp_path: Path, toy: Shards, journal: bytes, batch: bytes | None = None) -> Any:
    """Start a journal on these files and add what is complete; return the number of rows, or the error."""
    shutil.rmtree(tmp_path, ignore_errors=True)
    place = tmp_path / "journal"
    place.mkdir(parents=True)
    (place / LINES).write_bytes(journal)
    if batch is not None:
        (place / "batch.jsonl").write_bytes(batch)
    source = ServedEpisodes(None, toy.observation_space, toy.action_space, EXTRAS)
    with mock.patch.dict(os.environ, {"OFF2ON_DATA": str(tmp_path / "data")}):
        opened = read_or_refused(lambda: Journal(place, "x", source))
        if isinstance(opened, UserError):
            return opened
        flushed = read_or_refused(opened.flush)
        opened.close()
        if isinstance(flushed, UserError):
            assert list(place.glob("refused-*.jsonl"))
            return flushed
        return Shards(tmp_path / "data/x").rows if (tmp_path / "data/x").exists() else 0


@fuzz
@given(content=damaged(lines(LINE_VALUES)))
def test_damaged_journals(tmp_path: Path, toy: Shards, content: bytes):
    start_and_flush(tmp_path, toy, content)


@fuzz
@given(values=changed(LINE_VALUES))
def test_changed_lines(tmp_path: Path, toy: Shards, values: Any):
    start_and_flush(tmp_path, toy, lines(values if isinstance(values, list) else [values]))


@fuzz
@given(values=changed([STEPS]))
def test_changed_batches(tmp_path: Path, toy: Shards, values: Any):
    start_and_flush(tmp_path, toy, b"", lines(values if isinstance(values, list) else [values]))


@pytest.mark.parametrize(
    ("name", "value"), [("obs", [1.0]), ("next_obs", [1.0] * 4), ("action", [0.5, 0.5]), ("action", 1)]
)
def test_an_episode_of_uneven_shapes_is_kept_aside(tmp_path: Path, toy: Shards, name: str, value: Any):
    uneven = [*STEPS[:-1], STEPS[-1] | {name: value}]
    assert start_and_flush(tmp_path, toy, b"", lines([uneven])) == 0
    (kept,) = (tmp_path / "journal").glob("refused-*.jsonl")
    assert json.loads(kept.read_bytes()) == uneven


@fuzz
@given(content=damaged(lines([STEPS])))
def test_damaged_batches(tmp_path: Path, toy: Shards, content: bytes):
    start_and_flush(tmp_path, toy, b"", content)


@pytest.mark.parametrize("batch", [None, lines([STEPS])])
def test_what_is_not_damaged_is_all_there(tmp_path: Path, toy: Shards, batch: bytes | None):
    assert start_and_flush(tmp_path, toy, lines(LINE_VALUES), batch) == 4
