"""Check the ingest: refused data, replaced data sets, and shards that Ray Data reads."""

import threading

import numpy as np
import pytest

from datasets_io import Episode, Source, open_shards, storage
from datasets_io.errors import BadValues, Exists, UserError
from datasets_io.ingestion.ingest import ingest
from datasets_io.ingestion.workspace import open_workspace
from datasets_io.shards.columns import FIXED_COLUMNS
from datasets_io.shards.reading import DERIVED
from datasets_io.storage.names import check_name, derive_name, is_valid_name

MADE = sorted({*FIXED_COLUMNS, *DERIVED} - {"new_obs"})
"""Columns that are made of an episode."""


class Numbers(Source):
    """Source of four short episodes."""

    def __init__(self, change=None, **attributes):
        self._change = change or (lambda episodes: episodes)
        vars(self).update(attributes)

    def episodes(self, part):
        rng = np.random.default_rng(0)
        episodes = [
            {"obs": rng.normal(size=(6, 2)), "actions": rng.uniform(-1, 1, (5, 1)), "rewards": np.ones(5)}
            for _ in range(4)
        ]
        for number, arrays in enumerate(self._change(episodes)):
            yield Episode(**arrays, terminated=number % 2 == 0)


def test_an_existing_data_set_is_only_replaced_on_request(tmp_path):
    first = ingest(Numbers(), None, tmp_path, name="x")
    with pytest.raises(Exists, match="--overwrite"):
        ingest(Numbers(), None, tmp_path, name="x")

    def halve(episodes):
        return episodes[:2]

    second = ingest(Numbers(halve), None, tmp_path, name="x", overwrite=True)
    assert (first.episodes, second.episodes) == (4, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_refused_replacement_keeps_the_old_data(tmp_path):
    ingest(Numbers(), None, tmp_path, name="x")
    with pytest.raises(BadValues, match="no episode"):
        ingest(Numbers(lambda episodes: []), None, tmp_path, name="x", overwrite=True)
    open_shards(tmp_path / "x").verify()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_finished_parts_that_cannot_be_used_are_counted(tmp_path, caplog):
    space = open_workspace(tmp_path / "x", overwrite=False)
    with space.begin("one plan"):
        storage.write_text(space.reports / "00000.json", "{}")
    with space.begin("one plan"):
        assert not caplog.records
    with space.begin("another plan"):
        assert "finished 1 of its parts; they are removed" in caplog.text


BAD_NAMES = [
    "..",
    ".",
    "../x",
    "a/b",
    "",
    "x.partial",
    ".x",
    "-x",
    "a@1",
    "a b",
    "a\\b",
    "x" * 101,
    "é",
    "a\n",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_not_valid_is_refused_before_anything_is_touched(tmp_path, name):
    (tmp_path / "mine").write_text("of somebody else")
    with pytest.raises(UserError) as refused:
        ingest(Numbers(), None, tmp_path / "data", name=name, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert is_valid_name(refused.value.try_.removeprefix("--name "))


@pytest.mark.parametrize("name", ["x", "_x", "0001", "A-b_c.d", "x" * 100, "x.partial2"])
def test_valid_names(name):
    assert check_name(name) == name == derive_name(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a@1", "a-1"), ("-dash", "dash"), ("données", "donnees"), ("my lab/x", "my-lab-x"), ("..", "data"),
        ("", "data"), ("x.partial", "x"), ("数据", "data"), ("x" * 99 + ".partial", "x" * 99),
    ],
)  # fmt: skip
def test_a_name_is_derived_from_any_text(text, name):
    assert derive_name(text) == name
    assert is_valid_name(name)


def change(number, **arrays):
    def apply(episodes):
        episodes[number] |= arrays
        return episodes

    return apply


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (change(2, obs=np.zeros((6, 3))), r"shapes of episodes differ: obs \[3\].* at row 10, obs \[2\]"),
        (change(1, rewards=np.ones(4)), r"5 actions, but rewards of shape \[4\]"),
        (change(1, rewards=np.ones((5, 2))), r"rewards has shape \[5, 2\]"),
        (change(1, obs=np.zeros((9, 2))), r"5 actions and 9 observations"),
        (change(1, obs=np.zeros((1, 2)), actions=np.zeros((0, 1)), rewards=np.zeros(0)), "has no step"),
        (change(1, obs=np.full((6, 2), "a")), "obs has shape .* type <U1"),
        (
            change(3, obs=np.full((6, 2), 1e300)),
            r"5 rows with values too large for float32, .* first at row 15",
        ),
        (change(1, actions=np.zeros(5, int)), "differ"),
        *((change(1, extras={name: np.ones(5)}), f"extra column '{name}'") for name in MADE),
    ],
)
def test_invalid_episodes_are_refused(tmp_path, fault, words):
    with pytest.raises(BadValues, match=words):
        ingest(Numbers(fault), None, tmp_path, name="x")
    assert not list(tmp_path.iterdir())


