"""Check pieces: the parts of a data set that are read separately, row groups of whole episodes."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from datasets_io import Episode, Shards, Source
from datasets_io.ingestion import writing
from datasets_io.ingestion.ingest import ingest

COLUMNS = ["obs", "actions", "new_obs", "new_actions", "last", "ret"]


class Lengths(Source):
    """Source of episodes of given lengths, with observations of a given width."""

    def __init__(self, lengths, width=3):
        self._lengths, self.width = lengths, width

    def episodes(self, part):
        rng = np.random.default_rng(0)
        for number, steps in enumerate(self._lengths):
            obs, actions = rng.normal(size=(steps + 1, self.width)), rng.uniform(-1, 1, (steps, 1))
            yield Episode(obs, actions, rng.normal(size=steps), terminated=number % 3 == 0)


@pytest.fixture
def grouped(tmp_path, monkeypatch):
    """Return a data set of files of about 100 rows in row groups of about 30, with one longer episode."""
    monkeypatch.setattr(writing, "ROW_GROUP", 30)
    lengths = np.random.default_rng(1).integers(1, 25, 40).tolist()
    lengths[11] = 170
    return ingest(Lengths(lengths), None, tmp_path, name="x", rows_per_shard=100)


def test_pieces_are_whole_episodes_and_all_rows_in_order(grouped):
    assert len(grouped.pieces) > 2 * len(grouped.files)
    ends = np.cumsum([0, *grouped.manifest.lengths])
    row = 0
    for piece in grouped.pieces:
        assert piece.rows.start == row
        row = piece.rows.stop
        assert (ends[piece.episodes.start], ends[piece.episodes.stop]) == (piece.rows.start, piece.rows.stop)
    assert row == grouped.rows


def test_a_piece_has_the_same_rows_as_in_the_file(grouped):
    files = [grouped.read(file, COLUMNS, 0.9) for file in grouped.files]
    whole = {name: np.concatenate([file[name] for file in files]) for name in COLUMNS}
    for piece in grouped.pieces:
        for name, values in grouped.read(piece, COLUMNS, 0.9).items():
            np.testing.assert_allclose(values, whole[name][piece.rows], rtol=1e-6, err_msg=name)
    for name, values in grouped.read_all(COLUMNS, 0.9).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-6)


def test_the_manifest_lists_the_row_groups(grouped):
    for file, listed in zip(grouped.files, grouped.manifest.files, strict=True):
        parquet = pq.ParquetFile(file).metadata
        assert listed["groups"] == [
            parquet.row_group(group).num_rows for group in range(parquet.num_row_groups)
        ]
        assert sum(listed["groups"]) == listed["rows"]


def test_without_listed_row_groups_a_piece_is_a_file(grouped):
    path = grouped.path / "manifest.json"
    plain = json.loads(path.read_text())
    for listed in plain["files"]:
        del listed["groups"]
    path.write_text(json.dumps(plain))
    shards = Shards(grouped.path)
    assert [piece.file for piece in shards.pieces] == shards.files
    np.testing.assert_array_equal(shards.read_all(["obs"])["obs"], grouped.read_all(["obs"])["obs"])


def test_wide_rows_make_small_row_groups(tmp_path):
    shards = ingest(Lengths([100] * 60, width=2000), None, tmp_path, name="x")
    assert len(shards.files) == 1
    sizes = [piece.size * 2000 * 8 for piece in shards.pieces[:-1]]  # the source's own are float64
    assert len(sizes) == 9
    assert max(sizes) < 1.3 * writing.ROW_GROUP_BYTES
