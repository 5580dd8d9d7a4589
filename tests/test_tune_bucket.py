"""Searches in a bucket: killed on one machine, gone on with on another."""

import csv
import os
from pathlib import Path

import pytest
import yaml
from forked import Forked
from processes import wait_for
from searches import OFFLINE

from datasets_io import storage

pytestmark = pytest.mark.slow


def test_a_killed_search_in_a_bucket_goes_on_on_another_machine(
    bucket: storage.Location, data_root: Path, tmp_path: Path
):
    (tmp_path / "search.yaml").write_text(OFFLINE)
    place = bucket / "found"

    def search(machine: str, *words: str) -> Forked:
        env = os.environ | {"OFF2ON_DATA": str(data_root), "XDG_CACHE_HOME": str(tmp_path / machine)}
        return Forked(tmp_path, "tune", "search.yaml", f"out={place}", "trials=2", *words, env=env)

    with search("here") as killed:
        wait_for(
            lambda: storage.is_file(place / "trials.csv"), killed, 300, said=lambda: "".join(killed.told())
        )
        killed.kill()
    ended = rows(place)
    assert len(ended) == 1, "killed too early or too late to tell anything"
    assert storage.list_files(place / ended[0]["folder"], ["log.txt"])
    kept = [storage.versions(place / row["folder"]) for row in ended]

    with search("elsewhere", "--resume") as resumed:
        told, said = resumed.communicate(300)
        assert resumed.returncode == 0, said
    assert str(place / "report.html") in told
    assert [row["status"] for row in rows(place)] == ["finished"] * 2
    assert rows(place)[: len(ended)] == ended
    assert [storage.versions(place / row["folder"]) for row in ended] == kept
    best = storage.read_text(place / "best.yaml")
    first = max(rows(place), key=lambda row: float(row["score"]))
    assert yaml.safe_load(best)["expectile"] == float(first["expectile"])

    with search("a third", "--report-only") as again:
        _, said = again.communicate(100)
        assert again.returncode == 0, said
    assert lines(storage.read_text(place / "best.yaml")) == lines(best)
    page = storage.read_text(place / "report.html")
    assert all(row["expectile"] in page for row in rows(place))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a third", "elsewhere", "here", "search.yaml"]


def rows(place: storage.Location) -> list[dict[str, str]]:
    return list(csv.DictReader(storage.read_text(place / "trials.csv").splitlines()))


def lines(text: str) -> list[str]:
    """Without comments, which name a folder of the machine."""
    return [line for line in text.splitlines() if not line.startswith("#")]
