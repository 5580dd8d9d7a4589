"""Columns of HDF5 and NPZ files: shapes, types, sizes, links, flags; what float32 cannot hold."""

import os
import zipfile

import h5py
import numpy as np
import pytest

from datasets_io.diagnosis.diagnose import diagnose_shards, diagnose_source
from datasets_io.episode import Episode
from datasets_io.errors import BadValues, Corrupt, DataError, MissingColumn, UnknownName
from datasets_io.flatten import unflatten_rows
from datasets_io.ingestion.ingest import ingest
from datasets_io.source import Source
from datasets_io.sources import column_checks
from datasets_io.sources.column_checks import to_flags
from datasets_io.sources.d4rl import D4RL
from datasets_io.sources.npz import open_npz
from datasets_io.sources.ogbench import OGBench

N = 40


def columns(n=N, **changes):
    rng = np.random.default_rng(0)
    values = {
        "observations": rng.normal(size=(n, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (n, 1)).astype(np.float32),
        "rewards": rng.normal(size=n).astype(np.float32),
        "terminals": np.zeros(n, bool),
        "timeouts": np.arange(n) % 10 == 9,
    } | changes
    return {name: column for name, column in values.items() if column is not None}


def write(path, values):
    with h5py.File(path, "w") as file:
        for name, column in values.items():
            if callable(column):
                column(file, name)
            else:
                file[name] = column
    return path


def add(folder, values, source=None, name="made", **options):
    return ingest(source or D4RL(), write(folder / "x.hdf5", values), folder, name=name, **options)


def group(file, name):
    file.create_group(name)["0"] = 1


def vlen(file, name):
    data = file.create_dataset(name, (N,), h5py.vlen_dtype("f4"))
    for row in range(N):
        data[row] = np.zeros(row % 4 + 1)


def references(file, name):
    file.create_dataset(name, (N,), h5py.ref_dtype)[:] = [file["actions"].ref] * N


def opaque(file, name):
    file.create_dataset(name, data=np.zeros(N, "V4"))


def empty(file, name):
    file[name] = h5py.Empty("f4")


def bits(kind):
    return np.zeros(N, kind)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("rewards", np.zeros((N, 2))),
        ("rewards", 3.0),
        ("rewards", bits(complex)),
        ("rewards", bits("S3")),
        ("rewards", bits([("a", "f4"), ("b", "i4")])),
        ("rewards", group),
        ("rewards", vlen),
        ("rewards", references),
        ("rewards", opaque),
        ("rewards", empty),
        ("observations", np.zeros((N, 0))),
        ("observations", np.zeros((N, 2, 2, 2))),
        ("observations", np.zeros((N, 4, 4), np.uint8)),
        ("observations", group),
        ("actions", np.zeros((N, 0))),
        ("actions", np.zeros((N, 1, 2))),
        ("terminals", np.zeros((N, 3))),
        ("terminals", bits("S5")),
        ("timeouts", np.zeros((N, 2), bool)),
        ("timeouts", group),
        ("infos/action_log_probs", np.zeros((N, 2))),
        ("next_observations", np.zeros((N, 5))),
    ],
)
def test_a_column_of_another_shape_or_type_is_named(tmp_path, name, column):
    with pytest.raises(BadValues) as caught:
        add(tmp_path, columns(**{name: column}))
    assert name in caught.value.what
    if isinstance(column, np.ndarray):
        assert str(list(column.shape)) in caught.value.what
    assert [path.name for path in tmp_path.iterdir()] == ["x.hdf5"]


@pytest.mark.parametrize("value", [np.nan, -1, 0.5, 7])
@pytest.mark.parametrize("name", ["terminals", "timeouts"])
def test_a_flag_is_0_or_1(tmp_path, name, value):
    with pytest.raises(BadValues, match=rf"{name} holds .* in row 3"):
        add(tmp_path, columns(**{name: np.where(np.arange(N) == 3, value, 0)}))


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32, ">i4"])
@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_flags_and_rewards_of_any_type_of_numbers(tmp_path, kind, shape):
    values = columns()
    plain = add(tmp_path, values, name="plain").manifest
    for name in ("terminals", "timeouts", "rewards"):
        values[name] = values[name].reshape(shape)
        values[name] = values[name] if name == "rewards" else values[name].astype(kind)
    assert add(tmp_path, values).manifest.content_hash == plain.content_hash


