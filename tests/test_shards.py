"""Check that shards return the rows of their episodes, and that changed files are detected."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datasets_io import Episode, Source, open_shards
from datasets_io.errors import BadValues, Corrupt, MissingColumn, UnknownName
from datasets_io.flatten import unflatten_rows
from datasets_io.ingestion.ingest import ingest
from datasets_io.shards.manifest import Manifest, space_from_json, space_to_json
from datasets_io.shards.returns import returns_to_go

DISCOUNT = 0.9


class ListSource(Source):
    """Source of a list of episodes."""

    def __init__(self, episodes, **attributes):
        self._given = episodes
        vars(self).update(attributes)

    def episodes(self, part):
        yield from self._given


def make(folder, episodes, name="made", **options):
    return ingest(ListSource(episodes), None, Path(folder), name=name, **options)


numbers = st.floats(-1e6, 1e6, width=32)


@st.composite
def episode_lists(draw):
    """Draw episodes of one layout: widths, discrete or not, with or without the last observation."""
    width, discrete = draw(st.integers(1, 3)), draw(st.booleans())
    action_width = draw(st.integers(1, 2))
    episodes = []
    for _ in range(draw(st.integers(1, 6))):
        steps, extra = draw(st.integers(1, 9)), draw(st.integers(0, 1))
        terminated = draw(st.booleans())
        if not terminated and steps + extra < 2:
            extra = 1  # nothing would be left of it
        shape = (steps,) if discrete else (steps, action_width)
        kind = hnp.arrays(np.int64, shape, elements=st.integers(0, 4))
        episodes.append(
            Episode(
                draw(hnp.arrays(np.float32, (steps + extra, width), elements=numbers)),
                draw(kind if discrete else hnp.arrays(np.float32, shape, elements=numbers)),
                draw(hnp.arrays(np.float32, steps, elements=st.floats(-100, 100, width=32))),
                terminated,
                extras={"action_logp": draw(hnp.arrays(np.float32, steps, elements=numbers))},
            )
        )
    return episodes


def expected_rows(episodes):
    """Compute the columns row by row in plain Python, from their definition."""
    rows = []
    for episode in episodes:
        steps = episode.length
        after = list(episode.obs[1:])
        if len(after) < steps:
            if episode.terminated:
                after.append(episode.obs[-1])
            else:
                steps -= 1
        ret, returns = 0.0, []
        for reward in reversed(episode.rewards[:steps]):
            ret = float(reward) + DISCOUNT * ret
            returns.insert(0, ret)
        for t in range(steps):
            end = t == steps - 1
            rows.append(
                {
                    "t": t,
                    "obs": episode.obs[t],
                    "actions": episode.actions[t],
                    "rewards": episode.rewards[t],
                    "terminateds": end and episode.terminated,
                    "truncateds": end and not episode.terminated,
                    "new_obs": after[t],
                    "last": end,
                    "ret": returns[t],
                    "new_actions": np.zeros_like(episode.actions[t]) if end else episode.actions[t + 1],
                    "action_logp": episode.extras["action_logp"][t],
                }
            )
    return rows


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(episodes=episode_lists(), rows_per_shard=st.integers(1, 12))
def test_episodes_are_read_as_they_were_written(episodes, rows_per_shard):
    expected = expected_rows(episodes)
    with tempfile.TemporaryDirectory() as folder:
        shards = make(folder, episodes, rows_per_shard=rows_per_shard)
        read = shards.read_all(list(expected[0]), DISCOUNT)
        ids = shards.read_all(["eps_id"])["eps_id"]
        shards.verify()
    assert shards.rows == len(expected)
    for name, values in read.items():
        wanted = np.array([row[name] for row in expected])
        if name == "ret":  # summed in another order
            np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-3)
        else:
            np.testing.assert_array_equal(values, wanted.astype(values.dtype), err_msg=name)
    starts = np.flatnonzero(read["t"] == 0)
    assert len(set(ids)) == len(starts) == shards.episodes == len(episodes)
    assert sum(shards.manifest.rows_per_file) == shards.rows
    np.testing.assert_allclose(
        shards.returns, np.add.reduceat(read["rewards"].astype(np.float64), starts), rtol=1e-9, atol=1e-9
    )


@given(
    rewards=hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-10, 10)),
    discount=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    data=st.data(),
)
def test_returns_to_go_equal_a_plain_loop(rewards, discount, data):
    last = np.array(data.draw(st.lists(st.booleans(), min_size=len(rewards), max_size=len(rewards))))
    last[-1] = True
    expected, ret = np.zeros(len(rewards)), 0.0
    for row in reversed(range(len(rewards))):
        ret = rewards[row] + (0.0 if last[row] else discount * ret)
        expected[row] = ret
    np.testing.assert_allclose(returns_to_go(rewards, last, discount), expected, rtol=1e-5, atol=1e-5)


@pytest.fixture
def episodes():
    rng = np.random.default_rng(1)
    return [
        Episode(rng.normal(size=(steps + 1, 3)), rng.normal(size=(steps, 2)), rng.normal(size=steps), end)
        for steps, end in [(5, True), (7, False), (4, False)]
    ]


@pytest.fixture
def shards(tmp_path, episodes):
    return make(tmp_path, episodes, rows_per_shard=6)


def test_the_same_episodes_have_the_same_hash_and_one_changed_value_another(tmp_path, episodes, shards):
    again = make(tmp_path, episodes, name="again", rows_per_shard=6)
    assert again.manifest.content_hash == shards.manifest.content_hash
    rewards = episodes[2].rewards.copy()
    rewards[-1] += 1e-3
    changed = [*episodes[:2], Episode(episodes[2].obs, episodes[2].actions, rewards, False)]
    other = make(tmp_path, changed, name="other", rows_per_shard=6)
    assert other.manifest.content_hash != shards.manifest.content_hash


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_found_by_verify(shards, data):
    file = data.draw(st.sampled_from(shards.files))
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
    try:
        with pytest.raises(Corrupt, match=file.name):
            open_shards(shards.path).verify()
    finally:
        file.write_bytes(whole)
    open_shards(shards.path).verify()


def test_a_truncated_shard_does_not_open(shards):
    file = shards.files[-1]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Corrupt, match="The manifest lists"):
        open_shards(shards.path)


def test_a_missing_shard_does_not_open(shards):
    shards.files[0].unlink()
    with pytest.raises(Corrupt, match=shards.files[0].name):
        open_shards(shards.path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 99}', '{"schema_version": 2}'])
def test_a_broken_manifest_does_not_open(shards, text):
    (shards.path / "manifest.json").write_text(text)
    with pytest.raises(Corrupt, match="manifest"):
        open_shards(shards.path)


def test_a_manifest_cannot_point_outside_its_folder(shards):
    path = shards.path / "manifest.json"
    path.write_text(path.read_text().replace("part-00000.parquet", "../../etc/passwd"))
    with pytest.raises(Corrupt, match=r"files\[0\]\.name"):
        open_shards(shards.path)


def test_a_manifest_survives_json(shards):
    assert Manifest.from_json(shards.manifest.to_json()) == shards.manifest
    assert json.loads(shards.manifest.to_json())["statistics"]["obs"]["std"]


def test_spaces_survive_json_with_infinite_and_uneven_bounds():
    from gymnasium.spaces import Box, Discrete

    low = np.array([[-1, -np.inf], [0, 2]], np.float32)
    for space in (Discrete(4), Box(low, low + 3), Box(-np.inf, np.inf, (3,)), Box(-1, 1, (2,))):
        assert space_from_json(json.loads(json.dumps(space_to_json(space), allow_nan=False))) == space


def test_a_space_that_is_not_a_vector_is_refused():
    from gymnasium.spaces import MultiDiscrete

    with pytest.raises(BadValues, match="Box"):
        space_to_json(MultiDiscrete([2, 3]))


def test_pandas_alone_reads_a_shard(shards):
    frame = pd.read_parquet(shards.files[0])
    stored = ["eps_id", "t", "obs", "actions", "rewards", "terminateds", "truncateds", "final_obs"]
    assert list(frame.columns) == stored
    obs = np.stack(frame["obs"])
    assert obs.dtype == np.float32
    np.testing.assert_array_equal(obs, shards.read(shards.files[0], ["obs"])["obs"])
    ends = frame["final_obs"].notna()
    assert list(frame["t"][ends]) == [4, 6][: ends.sum()]


def test_a_missing_column_is_reported_with_the_nearest_name(shards):
    with pytest.raises(MissingColumn, match=r"nearest: new_obs"):
        shards.read_all(["new_ob"])
    with pytest.raises(MissingColumn, match="discount"):
        shards.read_all(["ret"])


def test_a_stored_return_is_used_for_its_own_discount_only(tmp_path, episodes):
    stored = make(tmp_path, episodes, discount=0.5)
    derived = make(tmp_path, episodes, name="derived")
    for discount in (0.5, 0.9):
        np.testing.assert_array_equal(
            stored.read_all(["ret"], discount)["ret"], derived.read_all(["ret"], discount)["ret"]
        )
    np.testing.assert_array_equal(stored.read_all(["ret"])["ret"], derived.read_all(["ret"], 0.5)["ret"])


def test_a_stored_next_observation_equals_the_derived_one(tmp_path, episodes, shards):
    stored = make(tmp_path, episodes, name="stored", store_new_obs=True)
    assert "new_obs" in pd.read_parquet(stored.files[0]).columns
    np.testing.assert_array_equal(
        stored.read_all(["new_obs"])["new_obs"], shards.read_all(["new_obs"])["new_obs"]
    )


def test_an_unknown_name_is_reported_with_nearest_name_and_places(shards, monkeypatch):
    monkeypatch.setenv("OFF2ON_DATA", str(shards.path.parent))
    assert open_shards("made").path == shards.path
    with pytest.raises(UnknownName) as caught:
        open_shards("maed")
    assert "nearest: made" in str(caught.value)
    assert str(shards.path.parent) in str(caught.value)
    with pytest.raises(UnknownName, match="off2on data add hopper-medium-v2"):
        open_shards("hopper-medium-v2")


def test_matrices_are_stored_as_vectors_and_given_back_in_their_shape(tmp_path):
    obs = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
    shards = make(tmp_path, [Episode(obs, np.arange(5) % 3, np.ones(5), terminated=True)])
    read = shards.read_all(["obs", "new_obs"])
    np.testing.assert_array_equal(read["obs"], obs[:5].reshape(5, 12))
    assert shards.observation_space.shape == (12,)
    back = unflatten_rows(shards.nested_observation_space, read["new_obs"])
    np.testing.assert_array_equal(back, obs[1:])
    assert shards.action_space.n == 3


@pytest.mark.parametrize("shape", [(4, 4), (3, 8, 8), (8, 8, 3)])
def test_images_are_refused(tmp_path, shape):
    episode = Episode(np.zeros((6, *shape), np.uint8), np.arange(5) % 3, np.ones(5), terminated=True)
    with pytest.raises(BadValues, match="images"):
        make(tmp_path, [episode])
