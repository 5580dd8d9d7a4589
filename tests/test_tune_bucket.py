"""Searches in a bucket: killed on one machine, gone on with on another."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from processes import wait_for
from searches import OFFLINE

from datasets_io import storage

pytestmark = pytest.mark.slow

OFF2ON = Path(sys.executable).with_name("off2on")


def test_a_killed_search_in_a_bucket_goes_on_on_another_machine(
    bucket: storage.Location, data_root: Path, tmp_path: Path
):
    (tmp_path / "search.yaml").write_text(OFFLINE)
    place = bucket / "found"

    def search(machine: str, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [OFF2ON, "tune", "search.yaml", f"out={place}", "trials=2", *words], cwd=tmp_path, text=True,
            env=os.environ | {"OFF2ON_DATA": str(data_root), "XDG_CACHE_HOME": str(tmp_path / machine)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    killed = search("here")
    wait_for(lambda: storage.is_file(place / "trials.csv"), killed, 300, said=lambda: killed.communicate()[0])
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    ended = rows(place)
    assert len(ended) == 1, "killed too early or too late to tell anything"
    assert storage.list_files(place / ended[0]["folder"], ["log.txt"])
    kept = [storage.versions(place / row["folder"]) for row in ended]

    resumed = search("elsewhere", "--resume")
    told = resumed.communicate(timeout=300)[0]
    assert resumed.returncode == 0, told
    assert str(place / "report.html") in told
    assert [row["status"] for row in rows(place)] == ["finished"] * 2
    assert rows(place)[: len(ended)] == ended
    assert [storage.versions(place / row["folder"]) for row in ended] == kept
    best = storage.read_text(place / "best.yaml")
    first = max(rows(place), key=lambda row: float(row["score"]))
    assert yaml.safe_load(best)["expectile"] == float(first["expectile"])

    again = search("a third", "--report-only")
    told = again.communicate(timeout=100)[0]
    assert again.returncode == 0, told
    assert lines(storage.read_text(place / "best.yaml")) == lines(best)
    page = storage.read_text(place / "report.html")
    assert all(row["expectile"] in page for row in rows(place))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a third", "elsewhere", "here", "search.yaml"]


def rows(place: storage.Location) -> list[dict[str, str]]:
    return list(csv.DictReader(storage.read_text(place / "trials.csv").splitlines()))


def lines(text: str) -> list[str]:
    """Without comments, which name a folder of the machine."""
    return [line for line in text.splitlines() if not line.startswith("#")]
