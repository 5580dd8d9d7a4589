"""Links and declared sizes of HDF5 files: nothing outside the file is opened, nothing huge is allocated."""

import os

import h5py
import numpy as np
import pytest
from hdf5_files import N, add, columns, write

from datasets_io.errors import BadValues, Corrupt, DataError, UnknownName
from datasets_io.sources.d4rl import D4RL
from datasets_io.sources.ogbench import OGBench


def link(kind, *where):
    def make(file, name):
        file[name] = kind(*where)

    return make


def virtual(file, name):
    layout = h5py.VirtualLayout((N,), "f4")
    layout[:] = h5py.VirtualSource("missing.h5", "r", (N,))
    file.create_virtual_dataset(name, layout)


def external(file, name):
    file.create_dataset(name, (N,), "u1", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


@pytest.mark.parametrize(
    "column",
    [
        link(h5py.ExternalLink, "other.hdf5", "/rewards"),
        link(h5py.ExternalLink, "/etc/passwd", "/rewards"),
        link(h5py.SoftLink, "/gone"),
        link(h5py.SoftLink, "/timeouts"),
        link(h5py.SoftLink, "/away/rewards"),
        virtual,
        external,
    ],
)
def test_links_out_of_the_file_or_to_nothing_are_refused(tmp_path, column):
    write(tmp_path / "other.hdf5", columns())
    values = columns(timeouts=column, away=link(h5py.ExternalLink, str(tmp_path / "other.hdf5"), "/"))
    with pytest.raises(BadValues, match="timeouts"):
        add(tmp_path, values)


def test_a_link_out_of_the_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    with pytest.raises(BadValues, match="pipe"):
        add(tmp_path, columns(rewards=link(h5py.ExternalLink, str(tmp_path / "pipe"), "/rewards")))


def test_a_link_within_the_file_is_followed(tmp_path):
    values = columns()
    plain = add(tmp_path, values, name="plain").manifest
    values = {"data/r": values.pop("rewards"), **values, "rewards": link(h5py.SoftLink, "/data/r")}
    assert add(tmp_path, values).manifest.content_hash == plain.content_hash


def declared(rows, width, **options):
    def make(file, name):
        file.create_dataset(name, (rows, width) if width else (rows,), "f4", **options)

    return make


@pytest.mark.parametrize("rows", [10**12, 10**10, 40_000_000])
@pytest.mark.parametrize("options", [{}, {"chunks": True, "compression": "gzip"}])
def test_rows_that_were_never_written_are_not_allocated(tmp_path, rows, options):
    widths = {"observations": 50, "actions": 1, "rewards": 0, "terminals": 0, "timeouts": 0}
    with pytest.raises(Corrupt, match=r"x\.hdf5"):
        add(tmp_path, {name: declared(rows, width, **options) for name, width in widths.items()})


def test_a_row_wider_than_any_observation_is_refused(tmp_path):
    wide = declared(N, 10**9, chunks=(1, 10**6), compression="gzip")
    with pytest.raises(Corrupt, match="observations"):
        add(tmp_path, columns(observations=wide))


def test_a_chunk_that_unpacks_to_gigabytes_is_refused(tmp_path):
    large = declared(10**8, 0, chunks=(10**8,), compression="gzip")
    with pytest.raises(Corrupt, match="chunks of 400,000,000 bytes"):
        add(tmp_path, columns(rewards=large))


def test_an_episode_larger_than_memory_is_refused(tmp_path):
    rows = 3_000_000
    zeros = {
        "observations": declared(rows, 20, chunks=True, compression="gzip"),
        "actions": declared(rows, 1, chunks=True, compression="gzip"),
        **dict.fromkeys(("rewards", "terminals", "timeouts"), declared(rows, 0, chunks=True)),
        "else": np.random.default_rng(0).normal(size=500_000),  # the file itself is not small
    }
    with pytest.raises(BadValues, match="3,000,000 rows"):
        add(tmp_path, zeros)


@pytest.mark.parametrize("source", [D4RL(), OGBench(reward_free=True)])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused(tmp_path, source, make):
    make(tmp_path / "x")
    with pytest.raises((UnknownName, DataError)):
        source.parts(tmp_path / "x")