def test_two_flags_a_row_are_no_flags():
    with pytest.raises(BadValues, match=r"\[600, 2\]"):
        to_flags(np.zeros((600, 2)), "x")
    with pytest.raises(BadValues, match="row 1,003"):
        to_flags(np.array([0, 1, 0, 2]), "x", first_row=1000)


def test_flags_of_another_length_are_named_with_both_shapes(tmp_path):
    with pytest.raises(BadValues, match=r"(?s)observations \[40, 3\].*terminals \[80\]"):
        add(tmp_path, columns(terminals=np.zeros(80, bool)))


def test_big_endian_files_are_read(tmp_path):
    values = columns()
    plain = add(tmp_path, values, name="plain").manifest
    big = {name: column.astype(column.dtype.newbyteorder(">")) for name, column in values.items()}
    assert add(tmp_path, big).manifest.content_hash == plain.content_hash


# --- links and sizes ---------------------------------------------------------------------------------------


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


# --- layouts by episode ------------------------------------------------------------------------------------


def test_ends_of_d3rlpy_1(tmp_path):
    ends = np.arange(N) % 10 == 9
    values = columns(timeouts=None, episode_terminals=ends, terminals=np.arange(N) == 19)
    manifest = add(tmp_path, values).manifest
    # What the last action of a cut-off episode led to is not in the file.
    assert (manifest.lengths, manifest.terminated) == ([9, 10, 9, 9], 1)
    assert "d3rlpy" in [fault.kind for fault in manifest.faults]


def dump(lengths=(4, 6), terminated=(True, False), **changes):
    """A dump as d3rlpy 2.8's `ReplayBuffer.dump` writes it."""
    rng, values = np.random.default_rng(0), {"num_episodes": len(lengths), "version": "2.1"}
    for number, (length, end) in enumerate(zip(lengths, terminated, strict=True)):
        values[f"observations_{number}"] = rng.normal(size=(length, 2)).astype(np.float32)
        values[f"actions_{number}"] = rng.integers(0, 3, (length, 1)).astype(np.int32)
        values[f"rewards_{number}"] = np.arange(length, dtype=np.float32)[:, None]
        values[f"terminated_{number}"] = end
    return values | changes


