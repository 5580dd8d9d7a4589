"""Two rows with the same episode and step: the message says what they are, and its line helps."""

import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from datasets_io.errors import BadValues
from datasets_io.sources.tabular import Table

COLUMNS = "obs=x actions=u rewards=r episode=trip step=t"


def table() -> pd.DataFrame:
    frame = pd.DataFrame({"x": [0.1, None, 0.3], "u": [1.5, 2.5, 3.5], "r": [1.0, 2.0, 3.0]})
    frame["trip"], frame["t"] = "b7", [9, 1234567, 1234568]
    return pd.concat([frame, frame[1:2]], ignore_index=True)


def write(frame: pd.DataFrame, file: Path) -> Path:
    frame.to_csv(file, index=False) if file.suffix == ".csv" else frame.to_parquet(file)
    return file


def refusal(file: object) -> BadValues:
    with pytest.raises(BadValues) as refused:
        [*Table(COLUMNS).episodes(file)]
    return refused.value


def run(line: str) -> str:
    words = shlex.split(line)
    assert words[0] == "python"
    return subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("name", ["tank 1.csv", "it's.parquet"])
def test_the_line_drops_the_second_of_identical_rows(tmp_path: Path, name: str) -> None:
    file = write(table(), tmp_path / name)
    error = refusal(file)
    assert error.what.endswith("rows 1 and 3 have the same episode ('b7') and step (1234567).")
    assert error.expected == (
        "They are identical in the columns that are read.\nRows are numbered from 0, after the header."
    )
    run(error.try_)
    (episode,) = Table(COLUMNS).episodes(file.with_name(f"{file.stem}-unique{file.suffix}"))
    assert episode.rewards.tolist() == [1, 2, 3]


def test_rows_that_differ_are_printed_by_the_line(tmp_path: Path) -> None:
    frame = table()
    frame.loc[3, ["u", "r"]] = [7.25, 9.0]
    error = refusal(write(frame, tmp_path / "tank.csv"))
    assert "They differ in actions, rewards: " in error.expected
    printed = run(error.try_)
    assert "2.5" in printed
    assert "7.25" in printed


def test_rows_that_end_differently_are_not_identical() -> None:
    frame = table().assign(terminated=[0, 0, 0, 1])
    error = refusal(frame)
    assert "They differ in terminated: " in error.expected
    assert error.try_ == ""


def test_a_time_is_not_shown_as_a_number(tmp_path: Path) -> None:
    times = table().assign(t=pd.to_datetime(table()["t"], unit="h", origin="2026-01-01"))
    error = refusal(write(times, tmp_path / "tank.parquet"))
    assert error.what.endswith("rows 1 and 3 have the same episode ('b7') and step.")
