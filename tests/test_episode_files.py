"""HDF5 files by episode: those of d3rlpy, and padded sequences."""

import numpy as np
import pytest
from gymnasium.spaces import Box
from hdf5_files import N, add, columns, padded

from datasets_io.errors import BadValues, DataError, MissingColumn
from datasets_io.sources.d4rl import D4RL
from datasets_io.sources.episode_files import ACTION_SPACE


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
        {ACTION_SPACE: 3},
        {ACTION_SPACE: np.bytes_("x")},
        {ACTION_SPACE: np.bytes_('{"type": "Box", "shape": [2], "low": 0, "high": 1, "dtype": "float32"}')},
        {ACTION_SPACE: np.bytes_('{"type": "MultiBinary", "n": [1]}')},
    ],
)
def test_a_damaged_dump_of_d3rlpy_2(tmp_path, changes):
    with pytest.raises(DataError, match=r"x\.hdf5|_1"):
        add(tmp_path, dump(**changes))


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


def test_next_observations_of_padded_sequences_are_compared_or_kept(tmp_path):
    values = padded(lengths=np.full(4, 10))
    right = np.roll(values["observations"], -1, axis=1)
    shards = add(tmp_path, values | {"next_observations": right})
    assert "new_obs" not in [name for name, *_ in shards.manifest.columns]
    np.testing.assert_array_equal(shards.read_all(["new_obs"])["new_obs"], right.reshape(40, 3))
    values["next_observations"] = right + np.eye(10)[6][None, :, None]
    with pytest.raises(BadValues, match=r"4 rows are not what the following row .*first at row 6"):
        add(tmp_path, values, name="differ")
    kept = add(tmp_path, values, D4RL(keep_next_obs=True), name="kept")
    read = kept.read_all(["new_obs"])["new_obs"]
    np.testing.assert_array_equal(read, values["next_observations"].reshape(40, 3).astype(np.float32))
    with pytest.raises(BadValues, match=r"next_observations has shape \[4, 10, 2\]"):
        add(tmp_path, values | {"next_observations": right[..., :2]}, name="narrow")


@pytest.mark.parametrize("values", [columns(), padded(lengths=np.full(4, 10)), dump()])
def test_next_observations_that_are_not_there_cannot_be_kept(tmp_path, values):
    with pytest.raises(MissingColumn, match="no 'next_observations', which keep_next_obs stores"):
        add(tmp_path, values, D4RL(keep_next_obs=True))


@pytest.mark.parametrize(
    "given",
    [
        {"lengths": np.full(4, 10), "timeouts": np.arange(40).reshape(4, 10) % 4 == 3},
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


def test_only_rows_of_d4rl_have_its_box_of_actions(tmp_path):
    wide = {"actions": np.linspace(-3, 5, N, dtype=np.float32)[:, None], "terminals": np.arange(N) % 10 == 9}
    ends = {"timeouts": None, "episode_terminals": wide["terminals"]}
    files = {
        "d4rl": columns(**wide),
        "one": columns(**wide, **ends),
        "padded": padded(lengths=np.full(4, 10), actions=wide["actions"].reshape(4, 10, 1)),
    }
    found = {name: add(tmp_path, values, name=name).action_space for name, values in files.items()}
    assert found == {"d4rl": Box(-1, 1, (1,)), "one": Box(-3, 5, (1,)), "padded": Box(-3, 5, (1,))}
