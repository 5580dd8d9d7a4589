import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import damaged, fuzz, read_or_refused
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datasets_io.episode import Episode
from datasets_io.errors import UserError
from datasets_io.sources.ogbench import OGBench

ROWS = 12
COLUMNS = {
    "observations": np.linspace(0, 1, ROWS * 2).reshape(ROWS, 2).astype(np.float32),
    "actions": np.linspace(-1, 1, ROWS)[:, None].astype(np.float32),
    "rewards": np.ones(ROWS, np.float32),
    "masks": np.ones(ROWS, np.float32),
    "terminals": np.arange(ROWS) % 4 == 3,
}


def content(columns: dict[str, Any], compressed: bool = True) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **columns)
    return buffer.getvalue()


VALID = [content(COLUMNS), content(COLUMNS, compressed=False)]


def read(path: Path) -> list[Episode]:
    """Read all episodes and check them as an ingest does."""
    source = OGBench()
    episodes = [episode for part in source.parts(path) for episode in source.episodes(part)]
    for episode in episodes:
        episode.check(finite=False)
    return episodes


def check(found: Any) -> None:
    assert isinstance(found, UserError) or all(episode.length for episode in found)


@fuzz
@given(data=st.sampled_from(VALID).flatmap(damaged))
def test_damaged_files(data: bytes, tmp_path: Path):
    (tmp_path / "x.npz").write_bytes(data)
    check(read_or_refused(lambda: read(tmp_path / "x.npz")))


@fuzz
@given(
    which=st.integers(0, len(COLUMNS) - 1),
    values=hnp.arrays(
        st.sampled_from(["f2", "f8", ">f4", "i1", "u8", "?", "c8", "S3", "U2"]),
        st.one_of(st.just((ROWS,)), st.just((ROWS, 1)), st.just((ROWS, 2)), hnp.array_shapes(max_side=ROWS)),
    ),
)
def test_changed_columns(which: int, values: Any, tmp_path: Path):
    name = list(COLUMNS)[which]
    (tmp_path / "x.npz").write_bytes(content({**COLUMNS, name: values}))
    check(read_or_refused(lambda: read(tmp_path / "x.npz")))


@fuzz
@given(
    header=damaged(b"{'descr': '<f4', 'fortran_order': False, 'shape': (12,), }"), version=st.integers(0, 4)
)
def test_headers_of_an_array(header: bytes, version: int, tmp_path: Path):
    size = len(header).to_bytes(2 if version < 2 else 4, "little")
    array = b"\x93NUMPY" + bytes([version, 0]) + size + header + np.ones(ROWS, np.float32).tobytes()
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name, values in COLUMNS.items():
            buffer = io.BytesIO()
            np.save(buffer, values)
            archive.writestr(f"{name}.npy", array if name == "rewards" else buffer.getvalue())
    check(read_or_refused(lambda: read(tmp_path / "x.npz")))


@pytest.mark.parametrize("data", VALID)
def test_the_files_that_are_changed_are_valid(data: bytes, tmp_path: Path):
    (tmp_path / "x.npz").write_bytes(data)
    assert [episode.length for episode in read(tmp_path / "x.npz")] == [3, 3, 3]
