import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fuzzing import ODD_VALUES, damaged, fuzz, read_or_refused
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datasets_io.episode import Episode
from datasets_io.errors import UserError
from datasets_io.sources.d4rl import D4RL

ROWS = 12
COLUMNS = {
    "observations": np.linspace(0, 1, ROWS * 2).reshape(ROWS, 2).astype(np.float32),
    "actions": np.linspace(-1, 1, ROWS)[:, None].astype(np.float32),
    "rewards": np.ones(ROWS, np.float32),
    "terminals": np.arange(ROWS) % 4 == 3,
    "timeouts": np.arange(ROWS) == 7,
}
DUMP = {
    "num_episodes": np.array(1),
    "terminated_0": np.array(True),
    **{f"{name}_0": COLUMNS[name] for name in ("observations", "actions", "rewards")},
}


def content(columns: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        for name, values in columns.items():
            file[name] = values
    return buffer.getvalue()


VALID = [content(COLUMNS), content(COLUMNS, libver="latest"), content(DUMP)]


def read(path: Path) -> list[Episode]:
    """Read all episodes and check them as an ingest does."""
    source = D4RL()
    episodes = [episode for part in source.parts(path) for episode in source.episodes(part)]
    for episode in episodes:
        episode.check(finite=False)
    return episodes


def check(found: Any) -> None:
    assert isinstance(found, UserError) or sum(episode.length for episode in found) > 0


@fuzz
@given(data=st.sampled_from(VALID).flatmap(damaged))
def test_damaged_files(data: bytes, tmp_path: Path):
    (tmp_path / "x.hdf5").write_bytes(data)
    check(read_or_refused(lambda: read(tmp_path / "x.hdf5")))


KINDS = st.sampled_from(["f2", "f4", "f8", ">f4", "i1", "i8", "u8", ">i4", "?", "c8", "S3"])
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 6, ROWS]), max_size=4).map(tuple)


@st.composite
def other_columns(draw: st.DrawFn) -> Any:
    """Draw values of a column: an array of another type or shape, or a single odd value."""
    if draw(st.integers(0, 4)) == 0:
        return draw(ODD_VALUES.filter(lambda value: isinstance(value, bool | float | str)))
    shape = draw(st.one_of(st.just((ROWS,)), st.just((ROWS, 1)), st.just((ROWS, 2)), SHAPES))
    return draw(hnp.arrays(draw(KINDS), shape))


@fuzz
@given(layout=st.sampled_from([COLUMNS, DUMP]), which=st.integers(0, 20), values=other_columns())
def test_changed_columns(layout: dict[str, Any], which: int, values: Any, tmp_path: Path):
    name = list(layout)[which % len(layout)]
    try:
        data = content({**layout, name: values})
    except (TypeError, ValueError):  # that h5py cannot write
        return
    (tmp_path / "x.hdf5").write_bytes(data)
    check(read_or_refused(lambda: read(tmp_path / "x.hdf5")))


@pytest.mark.parametrize("data", VALID)
def test_the_files_that_are_changed_are_valid(data: bytes, tmp_path: Path):
    (tmp_path / "x.hdf5").write_bytes(data)
    assert sum(episode.length for episode in read(tmp_path / "x.hdf5")) == ROWS
