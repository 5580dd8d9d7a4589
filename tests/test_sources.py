"""Each kind of source, on files as small as its format allows, and on the two real ones where they are."""

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from datasets_io import scores
from datasets_io.catalogue import known_names, resolve_source
from datasets_io.d4rl import D4RL
from datasets_io.errors import BadValues, Corrupt, MissingColumn, UnknownName, UserError
from datasets_io.ingest import ingest
from datasets_io.tabular import Table, parse_columns
from datasets_io.toy import ToyCartPole, ToyPendulum

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


# --- D4RL --------------------------------------------------------------------------------------------------


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


def test_where_both_are_set_the_terminal_is_believed_and_it_is_said(tmp_path):
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
    assert [fault.kind for fault in shards.manifest.faults] == ["nan"]


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
    with pytest.raises(BadValues, match="following row was believed"):
        add(tmp_path / "x.hdf5", tmp_path)
    shards = add(tmp_path / "x.hdf5", tmp_path, D4RL(keep_next_obs=True))
    np.testing.assert_array_equal(shards.read_all(["new_obs"])["new_obs"], shuffled)


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
    with pytest.raises(BadValues, match="rewards 8"):
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


# --- tables ------------------------------------------------------------------------------------------------


@pytest.fixture
def trips():
    return pd.DataFrame(
        {
            "trip": ["a", "a", "a", "b", "b"],
            "x": [0.0, 1.0, 2.0, 5.0, 6.0],
            "v": [1.0, 1.0, 1.0, 2.0, 2.0],
            "u": [0.1, 0.2, 0.3, 0.4, 0.5],
            "r": [1.0, 2.0, 3.0, 4.0, 5.0],
            "crashed": [False, False, True, False, False],
        }
    )


COLUMNS = parse_columns("obs=x,v actions=u rewards=r episode=trip terminated=crashed")


def test_columns_are_parsed_from_text():
    assert COLUMNS["obs"] == ("x", "v")
    assert parse_columns(["rewards=r"]) == {"rewards": ("r",)}
    for wrong in ("ob=x", "obs", "obs="):
        with pytest.raises(UnknownName, match="nearest: obs"):
            parse_columns(wrong)


def test_a_column_may_have_any_name(tmp_path, trips):
    trips = trips.rename(columns={"v": "speed, wheel"})
    shards = add(trips, tmp_path, Table({**COLUMNS, "obs": ["x", "speed, wheel"]}))
    np.testing.assert_array_equal(shards.read_all(["obs"])["obs"][:, 1], [1, 1, 1, 2])
    assert Table("obs=x,v actions=u").columns == {"obs": ("x", "v"), "actions": ("u",)}
    with pytest.raises(UnknownName, match="nearest: actions"):
        Table({"action": "u"})


@pytest.mark.parametrize("kind", ["frame", "arrays", "csv", "parquet", "folder", "interleaved"])
def test_a_table_by_column_names(tmp_path, trips, kind):
    path = trips
    if kind == "arrays":
        path = {name: trips[name].to_numpy() for name in trips}
    elif kind in ("csv", "folder"):
        path = tmp_path / "trips" / "one.csv"
        path.parent.mkdir()
        trips.to_csv(path, index=False)
        path = path.parent if kind == "folder" else path
    elif kind == "parquet":
        path = tmp_path / "trips.parquet"
        trips.to_parquet(path)
    elif kind == "interleaved":
        path = trips.iloc[[0, 3, 1, 2, 4]].reset_index(drop=True)
    shards = add(path, tmp_path / "data", Table(COLUMNS, licence="CC0"), name="trips")
    read = shards.read_all(["obs", "actions", "rewards", "terminateds", "truncateds", "new_obs"])
    # Trip b was cut off, so what its last action led to is not known.
    np.testing.assert_array_equal(read["obs"], [[0, 1], [1, 1], [2, 1], [5, 2]])
    np.testing.assert_array_equal(read["new_obs"], [[1, 1], [2, 1], [2, 1], [6, 2]])
    np.testing.assert_array_equal(read["actions"], np.float32([[0.1], [0.2], [0.3], [0.4]]))
    assert list(read["terminateds"]) == [False, False, True, False]
    assert list(read["truncateds"]) == [False, False, False, True]
    assert shards.manifest.licence == "CC0"
    np.testing.assert_allclose(shards.action_space.high, np.float32([0.4]))


