"""Columns and members of NPZ files."""

import zipfile

import numpy as np
import pytest
from hdf5_files import N, columns, padded

from datasets_io.errors import BadValues, Corrupt, DataError
from datasets_io.sources import column_checks
from datasets_io.sources.npz import open_npz
from datasets_io.sources.ogbench import OGBench


@pytest.mark.parametrize(("compression", "name"), [(zipfile.ZIP_LZMA, "lzma"), (zipfile.ZIP_BZIP2, "bzip2")])
def test_other_compression_is_told(tmp_path, compression, name):
    np.savez(tmp_path / "plain.npz", **columns())
    with (
        zipfile.ZipFile(tmp_path / "plain.npz") as plain,
        zipfile.ZipFile(tmp_path / "x.npz", "w", compression) as other,
    ):
        for member in plain.namelist():
            other.writestr(member, plain.read(member))
    with pytest.raises(BadValues, match=name):
        OGBench().parts(tmp_path / "x.npz")


def test_encrypted_members_are_told(tmp_path):
    np.savez(tmp_path / "x.npz", **columns())
    content = bytearray((tmp_path / "x.npz").read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(signature, at + 1)
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(BadValues, match="encrypted"):
        OGBench().parts(tmp_path / "x.npz")


def test_objects_are_refused_where_they_are_used(tmp_path):
    objects = np.array([{"a": 1}] * N, object)
    np.savez(tmp_path / "x.npz", **columns(about=objects))
    assert len(OGBench().parts(tmp_path / "x.npz")) == 1  # not looked at
    np.savez(tmp_path / "x.npz", **columns(rewards=objects))
    with pytest.raises(BadValues, match="rewards holds object"):
        OGBench().parts(tmp_path / "x.npz")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(column_checks, "EXPANDED_BYTES", 2**20)
    rows = 200_000
    widths = {"observations": (rows, 8), "actions": (rows, 1)}
    zeros = {name: np.zeros(widths.get(name, rows), np.float32) for name in columns()}
    np.savez_compressed(tmp_path / "x.npz", **zeros)
    with pytest.raises(Corrupt, match="9,600,000 bytes"):
        OGBench().parts(tmp_path / "x.npz")


@pytest.mark.parametrize("shape", [(10**12,), (-3,), ()])
def test_a_header_that_declares_another_shape(tmp_path, shape):
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
    with open_npz(tmp_path / "x.npz") as file, pytest.raises(DataError, match="x"):
        file.columns(["x"])


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("rewards", np.zeros((N, 2))),
        ("terminals", np.where(np.arange(N) == 3, 2, 0)),
        ("terminals", np.where(np.arange(N) == 3, np.nan, 0)),
        ("terminals", np.zeros((N, 3))),
        ("actions", np.zeros((N, 0))),
        ("observations", np.zeros((N, 2, 2, 2))),
    ],
)
def test_a_column_of_an_archive_is_named(tmp_path, name, column):
    np.savez(tmp_path / "x.npz", **columns(**{name: column}))
    with pytest.raises(BadValues, match=name):
        OGBench().parts(tmp_path / "x.npz")


def test_padded_sequences_of_an_archive_are_told(tmp_path):
    np.savez(tmp_path / "x.npz", **padded())
    with pytest.raises(BadValues, match="padded"):
        OGBench().parts(tmp_path / "x.npz")
