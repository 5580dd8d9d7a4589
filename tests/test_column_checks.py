"""Columns of HDF5 files and of episodes: shapes, types and flags."""

import h5py
import numpy as np
import pytest
from hdf5_files import N, add, bits, columns

from datasets_io.diagnosis.diagnose import diagnose_shards
from datasets_io.episode import Episode
from datasets_io.errors import BadValues
from datasets_io.flatten import unflatten_rows
from datasets_io.sources.column_checks import to_flags


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
