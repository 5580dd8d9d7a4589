"""Nested observations as vectors: Gymnasium's own layout, many rows at once, and back."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, Text, Tuple
from gymnasium.spaces.utils import flatten, flatten_space, unflatten
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_io import Episode, Source, environments
from datasets_io.errors import BadValues, MissingColumn, UnknownName
from datasets_io.flatten import (
    flat_space,
    flatten_rows,
    pick,
    select,
    unflatten_rows,
)
from datasets_io.ingestion.ingest import ingest
from datasets_io.storage.nested_spaces import nested_from_json, nested_to_json

shapes = st.lists(st.integers(1, 3), max_size=2).map(tuple)
leaves = st.one_of(
    st.builds(lambda shape: Box(-2, 3, shape, np.float32), shapes),
    st.builds(lambda shape: Box(-np.inf, np.inf, shape, np.float64), shapes),
    st.builds(lambda width: Box(0, 255, (width,), np.uint8), st.integers(1, 3)),
    st.builds(lambda n, start: Discrete(n, start=start), st.integers(1, 4), st.integers(-3, 3)),
    st.builds(MultiDiscrete, st.lists(st.integers(1, 4), min_size=1, max_size=3)),
    st.just(MultiDiscrete([[2, 3], [1, 4]], start=[[5, -2], [0, 1]])),
    st.builds(MultiBinary, st.integers(1, 4)),
    st.just(MultiBinary((2, 3))),
    st.sampled_from([MultiBinary((2, 1, 2)), MultiDiscrete(np.full((1, 2, 2), 3))]),  # no images
)
spaces = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3).map(Dict),
        st.lists(inner, min_size=1, max_size=3).map(Tuple),
    ),
    max_leaves=6,
)
SENSORS = Dict(
    [
        ("gear", Discrete(3, start=-1)),
        ("body", Dict(place=Box(-10, 10, (2,), np.float64), lamps=MultiBinary(2))),
        ("wheels", Tuple([Box(0, 1, (1,)), Box(0, 1, (1,))])),
    ]
)


def stacked(space, samples):
    """Rows as one nest of arrays instead of a list of nests."""
    if isinstance(space, Dict):
        return {key: stacked(part, [sample[key] for sample in samples]) for key, part in space.items()}
    if isinstance(space, Tuple):
        return tuple(stacked(part, [sample[i] for sample in samples]) for i, part in enumerate(space))
    return np.stack(samples)


def same(one, other):
    """Two nests of arrays, down to their dtypes."""
    if isinstance(one, dict):
        assert list(one) == list(other)
        return all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one.dtype == other.dtype and np.array_equal(one, other)


@given(spaces, st.integers(1, 4), st.integers(0, 2**31))
@settings(max_examples=150)
def test_rows_are_gymnasiums_and_come_back(space, count, seed):
    space.seed(seed)
    samples = [space.sample() for _ in range(count)]
    rows = flatten_rows(space, stacked(space, samples))
    expected = np.stack([flatten(space, sample) for sample in samples]).astype(np.float32)
    assert rows.dtype == (np.float64 if "float64" in repr(space) else np.float32)
    rows = rows.astype(np.float32)
    np.testing.assert_array_equal(rows, expected)

    # What float32 keeps comes back as it was, and as Gymnasium gives it back.
    returned = unflatten_rows(space, rows)
    assert same(returned, stacked(space, [unflatten(space, row) for row in rows]))
    np.testing.assert_array_equal(flatten_rows(space, returned), rows)


@given(spaces)
def test_the_flat_space_holds_the_rows(space):
    flat, theirs = flat_space(space), flatten_space(space)
    assert flat.dtype == np.float32
    assert flat.shape == theirs.shape
    np.testing.assert_array_equal(flat.low, theirs.low.astype(np.float32))
    assert flat.contains(flatten_rows(space, stacked(space, [space.sample()]))[0].astype(np.float32))


@given(spaces)
def test_a_space_survives_json(space):
    text = json.dumps(nested_to_json(space), allow_nan=False)
    returned = nested_from_json(json.loads(text))
    assert returned == space
    assert nested_to_json(returned) == json.loads(text)


def test_bounds_survive_json_exactly():
    space = Box(np.array([-np.inf, 0.1, 0]), np.array([1e300, np.inf, 2**53 + 2]), dtype=np.float64)
    assert nested_from_json(json.loads(json.dumps(nested_to_json(space)))) == space
    wide = Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (2,), np.int64)
    assert nested_from_json(json.loads(json.dumps(nested_to_json(wide)))) == wide


def test_layout_by_hand():
    values = {
        "gear": np.array([1, -1]),
        "body": {"place": np.array([[1.5, 2], [3, 4]]), "lamps": np.array([[0, 1], [1, 1]], np.int8)},
        "wheels": (np.array([[0.25], [0.5]], np.float32), np.array([[0.75], [1]], np.float32)),
    }
    # Gear -1 … 1 as three numbers, then the place, the lamps, and a wheel after the other.
    expected = [[0, 0, 1, 1.5, 2, 0, 1, 0.25, 0.75], [1, 0, 0, 3, 4, 1, 1, 0.5, 1]]
    assert flatten_rows(SENSORS, values).tolist() == expected


def test_parts_in_the_order_of_the_keys():
    keys = ["wheels.1", "body.place", "gear"]
    chosen = select(SENSORS, keys)
    assert list(chosen) == keys
    assert chosen["body.place"] == SENSORS["body"]["place"]
    assert flat_space(chosen).shape == (1 + 2 + 3,)
    sample = SENSORS.sample()
    assert same(pick(sample, keys)["body.place"], sample["body"]["place"])
    assert chosen.contains(pick(sample, keys))


@pytest.mark.parametrize("key", ["bodi", "body.plase", "wheels.2", "gear.x"])
def test_a_part_that_is_not_there(key):
    with pytest.raises(UnknownName, match=key):
        select(SENSORS, ["gear", key])


@pytest.mark.parametrize(
    "space",
    [Text(3), Graph(Box(0, 1, (2,)), None), Dict(a=Tuple([Text(3)])), Dict({}), Tuple([])],
)
def test_spaces_without_a_vector_are_refused(space):
    with pytest.raises(BadValues, match="no vector of fixed width"):
        flat_space(space)


def test_values_that_do_not_fit_are_refused():
    rows = np.zeros((2, 3))
    with pytest.raises(MissingColumn, match="'b'"):
        flatten_rows(Dict(a=Box(0, 1, (3,)), b=Box(0, 1)), {"a": rows})
    with pytest.raises(BadValues, match=r"observations\.a are \[2, 3\]"):
        flatten_rows(Dict(a=Box(0, 1, (2,))), {"a": rows})
    with pytest.raises(BadValues, match="different lengths"):
        flatten_rows(Tuple([Box(0, 1, (3,)), Box(0, 1, (3,))]), (rows, rows[:1]))
    with pytest.raises(BadValues, match="no dictionary"):
        flatten_rows(Dict(a=Box(0, 1)), rows)
    with pytest.raises(BadValues, match="no tuple of 2"):
        flatten_rows(Tuple([Discrete(2), Discrete(2)]), (np.zeros(2, int),))
    for choice in (-1, 3):  # -1 would be the last choice to an index
        with pytest.raises(BadValues, match="no choices"):
            flatten_rows(Discrete(3), np.array([0, choice]))
    with pytest.raises(BadValues, match=r"\[T, 5\]"):
        unflatten_rows(MultiDiscrete([2, 3]), rows)
    with pytest.raises(BadValues, match="holds no choice"):
        unflatten_rows(MultiDiscrete([1, 2]), np.array([[1, 0, 1], [1, 0, 0.0]]))


class Rover(gym.Env):
    """A world that observes a dictionary, made for this test."""

    observation_space = SENSORS
    action_space = Box(-1, 1, (1,))

    def __init__(self, steps=4):
        self.steps = steps

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        return self.observation_space.sample(), 1.0, self.t == self.steps, False, {}


class Drives(Source):
    """Nested observations, laid flat by the source."""

    env = "Rover-v0"

    def __init__(self, keys=None):
        self.seen = []
        if keys:
            self.env_options = {"observe": keys}

    def episodes(self, part):
        env = gym.make(self.env)
        keys = self.env_options.get("observe")
        space = select(SENSORS, keys) if keys else SENSORS
        for seed in range(3):
            seen = [env.reset(seed=seed)[0]]
            actions = np.zeros((4, 1), np.float32)
            seen += [env.step(action)[0] for action in actions]
            nested = stacked(SENSORS, seen)
            values = pick(nested, keys) if keys else nested
            self.seen.append(values)
            yield Episode(flatten_rows(space, values), actions, np.ones(4), terminated=True)


@pytest.mark.parametrize("image", [Box(0, 255, (4, 4), np.uint8), Box(0, 1, (4, 4, 3))])
def test_images_are_refused_by_their_name(image):
    space = Dict(arm=Dict(x=Box(-1, 1, (2,)), camera=image))
    values = stacked(space, [space.sample()])
    with pytest.raises(BadValues, match=r"^observations\.arm\.camera are images.*\n.*obs=KEY"):
        flatten_rows(space, values)
    assert flatten_rows(select(space, ["arm.x"]), pick(values, ["arm.x"])).shape == (1, 2)


class Clocked(Source):
    def episodes(self, part):
        space = Dict(time=Box(0, np.inf, (1,), np.float64), lamp=Discrete(2))
        values = {"time": 1.7e9 + np.arange(5.0)[:, None] / 10, "lamp": np.arange(5) % 2}
        yield Episode(flatten_rows(space, values), np.zeros((4, 1)), np.ones(4), terminated=True)


def test_a_part_of_which_float32_loses_the_changes_is_refused(tmp_path):
    with pytest.raises(BadValues, match=r"values in dimension 0 reach 1\.7e\+09.* this is lost"):
        ingest(Clocked(), None, tmp_path, name="clocked")


def test_whole_numbers_that_float32_does_not_hold_stay_whole():
    wide, ids = Box(0, 2**62, (1,), np.int64), np.array([[2**53 + 1]])
    assert flatten_rows(Dict(a=wide, b=wide), {"a": ids, "b": ids}).tolist() == [[2**53 + 1] * 2]


@pytest.fixture
def rover():
    gym.register("Rover-v0", Rover)
    yield
    del gym.registry["Rover-v0"]


@pytest.mark.parametrize("keys", [None, ["wheels.0", "body"]])
def test_nested_observations_through_the_whole_line(tmp_path, rover, keys):
    source = Drives(keys)
    shards = ingest(source, None, tmp_path, name="drives")
    assert shards.nested_observation_space == (select(SENSORS, keys) if keys else SENSORS)

    # The environment of the data observes as they do, in the same order.
    env = environments.make(shards.env_id, shards.env_options)
    assert env.observation_space.shape == shards.observation_space.shape
    first, _ = env.reset(seed=0)
    obs = shards.read_all(["obs"])["obs"]
    np.testing.assert_array_equal(np.asarray(first, np.float32), obs[0])

    returned = unflatten_rows(shards.nested_observation_space, obs[:4])
    nested = shards.nested_observation_space
    recorded = unflatten_rows(nested, flatten_rows(nested, source.seen[0])[:4].astype(np.float32))
    assert same(returned, recorded)