def test_a_dump_of_d3rlpy_2(tmp_path):
    values = dump()
    shards = add(tmp_path, values)
    read = shards.read_all(["obs", "actions", "rewards", "terminateds"])
    assert shards.manifest.lengths == [4, 5]
    np.testing.assert_array_equal(read["obs"][:4], values["observations_0"])
    np.testing.assert_array_equal(read["actions"][4:], values["actions_1"][:5, 0])
    assert read["rewards"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert np.flatnonzero(read["terminateds"]).tolist() == [3]


@pytest.mark.parametrize(
    "changes",
    [
        {"num_episodes": 10**9},
        {"num_episodes": np.nan},
        {"num_episodes": np.zeros(3)},
        {"rewards_1": np.zeros((6, 2))},
        {"rewards_1": np.zeros(5)},
        {"terminated_1": 0.5},
        {"terminated_1": "no"},
        {"observations_1_0": np.zeros((6, 2))},
    ],
)
def test_a_damaged_dump_of_d3rlpy_2(tmp_path, changes):
    with pytest.raises(DataError, match=r"x\.hdf5|_1"):
        add(tmp_path, dump(**changes))


def padded(**changes):
    values = columns(terminals=np.arange(N) % 10 == 9, timeouts=None)
    return {name: column.reshape(4, 10, *column.shape[1:]) for name, column in values.items()} | changes


@pytest.mark.parametrize(
    "given",
    [
        {"lengths": np.array([10, 3, 1, 7])},
        {"mask": np.arange(10) < np.array([10, 3, 1, 7])[:, None]},
        {"valid": (np.arange(10) < np.array([10, 3, 1, 7])[:, None]).astype(np.float32)},
    ],
)
def test_padded_sequences_are_read_to_their_lengths(tmp_path, given):
    values = padded(**given, terminals=np.ones(4, bool))
    shards = add(tmp_path, values)
    assert shards.manifest.lengths == [10, 3, 1, 7]
    assert shards.manifest.terminated == 4
    obs = np.concatenate([values["observations"][i, :n] for i, n in enumerate([10, 3, 1, 7])])
    np.testing.assert_array_equal(shards.read_all(["obs"])["obs"], obs)


@pytest.mark.parametrize(
    "given",
    [
        {"lengths": np.array([10, 3, 0, 7])},
        {"lengths": np.array([10, 3, 11, 7])},
        {"lengths": np.array([10, 3, 2.5, 7])},
        {"mask": np.arange(40).reshape(4, 10) % 2},
        {"mask": np.full((4, 10), 0.5)},
        {"mask": np.ones((4, 10)), "terminals": np.arange(40).reshape(4, 10) == 5},
        {},
    ],
)
def test_padded_sequences_without_usable_lengths_are_refused(tmp_path, given):
    with pytest.raises((BadValues, MissingColumn), match=r"x\.hdf5"):
        add(tmp_path, padded(**given))


# --- what float32 cannot hold ------------------------------------------------------------------------------


class Given(Source):
    """Episodes that are given."""

    def __init__(self, *episodes):
        self._episodes = episodes

    def episodes(self, part):
        yield from self._episodes


def made(folder, obs, name="made", rewards=None, **options):
    steps = len(obs) - 1
    rewards = np.ones(steps) if rewards is None else rewards
    episode = Episode(obs, np.linspace(-1, 1, steps), rewards, terminated=False)
    return ingest(Given(episode), None, folder, name=name, **options)


STEPS = np.arange(1001.0)
WALK = 0.3 * np.random.default_rng(0).normal(size=1001).cumsum()


@pytest.mark.parametrize(
    "column",
    [
        1.7e9 + 0.1 * STEPS,  # Unix time in seconds
        1.7e12 + 100 * STEPS,  # in milliseconds
        (1.7e18 + 1e8 * STEPS).astype(np.int64),  # in nanoseconds
        1.7e9 + 0.1 * STEPS + 86_400 * (STEPS > 500),  # with a pause
        5.3e6 + WALK / 10,  # UTM, metres
    ],
)
def test_an_offset_that_float32_loses_is_refused(tmp_path, column):
    with pytest.raises(BadValues) as caught:
        made(tmp_path, np.stack([np.asarray(WALK, column.dtype), column], axis=1))
    assert "dimension 1" in str(caught.value)


@pytest.mark.parametrize(
    "column",
    [
        5e5 + 1000 * WALK,
        1000 + WALK,
        np.full(1001, 1.7e9),
        1 + 1e-16 * STEPS,
        0.6 + 1e-9 * WALK,  # noise of a simulator
        np.float32(1.7e9) + np.zeros(1001),
        100 - 1e-4 * STEPS,
        (STEPS > 500) * 1e9,
        STEPS.astype(np.int64),
    ],
)
def test_columns_without_a_lost_offset_are_kept(tmp_path, column):
    assert made(tmp_path, column).rows == 1000


def test_an_offset_is_measured_over_all_parts(tmp_path):
    class Parts(Given):
        def parts(self, path):
            return [0, 1]

        def episodes(self, part):
            yield Episode(1500.0 + 50 * part + 1e-3 * WALK, WALK[1:], WALK[1:], terminated=False)

    kept = ingest(Parts(), None, tmp_path, name="kept")
    assert "offset" not in [fault.kind for fault in kept.manifest.faults]
    with pytest.raises(BadValues, match="float32"):
        made(tmp_path, 1500.0 + 1e-3 * WALK)


def test_a_check_before_the_ingest_finds_an_offset(tmp_path):
    source = Given(Episode(1.7e9 + 0.1 * STEPS, WALK[1:], WALK[1:], terminated=False))
    found = diagnose_source(source, None, "x", "off2on data add x").findings
    assert [one.severity for one in found if one.check == "reading" and "float32" in one.what] == ["error"]


@pytest.mark.parametrize("kind", [np.float64, np.longdouble])
def test_values_too_large_for_float32_are_named(tmp_path, kind):
    with pytest.raises(BadValues, match=r"obs .* 1 rows with values too large for float32"):
        made(tmp_path, np.where(STEPS == 5, 1e300, WALK).astype(kind))
    with pytest.raises(BadValues, match=r"rewards .* too large for float32"):
        made(tmp_path, WALK, rewards=np.full(1000, -1e39))


def test_whole_numbers_that_are_rounded_are_reported(tmp_path):
    ids = np.random.default_rng(0).integers(0, 2**30, 1001)
    (fault,) = made(tmp_path, ids).manifest.faults
    assert (fault.kind, fault.column, fault.refused) == ("rounded", "obs", False)
    assert 900 < fault.count <= 1001
    assert made(tmp_path, ids % 2**24, name="small").manifest.faults == []


# --- episodes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"terminated": np.nan},
        {"terminated": "False"},
        {"terminated": np.zeros(5, bool)},
        {"truncated": 2},
        {"obs": [[1, 2], [1]]},
        {"obs": np.zeros((6, 0))},
        {"obs": np.float64(3)},
        {"obs": np.array([object()] * 6)},
        {"actions": np.zeros((5, 2, 3))},
        {"actions": np.full(5, 2**63 + 5, np.uint64)},
        {"rewards": np.zeros((5, 2))},
        {"rewards": np.zeros(5, complex)},
        {"extras": {"action_logp": np.zeros((5, 2))}},
        {"extras": {"x": np.zeros(4)}},
        {"extras": {"x": 3.0}},
        {"extras": {"new_obs": np.zeros((5, 3))}},
    ],
)
def test_an_episode_that_is_none(changes):
    arrays = {"obs": np.zeros((6, 2)), "actions": np.zeros((5, 1)), "rewards": np.zeros(5), "terminated": 0}
    Episode(**arrays).check()
    with pytest.raises(BadValues):
        Episode(**arrays | changes).check()


