"""Small tables as CSV and Parquet: four episodes of five rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datasets_io.episode import Episode
from datasets_io.sources.tabular import Table

COLUMNS = "obs=x,v actions=u rewards=r episode=trip terminated=crashed"
ROWS = 20


def text(change: Callable[[list[dict[str, str]]], None] | None = None) -> str:
    """Four episodes of five rows as CSV."""
    rows = [
        {
            "x": f"{i / 10}", "v": f"{i / 5}", "u": "0.5", "r": "1", "trip": f"{i // 5}",
            "crashed": f"{i % 5 == 4:d}",
        }
        for i in range(ROWS)
    ]  # fmt: skip
    if change is not None:
        change(rows)
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]) + "\n"


def cell(name: str, row: int, value: str) -> str:
    return text(lambda rows: rows[row].update({name: value}))


def read(file: Path, columns: str = COLUMNS) -> list[Episode]:
    source = Table(columns)
    return [episode for part in source.parts(file) for episode in source.episodes(part)]


def write(place: Path, content: str | bytes) -> Path:
    file = place / "t.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def check_good(episodes: list[Episode]) -> None:
    assert [episode.length for episode in episodes] == [5] * 4
    assert all(episode.terminated for episode in episodes)
    np.testing.assert_allclose(np.concatenate([it.obs[:5, 0] for it in episodes]), np.arange(ROWS) / 10)
    np.testing.assert_allclose(np.concatenate([it.rewards for it in episodes]), np.ones(ROWS))


def parquet(place: Path, **change: Any) -> Path:
    table = {
        "x": np.arange(ROWS) / 10, "v": np.arange(ROWS) / 5, "u": np.full(ROWS, 0.5), "r": np.ones(ROWS),
        "trip": np.arange(ROWS) // 5, "crashed": np.arange(ROWS) % 5 == 4,
    }  # fmt: skip
    pq.write_table(
        pa.table({name: pa.array(it) for name, it in (table | change).items()}), place / "t.parquet"
    )
    return place / "t.parquet"