def test_nan_in_the_last_observation_alone_is_found(tmp_path):
    obs = np.zeros((6, 2))
    obs[5, 1] = np.nan
    with pytest.raises(BadValues, match=r"after the last action.*first at row 9"):
        ingest(Numbers(change(1, obs=obs)), None, tmp_path, name="x")
    shards = ingest(Numbers(change(1, obs=obs)), None, tmp_path, name="x", nan="drop-episode")
    assert shards.episodes == 3


def test_each_dimension_of_the_actions_has_its_own_bounds(tmp_path):
    from gymnasium.spaces import Box

    actions = np.tile([0.5, -3.0], (5, 1))
    wide = np.tile([0.5, -7.5], (5, 1)) * np.array([[1, 1], [-5, 1], [1, 1], [np.nan, 1], [1, 1]])

    def given(episodes):
        return [episode | {"actions": actions} for episode in episodes[:3]] + [
            episodes[3] | {"actions": wide}
        ]

    source = Numbers(given, action_space=Box(np.float32([-1, -5]), np.float32([1, 5])))
    fine = Numbers(lambda episodes: given(episodes)[:3], action_space=source.action_space)
    assert ingest(fine, None, tmp_path, name="fine").manifest.faults == []
    shards = ingest(source, None, tmp_path, name="x", nan="drop-episode")
    (fault,) = (fault for fault in shards.manifest.faults if fault.kind == "outside")
    assert (fault.count, fault.first_row, fault.largest) == (6, 15, -7.5)


@pytest.mark.parametrize("clip", [False, True])
def test_an_episode_with_an_infinite_action_is_left_out(tmp_path, clip):
    from gymnasium.spaces import Box

    actions = np.float32([[0.5], [-np.inf], [3], [np.inf], [np.nan]])
    source = Numbers(change(1, actions=actions), action_space=Box(-1, 1, (1,)))
    shards = ingest(source, None, tmp_path, name="x", nan="drop-episode", clip_actions=clip)
    assert shards.episodes == 3
    faults = {fault.kind: (fault.count, fault.largest) for fault in shards.manifest.faults}
    assert faults == {"nan": (3, None), "outside": (1, 3.0), "left_out": (1, None)}


def test_no_thread_outlives_an_ingest(tmp_path):
    before = threading.active_count()
    ingest(Numbers(), None, tmp_path, name="x", rows_per_shard=5)
    with pytest.raises(BadValues):
        ingest(Numbers(change(2, obs=np.zeros((6, 3)))), None, tmp_path, name="y", rows_per_shard=5)
    assert threading.active_count() == before


def test_an_action_outside_a_discrete_space_is_refused(tmp_path):
    from gymnasium.spaces import Discrete

    def discrete(episodes):
        for episode in episodes:
            episode["actions"] = np.array([0, 1, 2, 1, 0])
        return episodes

    with pytest.raises(BadValues, match=r"4 values outside 0 … 1, largest 2, first at row 2"):
        ingest(Numbers(discrete, action_space=Discrete(2)), None, tmp_path, name="x")
    with pytest.raises(BadValues, match="do not fit"):
        ingest(Numbers(action_space=Discrete(2)), None, tmp_path, name="x")


def test_an_environment_that_does_not_fit_the_data_is_refused(tmp_path):
    with pytest.raises(BadValues, match=r"shape \[2\], those of the environment \[3\]"):
        ingest(Numbers(env="Pendulum-v1"), None, tmp_path, name="x")


def test_an_environment_that_cannot_be_made_here_is_kept_by_name(tmp_path):
    shards = ingest(Numbers(env="NoSuchThing-v0"), None, tmp_path, name="x")
    assert shards.env_id == "NoSuchThing-v0"
    assert "cannot be created here" in str(shards.manifest.faults[0])


def test_options_are_checked(tmp_path):
    with pytest.raises(BadValues, match="refuse or drop-episode"):
        ingest(Numbers(), None, tmp_path, name="x", nan="ignore")


@pytest.mark.parametrize("discount", [2.0, -0.5, np.nan])
def test_a_discount_is_from_0_to_1(tmp_path, discount):
    with pytest.raises(UserError, match=r"discount .* out of range"):
        ingest(Numbers(), None, tmp_path, name="x", discount=discount)
    assert not list(tmp_path.iterdir())
    for edge in (0, 1):
        assert ingest(Numbers(), None, tmp_path, name=f"at-{edge}", discount=edge).manifest.discount == edge


@pytest.mark.slow
def test_ray_data_reads_shards_as_real_arrays(tmp_path, ray_session):
    import ray.data

    shards = ingest(Numbers(), None, tmp_path, name="numbers", rows_per_shard=5)
    ray.data.DataContext.get_current().enable_progress_bars = False
    # The folder, not a list of files: for several files Ray 2.60 imports fsspec's HTTP module in threads,
    # and without aiohttp, which Ray does not ask for, that fails.
    rows = ray.data.read_parquet(str(shards.folder))
    batch = rows.sort(["eps_id", "t"]).take_batch(100, batch_format="numpy")
    assert batch["obs"].dtype == np.float32
    assert batch["obs"].shape == (shards.rows, 2)
    assert len(shards.files) == 4
    np.testing.assert_array_equal(batch["obs"], shards.read_all(["obs"])["obs"])