def test_stacked_observations_of_a_file_are_stored_as_vectors(tmp_path):
    values = columns(observations=np.random.default_rng(0).normal(size=(N, 4, 3)).astype(np.float32))
    values["next_observations"] = np.roll(values["observations"], -1, axis=0)
    shards = add(tmp_path, values)
    assert shards.observation_space.shape == (12,)
    back = unflatten_rows(shards.nested_observation_space, shards.read_all(["obs"])["obs"])
    np.testing.assert_array_equal(back, values["observations"])


def test_choices_are_few(tmp_path):
    with pytest.raises(BadValues, match="1099511627776"):
        add(tmp_path, columns(actions=np.where(np.arange(N) == 3, 2**40, 0)))


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_whole_numbers_of_one_column_are_choices(tmp_path, shape):
    shards = add(tmp_path, columns(actions=(np.arange(N) % 3).reshape(shape)))
    assert shards.action_space.n == 3


def test_constant_actions_and_episodes_of_one_step(tmp_path):
    shards = add(tmp_path, columns(5, actions=np.zeros((5, 2)), terminals=np.ones(5), timeouts=None))
    assert shards.manifest.lengths == [1] * 5
    assert shards.action_space.shape == (2,)


def test_discounts_given_as_terminals_are_noticed(tmp_path):
    going_on = np.arange(N) % 10 != 9
    shards = add(tmp_path, columns(terminals=going_on, timeouts=None))
    assert ("one_step", 33) in [(fault.kind, fault.count) for fault in shards.manifest.faults]
    (found,) = (finding for finding in diagnose_shards(shards).findings if finding.check == "one step")
    assert (found.severity, "discounts" in found.means) == ("warning", True)


# --- NPZ ---------------------------------------------------------------------------------------------------


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
