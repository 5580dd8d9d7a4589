"""Damaged CSV and Parquet files: their episodes are read, or the file is refused."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzzing import damaged, fuzz, read_or_refused
from hypothesis import given

from datasets_io.episode import Episode
from datasets_io.errors import DataError
from datasets_io.sources.tabular import Table

COLUMNS = "obs=x actions=u rewards=r episode=trip terminated=crashed"
ROWS = 12
CSV = "x,u,r,trip,crashed\n" + "".join(
    f'{i / 10},"0.5",-1e-3,{"ab"[i // 6]},{i % 6 == 5:d}\n' for i in range(ROWS)
)


def _parquet() -> bytes:
    file = io.BytesIO()
    table = {
        "x": pa.array([[i, -i / 3] for i in range(ROWS)]),
        "u": pa.array(np.linspace(-1, 1, ROWS)),
        "r": pa.array(["0.5"] * ROWS).dictionary_encode(),
        "trip": pa.array([f"trip {i // 6}" for i in range(ROWS)]),
        "crashed": pa.array([i % 6 == 5 for i in range(ROWS)]),
    }
    pq.write_table(pa.table(table), file, row_group_size=5)
    return file.getvalue()


def check(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    found = read_or_refused(lambda: list(Table(COLUMNS).episodes(str(file))))
    if not isinstance(found, DataError):
        assert all(isinstance(episode, Episode) and episode.length > 0 for episode in found)


@fuzz
@given(content=damaged(CSV.encode()))
def test_damaged_csv(content: bytes, tmp_path: Path):
    check(content, tmp_path / "t.csv")


@fuzz
@given(content=damaged(_parquet()))
def test_damaged_parquet(content: bytes, tmp_path: Path):
    check(content, tmp_path / "t.parquet")