def test_usual_names_and_list_columns_need_no_mapping(tmp_path):
    frame = pd.DataFrame(
        {
            "obs": list(np.arange(8.0).reshape(4, 2)),
            "actions": [0, 1, 2, 1],
            "rewards": [1.0] * 4,
            "new_obs": list(np.arange(8.0).reshape(4, 2) + 2),
            "terminateds": [0, 1, 0, 0],
            "truncateds": [0, 0, 0, 1],
        }
    )
    frame.to_parquet(tmp_path / "x.parquet")
    shards = add(tmp_path / "x.parquet", tmp_path, Table())
    assert shards.manifest.lengths == [2, 2]
    assert shards.action_space.n == 3
    np.testing.assert_array_equal(shards.read_all(["new_obs"])["new_obs"], np.stack(frame["new_obs"]))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"columns": {"obs": "vv"}},
            MissingColumn,
            r"(?s)'vv'.*nearest: v\. There are: trip x v u r crashed",
        ),
        ({"columns": {}}, MissingColumn, "no column is named for 'obs'"),
        ({"v": ["1", "fast", "1", "2", "2"]}, BadValues, r"'v' holds 'fast' in row 1"),
        ({"v": [1, 1, np.nan, 2, 2]}, BadValues, r"1 NaN or infinite rows, first at row 2"),
        ({"x": [[1, 2], [1], [1, 2], [3, 4], [5, 6]]}, BadValues, r"'x' is ragged: 1 values in row 1"),
        ({"crashed": [0, 1, 0, 0, 0]}, BadValues, r"row 1 ends an episode that goes on in row 2"),
        ({"crashed": [0, 7, 0, 0, 0]}, BadValues, r"'crashed' holds 7 in row 1"),
        ({"trip": ["a", None, "a", "b", "b"]}, BadValues, r"row 1 belongs to no episode"),
    ],
)
def test_a_table_that_is_wrong_says_where(tmp_path, trips, change, error, words):
    columns = dict(COLUMNS) | {"obs": ("x",)} if "x" in change else dict(COLUMNS)
    if "columns" in change:
        columns = dict(COLUMNS) | change["columns"] if change["columns"] else {}
    else:
        trips = trips.assign(**change)
    with pytest.raises(error, match=words):
        add(trips, tmp_path, Table(columns), name="trips")
    assert not list(tmp_path.iterdir())


def test_columns_of_arrays_must_be_of_one_length(tmp_path, trips):
    arrays = {name: trips[name].to_numpy() for name in trips} | {"r": np.ones(4)}
    with pytest.raises(BadValues, match="different lengths"):
        add(arrays, tmp_path, Table(COLUMNS))


def test_a_table_without_ends_is_refused(tmp_path, trips):
    columns = {role: names for role, names in COLUMNS.items() if role not in ("episode", "terminated")}
    with pytest.raises(MissingColumn, match="where episodes end"):
        add(trips, tmp_path, Table(columns))


# --- a source of one's own ---------------------------------------------------------------------------------

SIX_LINES = """
import numpy as np
from datasets_io import Episode, Source

class Forklifts(Source):
    "Forklifts of the east hall."
    def episodes(self, part):
        for line in part.read_text().splitlines():
            x = np.array(line.split(), float)
            yield Episode(x, np.diff(x), -np.abs(x[1:]), terminated=x[-1] == 0)
"""


@pytest.fixture
def my_lab(tmp_path, monkeypatch):
    (tmp_path / "my_lab_of_forklifts.py").write_text(SIX_LINES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "my_lab_of_forklifts"
    sys.modules.pop("my_lab_of_forklifts", None)


def test_a_source_in_six_lines(tmp_path, my_lab):
    (tmp_path / "trips.txt").write_text("2 1 0\n5 4 4 3\n")
    source, path, name = resolve_source(f"{my_lab}:Forklifts", "trips.txt")
    shards = add(path, tmp_path, source, name=name)
    assert shards.name == "forklifts"
    assert shards.manifest.description == "Forklifts of the east hall."
    assert (shards.manifest.terminated, shards.manifest.truncated) == (1, 1)
    read = shards.read_all(["obs", "actions", "new_obs"])
    np.testing.assert_array_equal(read["obs"][:, 0], [2, 1, 5, 4, 4])
    np.testing.assert_array_equal(read["new_obs"][:, 0], [1, 0, 4, 4, 3])
    assert shards.env_id is None


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("my_lab_of_forklifts:Forklift", UnknownName, "nearest: Forklifts"),
        ("my_lab_of_forklifts:Episode", UserError, "not a Source"),
        ("my_lab_of_nothing:Forklifts", UnknownName, "no module 'my_lab_of_nothing'"),
    ],
)
def test_a_source_that_is_none_says_so(my_lab, text, error, words):
    with pytest.raises(error, match=words):
        resolve_source(text, "trips.txt")


