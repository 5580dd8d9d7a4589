"""Small files that an ingest, a download or a lock leaves: damaged ones are absent or refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from fuzzing import changed, damaged, fuzz, read_or_refused
from hypothesis import given
from hypothesis import strategies as st

from datasets_io.errors import Corrupt, Exists, UserError
from datasets_io.faults import Fault, Quarantined
from datasets_io.ingestion.own_files import listed_files, refuse_foreign_files
from datasets_io.ingestion.part_report import PartReport, combine
from datasets_io.shards.moments import Moments
from datasets_io.sources import download
from datasets_io.storage.documents import read_json
from datasets_io.storage.locks import LockOwner
from datasets_io.storage.names import check_name, derive_name, is_valid_name

FILE = {"name": "part-00000.parquet", "rows": 5, "groups": [5], "bytes": 900, "sha256": "ab" * 32}
REPORT = PartReport(
    files=[FILE],
    columns=[("obs", "float", [2]), ("rewards", "float", [])],
    moments={"obs": Moments.of(np.arange(10.0).reshape(5, 2)), "rewards": Moments.of(np.arange(5.0))},
    returns=[10.0],
    lengths=[5],
    terminated=1,
    seen=5,
    scene_files=[{"name": "part-00000.parquet", "rows": 1, "bytes": 9, "sha256": "cd" * 32}],
    quarantined=[Quarantined("a.tfrecord", 7, "broken")],
    faults=[Fault("nan", "obs", "NaN", 1, 3, 2.5)],
)
RECORD = {"url": "http://host/x.hdf5", "bytes": 9, "sha256": "ab" * 32}
VALIDATOR = {"tag": '"abc"', "bytes": 9}
OWNER = {"host": "here", "pid": 77}
MANIFEST = {"schema_version": 2, "name": "x", "files": [FILE], "scene_files": [FILE], "rows": 5}


def check_report(content: str | bytes) -> None:
    found = read_or_refused(lambda: PartReport.from_json(content))
    if isinstance(found, PartReport):
        assert found.to_json()
        assert read_or_refused(lambda: combine([found], []).rows) == sum(found.lengths)
    else:
        assert isinstance(found, Corrupt)


def test_a_report_is_read_as_it_was_written():
    text = REPORT.to_json()
    assert PartReport.from_json(text).to_json() == text


@fuzz
@given(content=damaged(REPORT.to_json().encode()))
def test_damaged_reports(content: bytes):
    check_report(content)


@fuzz
@given(value=changed(json.loads(REPORT.to_json())))
def test_changed_reports(value: Any):
    check_report(json.dumps(value))


@fuzz
@given(content=damaged(json.dumps(RECORD).encode()), value=changed(VALIDATOR), owner=changed(OWNER))
def test_records_validators_and_locks(tmp_path: Path, content: bytes, value: Any, owner: Any):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    record = download._read(path, download.Downloaded)
    assert record is None or record.bytes >= 0
    path.write_text(json.dumps(value))
    validator = download._read(path, download.Validator)
    assert validator is None or validator.tag is None or isinstance(validator.tag, str)
    path.write_text(json.dumps(owner))
    found = read_or_refused(lambda: read_json(path, LockOwner))
    assert isinstance(found, Corrupt) or found.has_ended() in (True, False)


@fuzz
@given(content=damaged(json.dumps(MANIFEST).encode()), value=changed(MANIFEST), other=st.booleans())
def test_a_folder_is_ours_by_its_manifest_or_is_refused(
    tmp_path: Path, content: bytes, value: Any, other: bool
):
    """Whatever the manifest says, a file of somebody else's is found, unless it is listed as a shard."""
    (tmp_path / "shards").mkdir(exist_ok=True)
    (tmp_path / "shards/part-00000.parquet").touch()
    (tmp_path / "notes.txt").unlink(missing_ok=True)
    if other:
        (tmp_path / "notes.txt").touch()
    for text in (content, json.dumps(value).encode()):
        (tmp_path / "manifest.json").write_bytes(text)
        found = read_or_refused(lambda: refuse_foreign_files(tmp_path, finished=True))
        refused = other or listed_files(tmp_path) is None
        assert isinstance(found, Exists) if refused else found is None


@fuzz
@given(text=st.text(max_size=300))
def test_every_text_gives_a_valid_name(text: str):
    name = derive_name(text)
    assert is_valid_name(name)
    assert (Path("data") / name).name == name
    found = read_or_refused(lambda: check_name(text))
    assert found == text if is_valid_name(text) else isinstance(found, UserError)
