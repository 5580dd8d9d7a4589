"""Changed manifests and damaged shards: the data set is read, or it is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import changed, damaged, fuzz, read_or_refused
from hypothesis import given
from hypothesis import strategies as st

from datasets_io.ingestion.ingest import ingest
from datasets_io.shards.manifest import Manifest
from datasets_io.shards.reading import Shards
from datasets_io.sources.toy import ToyPendulum


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return ingest(ToyPendulum(episodes=2), None, tmp_path_factory.mktemp("data"), name="small")


@fuzz
@given(data=st.data())
def test_changed_manifests(data: st.DataObject, small: Shards):
    plain = data.draw(changed(json.loads(small.manifest.to_json())))
    found = read_or_refused(lambda: Manifest.from_json(json.dumps(plain)))
    if isinstance(found, Manifest):
        assert sum(found.lengths) == found.rows == sum(file["rows"] for file in found.files)


@fuzz
@given(data=st.data())
def test_damaged_manifests(data: st.DataObject, small: Shards):
    content = data.draw(damaged(small.manifest.to_json().encode()))
    found = read_or_refused(lambda: Manifest.from_json(content))
    if isinstance(found, Manifest):
        assert len(found.returns) == found.episodes


@fuzz
@given(data=st.data())
def test_damaged_shards(data: st.DataObject, small: Shards):
    file = small.files[0]
    assert isinstance(file, Path)
    whole = file.read_bytes()
    try:
        file.write_bytes(data.draw(damaged(whole)))
        found: Any = read_or_refused(
            lambda: small.read_all(["obs", "new_obs", "rewards", "last", "ret"], 0.9)
        )
        if isinstance(found, dict):
            assert {len(values) for values in found.values()} == {small.rows}
            assert all(isinstance(values, np.ndarray) for values in found.values())
    finally:
        file.write_bytes(whole)