# --- toys, catalogue, scores -------------------------------------------------------------------------------


def test_toy_pendulum_is_mediocre_wide_and_never_terminates(tmp_path):
    shards = add(None, tmp_path, ToyPendulum())
    assert shards.env_id == "Pendulum-v1"
    assert (shards.rows, shards.manifest.terminated, shards.manifest.truncated) == (10_000, 0, 50)
    assert -950 < shards.returns.mean() < -600
    assert shards.returns.max() - shards.returns.min() > 600
    read = shards.read_all(["obs", "actions"])
    assert (
        np.histogram(np.arctan2(read["obs"][:, 1], read["obs"][:, 0]), 12, (-np.pi, np.pi))[0] > 100
    ).all()
    assert (np.histogram(read["actions"], 8, (-2, 2))[0] > 300).all()


def test_toys_are_honest_and_the_same_for_the_same_seed(tmp_path):
    import gymnasium as gym

    for kind in (ToyPendulum, ToyCartPole):
        one, same, other = (
            add(None, tmp_path, kind(episodes=3, seed=seed), name=f"{kind.__name__}{i}")
            for i, seed in enumerate((4, 4, 5))
        )
        assert one.manifest.content_hash == same.manifest.content_hash != other.manifest.content_hash
        # Playing the recorded actions again gives the recorded observations and rewards.
        read = one.read_all(["actions", "new_obs", "rewards", "terminateds", "t"])
        env = gym.make(one.env_id)
        for episode, start in enumerate(np.flatnonzero(read["t"] == 0)):
            env.reset(seed=4 + episode)
            for row in range(start, start + one.manifest.lengths[episode]):
                obs, reward, terminated, _, _ = env.step(read["actions"][row])
                np.testing.assert_array_equal(obs, read["new_obs"][row])
                assert np.float32(reward) == read["rewards"][row]
                assert terminated == read["terminateds"][row]
        env.close()


def test_names_resolve(tmp_path):
    assert resolve_source("toy-pendulum", options={"seed": "3", "episodes": "2"}).source.seed == 3
    path = tmp_path / "a_file.hdf5"
    for text in ("hopper-medium-v2", "d4rl/hopper-medium-v2", "hopper-medium"):
        source, where, name = resolve_source(text, path)
        assert (source.name, where, name) == (name, path, text.removeprefix("d4rl/"))
    assert resolve_source(str(path)).name == "a_file"
    assert resolve_source("mine", tmp_path / "t.csv", {"columns": COLUMNS}).name == "mine"
    assert isinstance(resolve_source(str(tmp_path / "t.parquet")).source, Table)
    assert len(known_names()) == 157


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("toy-pendulam", None, r"nearest: toy-pendulum\. Looked in the catalogue \(157 names\)"),
        ("hoper-medium-v2", None, "nearest: hopper-medium-v2"),
        ("hopper-medium", None, "nearest: hopper-medium-v"),
        ("mine", "trips.xlsx", r"Known: \.hdf5 \.h5 \.csv \.parquet"),
    ],
)
def test_a_name_that_is_none_says_what_is_near(text, path, words):
    with pytest.raises(UnknownName, match=words):
        resolve_source(text, path)


def test_an_unknown_or_wrong_option_of_a_source_is_refused():
    with pytest.raises(UnknownName, match="nearest: episodes"):
        resolve_source("toy-pendulum", options={"episods": "3"})
    with pytest.raises(UserError, match="seed is int: got 'x'"):
        resolve_source("toy-pendulum", options={"seed": "x"})


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
