"""D4RL's files, as small as the format allows and, where they are, real ones; its registry; its scores."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from datasets_io import scores
from datasets_io.diagnosis import diagnose_source
from datasets_io.errors import BadValues, Corrupt, MissingColumn, UnknownName
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources import d4rl
from datasets_io.sources.d4rl import D4RL

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def shared(name):
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return path


def write_hdf5(path, lengths=(3, 4, 2), ends="ttn", width=2, next_obs=True, **changes):
    """A D4RL file: `ends` says per episode t(erminal), o(ut of time), b(oth) or n(either)."""
    rng, rows = np.random.default_rng(0), sum(lengths)
    obs = rng.normal(size=(rows, width)).astype(np.float32)
    following = np.roll(obs, -1, axis=0)
    last = np.cumsum(lengths) - 1
    following[last] = rng.normal(size=(len(lengths), width))
    data = {
        "observations": obs,
        "actions": rng.uniform(-1, 1, (rows, 1)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.zeros(rows, bool),
        "metadata/algorithm": np.bytes_("SAC"),
        "infos/qpos": rng.normal(size=(rows, 5)),
    }
    if next_obs:
        data["next_observations"] = following
    for row, end in zip(last, ends, strict=True):
        data["terminals"][row] = end in "tb"
        data["timeouts"][row] = end in "ob"
    data |= changes
    with h5py.File(path, "w") as file:
        for key, values in data.items():
            if values is not None:
                file[key] = values
    return data


def add(path, folder, source=None, name="made", **options):
    return ingest(source or D4RL(), path, folder, name=name, **options)


@pytest.mark.parametrize("next_obs", [True, False])
def test_terminals_and_timeouts_are_told_apart(tmp_path, next_obs):
    data = write_hdf5(tmp_path / "x.hdf5", ends="ton", next_obs=next_obs)
    shards = add(tmp_path / "x.hdf5", tmp_path)
    read = shards.read_all(["obs", "terminateds", "truncateds", "new_obs", "last"])
    # Without next_observations the outcome of a cut-off episode's last action is not in the file.
    rows = list(range(9)) if next_obs else [0, 1, 2, 3, 4, 5, 7]
    np.testing.assert_array_equal(read["obs"], data["observations"][rows])
    assert list(np.flatnonzero(read["terminateds"])) == [2]
    assert list(np.flatnonzero(read["truncateds"])) == ([6, 8] if next_obs else [5, 6])
    if next_obs:
        np.testing.assert_array_equal(read["new_obs"], data["next_observations"])
    else:
        inner = ~read["last"]
        np.testing.assert_array_equal(read["new_obs"][inner], data["observations"][1:][rows[:-1]][inner[:-1]])
    assert (shards.manifest.terminated, shards.manifest.truncated) == (1, 2)


def test_where_both_are_set_they_are_terminal_and_it_is_said(tmp_path):
    write_hdf5(tmp_path / "x.hdf5", ends="bbt")
    manifest = add(tmp_path / "x.hdf5", tmp_path).manifest
    assert (manifest.terminated, manifest.truncated) == (3, 0)
    (fault,) = manifest.faults
    assert (fault.kind, fault.count, fault.first_row) == ("both_ends", 2, 2)


def test_without_timeouts_episodes_end_at_terminals_and_it_is_said(tmp_path):
    write_hdf5(tmp_path / "x.hdf5", ends="ttn", next_obs=False, timeouts=None)
    manifest = add(tmp_path / "x.hdf5", tmp_path).manifest
    assert manifest.lengths == [3, 4, 1]
    assert "no_timeouts" in [fault.kind for fault in manifest.faults]


def test_without_timeouts_a_jump_of_the_observations_ends_an_episode_too(tmp_path):
    data = write_hdf5(tmp_path / "x.hdf5", ends="ton", timeouts=None)
    shards = add(tmp_path / "x.hdf5", tmp_path)
    assert shards.manifest.lengths == [3, 4, 2]
    np.testing.assert_array_equal(shards.read_all(["new_obs"])["new_obs"], data["next_observations"])
    assert any("1 rows that the following row" in str(fault) for fault in shards.manifest.faults)


def test_log_probabilities_are_kept_and_metadata_ignored(tmp_path):
    logp = np.linspace(-3, 0, 9).astype(np.float32)
    write_hdf5(tmp_path / "x.hdf5", **{"infos/action_log_probs": logp})
    shards = add(tmp_path / "x.hdf5", tmp_path)
    np.testing.assert_array_equal(shards.read_all(["action_logp"])["action_logp"], logp)
    assert "qpos" not in shards.columns


def test_nan_is_refused_with_columns_counts_and_first_rows(tmp_path):
    data = write_hdf5(tmp_path / "x.hdf5")
    data["observations"][[4, 5], 1] = np.nan
    data["rewards"][7] = np.inf
    write_hdf5(tmp_path / "x.hdf5", observations=data["observations"], rewards=data["rewards"])
    with pytest.raises(BadValues) as caught:
        add(tmp_path / "x.hdf5", tmp_path)
    lines = str(caught.value).splitlines()
    assert "2 faults in 9 rows" in lines[0]
    assert any("obs" in line and "2 NaN" in line and "first at row 4" in line for line in lines)
    assert any("rewards" in line and "1 NaN" in line and "first at row 7" in line for line in lines)
    assert "--nan drop-episode" in lines[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["x.hdf5"]  # nothing is left behind


def test_nan_may_cost_its_episode_instead(tmp_path):
    data = write_hdf5(tmp_path / "x.hdf5")
    data["observations"][4, 1] = np.nan
    write_hdf5(tmp_path / "x.hdf5", observations=data["observations"])
    shards = add(tmp_path / "x.hdf5", tmp_path, nan="drop-episode")
    assert shards.manifest.lengths == [3, 2]
    assert np.isfinite(shards.read_all(["obs"])["obs"]).all()
    assert [fault.kind for fault in shards.manifest.faults] == ["nan", "left_out"]


def test_actions_outside_the_box_are_reported_and_clipped_on_request(tmp_path):
    actions = np.zeros((9, 1), np.float32)
    actions[[5, 7]] = [[1.25], [-1.5]]
    write_hdf5(tmp_path / "x.hdf5", actions=actions)
    shards = add(tmp_path / "x.hdf5", tmp_path)
    (fault,) = shards.manifest.faults
    assert (fault.kind, fault.count, fault.first_row, fault.largest) == ("outside", 2, 5, -1.5)
    np.testing.assert_array_equal(shards.read_all(["actions"])["actions"], actions)
    clipped = add(tmp_path / "x.hdf5", tmp_path, name="clipped", clip_actions=True)
    np.testing.assert_array_equal(clipped.read_all(["actions"])["actions"], actions.clip(-1, 1))
    assert "clipped" in str(clipped.manifest.faults[0])


def test_rows_that_do_not_follow_each_other_are_refused_unless_the_file_is_believed(tmp_path):
    shuffled = np.random.default_rng(5).normal(size=(9, 2)).astype(np.float32)
    write_hdf5(tmp_path / "x.hdf5", next_observations=shuffled)
    with pytest.raises(BadValues, match="following row was taken"):
        add(tmp_path / "x.hdf5", tmp_path)
    shards = add(tmp_path / "x.hdf5", tmp_path, D4RL(keep_next_obs=True))
    np.testing.assert_array_equal(shards.read_all(["new_obs"])["new_obs"], shuffled)


@pytest.mark.parametrize(("wrong", "is_refused"), [(3, False), (4, True)])
@pytest.mark.parametrize("block", [10, 1000])
def test_a_few_next_observations_may_differ_in_any_block(tmp_path, monkeypatch, wrong, is_refused, block):
    monkeypatch.setattr(d4rl, "block_rows", lambda bytes_a_row: block)
    path, lengths = tmp_path / "x.hdf5", (3,) * 100
    following = write_hdf5(path, lengths, "o" * 100)["next_observations"]
    following[: 3 * wrong : 3] += 1  # in the first steps of the first episodes
    write_hdf5(path, lengths, "o" * 100, next_observations=following)
    findings = diagnose_source(D4RL(), path, "x", "").findings
    assert [finding.severity for finding in findings if "was taken" in finding.what] == [
        "error" if is_refused else "warning"
    ]
    if is_refused:
        with pytest.raises(BadValues, match="following row was taken"):
            add(path, tmp_path)
    else:
        (fault,) = add(path, tmp_path).manifest.faults
        assert (fault.kind, fault.count) == ("next_obs", 3)


def test_a_file_that_is_cut_short_or_no_hdf5_is_corrupt(tmp_path):
    path = tmp_path / "x.hdf5"
    path.write_text("no")
    with pytest.raises(Corrupt, match=r"x\.hdf5"):
        add(path, tmp_path)
    write_hdf5(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(Corrupt, match=r"x\.hdf5"):
        add(path, tmp_path)


def test_a_missing_key_names_those_there_are(tmp_path):
    write_hdf5(tmp_path / "x.hdf5", rewards=None)
    with pytest.raises(MissingColumn, match=r"(?s)'rewards'.*infos/qpos.*observations"):
        add(tmp_path / "x.hdf5", tmp_path)


def test_columns_of_different_lengths_are_refused(tmp_path):
    write_hdf5(tmp_path / "x.hdf5", rewards=np.zeros(8))
    with pytest.raises(BadValues, match=r"rewards \[8\]"):
        add(tmp_path / "x.hdf5", tmp_path)


def test_a_missing_file_says_where_it_looked(tmp_path):
    with pytest.raises(UnknownName, match=str(tmp_path)):
        add(tmp_path / "none.hdf5", tmp_path)


def test_parts_are_whole_episodes(tmp_path):
    write_hdf5(tmp_path / "x.hdf5", lengths=(3, 4, 2, 5, 1), ends="totot")
    source = D4RL()
    for size in range(1, 17):
        source.rows_per_shard = size
        parts = source.parts(tmp_path / "x.hdf5")
        assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
        assert parts[0].start == 0
        assert parts[-1].stop == 15
        assert {part.start for part in parts} <= {0, 3, 7, 9, 14}
        lengths = [episode.length for part in parts for episode in source.episodes(part)]
        assert lengths == [3, 4, 2, 5, 1]


def test_the_environment_is_taken_from_the_name_only_if_it_fits(tmp_path):
    write_hdf5(tmp_path / "hopper_mine.hdf5", width=11, actions=np.zeros((9, 3), np.float32))
    shards = add(tmp_path / "hopper_mine.hdf5", tmp_path)
    assert shards.env_id == "Hopper-v5"
    assert "taken from the name" in str(shards.manifest.faults[0])
    write_hdf5(tmp_path / "hopper_other.hdf5", width=12)
    other = add(tmp_path / "hopper_other.hdf5", tmp_path, name="other")
    assert other.env_id is None
    assert "was not taken" in str(other.manifest.faults[0])
    with pytest.raises(BadValues, match="not the environment"):
        add(tmp_path / "hopper_other.hdf5", tmp_path, D4RL(env="Hopper-v5"), name="third")


def test_real_halfcheetah(tmp_path):
    path = shared("halfcheetah-medium.hdf5")
    shards = add(path, tmp_path, name="halfcheetah-medium")
    assert (shards.rows, shards.episodes, shards.env_id) == (100_000, 100, "HalfCheetah-v5")
    assert shards.returns.mean() == pytest.approx(3664, abs=1)
    read = shards.read_all(["obs", "actions", "new_obs", "rewards"])
    with h5py.File(path) as file:
        for ours, theirs in {
            "obs": "observations",
            "new_obs": "next_observations",
            "actions": "actions",
        }.items():
            np.testing.assert_array_equal(read[ours], file[theirs][:])
    wanted = read["obs"].astype(np.float64)
    statistics = shards.manifest.statistics["obs"]
    np.testing.assert_allclose(statistics["mean"], wanted.mean(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(statistics["std"], wanted.std(0), rtol=1e-9)
    score = scores.normalised(shards.name, shards.returns)
    assert score.mean() == pytest.approx(100 * (3664.2 + 280.178953) / (12135 + 280.178953), abs=0.01)


def test_real_door(tmp_path):
    shards = add(shared("door-human.hdf5"), tmp_path, name="door-human")
    assert (shards.rows, shards.episodes) == (
        6729 - 25,
        25,
    )  # the outcome of each last action was not recorded
    assert shards.env_id == "AdroitHandDoor-v1"
    outside = next(fault for fault in shards.manifest.faults if fault.kind == "outside")
    assert outside.largest == pytest.approx(1.37, abs=0.01)
    assert shards.action_space.shape == (28,)
    assert (shards.action_space.high == 1).all()


def test_the_registry_is_d4rls():
    wanted = json.loads(shared("d4rl_infos.json").read_text())
    registry = scores.registry()
    assert list(registry) == sorted(wanted)
    for name, facts in wanted.items():
        entry = registry[name]
        assert (entry.low, entry.high, entry.family) == (facts["min"], facts["max"], facts["env"])
        assert facts["url"].endswith(f"/offline_rl/{entry.file}")


def test_scores_are_normalised_by_the_task():
    assert len(scores.registry()) == 155
    low, high = scores.reference("hopper-medium-v2")
    assert (low, high) == (-20.272305, 3234.3)
    np.testing.assert_allclose(
        scores.normalised("hopper-medium-v2", [low, high, (low + high) / 2]), [0, 100, 50]
    )
    assert scores.reference("d4rl/hopper-medium") == (low, high)
    assert scores.reference("toy-pendulum") is None
    assert scores.normalised("carla-town-full-v0", [1.0]) is None
