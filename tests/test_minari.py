"""Data sets of Minari, made by Minari itself: read in each of its formats."""

import gc
import warnings
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Text
from minari_sets import COLUMNS, FORMATS, SPACES, Hopper, add, create, equal, nested, play, tell

from datasets_io import Shards
from datasets_io.environments import make
from datasets_io.errors import BadValues, Corrupt, MissingColumn, UnknownName
from datasets_io.export import export_minari
from datasets_io.flatten import unflatten_rows
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.catalogue import resolve_source

minari = pytest.importorskip("minari", reason="minari is not installed")

from minari.data_collector.episode_buffer import EpisodeBuffer  # noqa: E402

pytestmark = pytest.mark.usefixtures("minari_root")


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_each_format_gives_what_was_recorded(tmp_path: Path, data_format: str, env_id: str):
    options = {"max_episode_steps": 30}
    buffers = play(env_id, **options)
    create("toy/random-v0", buffers, env=gym.make(env_id, **options), data_format=data_format)
    shards = add("toy/random-v0", tmp_path)
    assert (shards.name, shards.episodes) == ("toy-random-v0", 4)
    assert shards.manifest.lengths == [len(buffer) for buffer in buffers]
    assert (shards.env_id, shards.env_options["max_episode_steps"]) == (env_id, 30)
    real = gym.make(env_id)
    assert (shards.observation_space, shards.action_space) == (real.observation_space, real.action_space)
    read = shards.read_all(COLUMNS)
    np.testing.assert_array_equal(read["obs"], np.concatenate([b.observations[:-1] for b in buffers]))
    np.testing.assert_array_equal(read["new_obs"], np.concatenate([b.observations[1:] for b in buffers]))
    np.testing.assert_array_equal(read["actions"], np.concatenate([b.actions for b in buffers]))
    np.testing.assert_array_equal(
        read["rewards"], np.concatenate([b.rewards for b in buffers]).astype(np.float32)
    )
    np.testing.assert_array_equal(read["terminateds"], np.concatenate([b.terminations for b in buffers]))
    np.testing.assert_array_equal(read["truncateds"], np.concatenate([b.truncations for b in buffers]))
    if env_id == "Pendulum-v1":
        assert (shards.manifest.terminated, shards.manifest.truncated) == (0, 4)
    else:
        assert shards.manifest.terminated > 0


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # its collector leaves a folder
@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_what_minaris_own_collector_records(tmp_path: Path, data_format: str):
    pytest.importorskip("jax", reason="minari's DataCollector needs jax: pip install 'minari[create]'")
    env = minari.DataCollector(gym.make("CartPole-v1"), data_format=data_format)
    env.action_space.seed(0)
    returns = []
    for seed in range(3):
        env.reset(seed=seed)
        returns.append(0.0)
        over = False
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            returns[-1] += float(reward)
            over = terminated or truncated
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env.create_dataset("toy/collected-v0")
    env.close()
    del env
    gc.collect()
    shards = add("toy/collected-v0", tmp_path)
    assert shards.env_id == "CartPole-v1"
    assert not shards.env_options
    np.testing.assert_array_equal(shards.returns, returns)
    assert shards.manifest.terminated == 3


@pytest.mark.parametrize("data_format", FORMATS)
def test_nested_observations_without_an_environment(tmp_path: Path, data_format: str):
    buffers = nested()
    create("lab/nested-v1", buffers, data_format=data_format, **SPACES)
    shards = add("lab/nested-v1", tmp_path)
    assert shards.env_id is None
    assert shards.observation_space.shape == (8,)
    assert shards.nested_observation_space == Hopper.observation_space
    assert (shards.manifest.terminated, shards.manifest.truncated) == (3, 2)
    back = unflatten_rows(shards.nested_observation_space, shards.read_all(["obs"])["obs"])
    np.testing.assert_array_equal(
        back["gait"], np.concatenate([b.observations["gait"][:-1] for b in buffers])
    )
    wanted = np.concatenate([b.observations["goal"]["xy"][:-1] for b in buffers])
    np.testing.assert_allclose(back["goal"]["xy"], wanted, rtol=1e-6)


def test_the_environment_observes_in_the_order_of_the_data(tmp_path: Path):
    env = gym.make("NestedHopper-v0")
    seen = [env.reset(seed=3)[0]] + [env.step(np.zeros(2, np.float32))[0] for _ in range(6)]
    (one,) = nested(1)
    obs = {
        "observation": np.stack([o["observation"] for o in seen[:5]]),
        "gait": np.stack([o["gait"] for o in seen[:5]]),
        "goal": {"xy": np.stack([o["goal"]["xy"] for o in seen[:5]])},
    }
    data = create("lab/order-v0", [replace(one, observations=obs)], **SPACES)
    tell(data, env_spec=EnvSpec("NestedHopper-v0"))
    first = add("lab/order-v0", tmp_path)
    export_minari(first, "lab/order-v1")
    for shards in (first, add("lab/order-v1", tmp_path)):
        again = make(str(shards.env_id), shards.env_options)
        assert again.observation_space.shape == shards.observation_space.shape
        wanted = shards.read_all(["obs"])["obs"]
        np.testing.assert_array_equal(again.reset(seed=3)[0].astype(np.float32), wanted[0])
        observed = again.step(np.zeros(2, np.float32))[0]
        np.testing.assert_array_equal(observed.astype(np.float32), wanted[1])


def test_parts_of_the_observations_can_be_chosen(tmp_path: Path):
    create("lab/chosen-v0", nested(), **SPACES)
    chosen, whole = (add("lab/chosen-v0", tmp_path / str(obs), **obs) for obs in ({"obs": "goal.xy"}, {}))
    assert chosen.env_options["observe"] == ["goal.xy"]
    assert [*chosen.nested_observation_space] == ["goal.xy"]
    back = unflatten_rows(whole.nested_observation_space, whole.read_all(["obs"])["obs"])
    np.testing.assert_array_equal(chosen.read_all(["obs"])["obs"], back["goal"]["xy"])
    with pytest.raises(UnknownName, match="no part 'gaol'"):
        add("lab/chosen-v0", tmp_path / "none", obs="gaol")


def test_parts_are_ranges_of_episodes(tmp_path: Path):
    create("lab/parts-v0", nested(20), **SPACES)
    whole = add("lab/parts-v0", tmp_path)
    parts = add("lab/parts-v0", tmp_path, rows_per_shard=50)
    assert len(parts.files) > 3
    equal(whole, parts, COLUMNS)
    ids = [parts.read(file, ["eps_id"])["eps_id"] for file in parts.files]
    assert set(np.concatenate(ids)) == {str(number) for number in range(20)}


@pytest.mark.parametrize("data_format", FORMATS)
def test_infos_can_be_columns(tmp_path: Path, data_format: str):
    buffers = nested(infos=True)
    create("lab/infos-v0", buffers, data_format=data_format, **SPACES)
    inside = ["pose/q"] if data_format == "hdf5" else []  # Minari's Arrow does not read infos inside infos
    shards = add("lab/infos-v0", tmp_path, infos=",".join(["success", *inside]))
    for name in inside:
        wanted = np.concatenate([b.infos["pose"]["q"][1:] for b in buffers]).astype(np.float32)
        np.testing.assert_array_equal(shards.read_all([name])[name], wanted)
    wanted = np.concatenate([b.infos["success"][1:] for b in buffers]).astype(np.float32)
    np.testing.assert_array_equal(shards.read_all(["success"])["success"], wanted)
    with pytest.raises(MissingColumn, match=r"no info 'sucess'(.|\n)*There are: .*success"):
        add("lab/infos-v0", tmp_path, infos="sucess")
    if inside:
        with pytest.raises(MissingColumn, match=r"'pose' is a dictionary(.|\n)*It holds: pose/q"):
            add("lab/infos-v0", tmp_path, infos="pose")


def environment_of(spec: EnvSpec, tmp_path: Path, **specs: EnvSpec) -> Shards:
    """A data set of another machine, where these environments were."""
    name = f"lab/spec-v{len(list(tmp_path.glob('minari/lab/*')))}"
    flat = [replace(buffer, observations=buffer.observations["observation"]) for buffer in nested()]
    spaces = {
        "observation_space": Hopper.observation_space["observation"],
        "action_space": Hopper.action_space,
    }
    tell(create(name, flat, **spaces), env_spec=spec, **specs)
    return add(name, tmp_path)


def test_the_environment_need_not_be_there(tmp_path: Path):
    elsewhere = EnvSpec("Sim-v3", entry_point="nobody.has:Sim", kwargs={"wind": 2}, max_episode_steps=70)
    shards = environment_of(elsewhere, tmp_path)
    assert shards.env_id == "nobody.has:Sim-v3"
    assert shards.env_options == {"wind": 2, "max_episode_steps": 70}
    assert environment_of(EnvSpec("Sim-v3", max_episode_steps=70), tmp_path).env_id == "Sim-v3"
    assert not environment_of(gym.spec("Pendulum-v1"), tmp_path).env_options
    endless = EnvSpec("Pendulum-v1", entry_point="gymnasium.envs.classic_control:PendulumEnv")
    assert environment_of(endless, tmp_path).env_options == {"max_episode_steps": -1}


def test_the_environment_for_evaluation_is_taken(tmp_path: Path):
    recorded = EnvSpec("Maze-v3", kwargs={"continuing": True}, max_episode_steps=1_000_000)
    shards = environment_of(recorded, tmp_path, eval_env_spec=EnvSpec("Maze-v3", max_episode_steps=300))
    assert shards.env_options == {"max_episode_steps": 300}
    assert "continuing=True" in str(shards.manifest.faults[0])
    other = ingest(*resolve_source("minari/lab/spec-v0", None, {"env": "Mine-v0"})[:2], tmp_path, name="mine")
    assert (other.env_id, other.env_options) == ("Mine-v0", {})


def test_ends_inside_an_episode_divide_it(tmp_path: Path):
    (one,) = nested(1)
    ends = np.array([False, True, False, False])
    create("lab/odd-v0", [replace(one, terminations=ends, truncations=np.zeros(4, bool))], **SPACES)
    shards = add("lab/odd-v0", tmp_path)
    assert shards.manifest.lengths == [2, 2]
    assert {fault.kind for fault in shards.manifest.faults} == {"inner_end", "open_end"}
    read = shards.read_all(COLUMNS)
    assert read["terminateds"].tolist() == [False, True, False, False]
    assert read["truncateds"].tolist() == [False, False, False, True]
    seen = unflatten_rows(shards.nested_observation_space, read["new_obs"])
    np.testing.assert_array_equal(seen["gait"], one.observations["gait"][1:])


def test_what_cannot_be_learned_from_is_refused(tmp_path: Path):
    steps = np.zeros(3)
    ends = np.array([False, False, True])
    words = [EpisodeBuffer(None, None, None, ["a"] * 4, np.zeros((3, 1)), steps, ends, ends)]
    create("lab/words-v0", words, observation_space=Text(5), action_space=Box(-1, 1, (1,)))
    with pytest.raises(BadValues, match="no vector"):
        add("lab/words-v0", tmp_path)
    acts = [EpisodeBuffer(None, None, None, np.zeros((4, 1)), {"a": np.zeros((3, 1))}, steps, ends, ends)]
    create("lab/acts-v0", acts, observation_space=Box(-1, 1, (1,)), action_space=Dict(a=Box(-1, 1, (1,))))
    with pytest.raises(BadValues, match="the action space is"):
        add("lab/acts-v0", tmp_path)


def test_damaged_files_are_said_to_be(tmp_path: Path, minari_root: Path):
    create("lab/hurt-v0", nested(), **SPACES)
    file = minari_root / "lab" / "hurt-v0" / "data" / "main_data.hdf5"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(Corrupt, match="cannot be read by Minari"):
        add("lab/hurt-v0", tmp_path)
    assert not list((tmp_path / "data").glob("*/*"))
    create("lab/old-v0", nested(), **SPACES)
    about = minari_root / "lab" / "old-v0" / "data" / "metadata.json"
    about.write_text(about.read_text().replace(minari.__version__, "0.1.0"))
    with pytest.raises(Corrupt, match=r"0\.1\.0"):
        add("lab/old-v0", tmp_path)


def test_a_folder_can_be_named(tmp_path: Path, minari_root: Path):
    create("lab/here-v0", nested(), **SPACES)
    moved = (minari_root / "lab" / "here-v0").rename(tmp_path / "elsewhere")
    for path in (moved, moved / "data"):
        source, found, name = resolve_source("minari/any/name-v0", path)
        assert ingest(source, found, tmp_path / "data", name=name, overwrite=True).episodes == 5
    source, found, _ = resolve_source("minari/any/name-v0", tmp_path / "nowhere")
    with pytest.raises(UnknownName, match="no data set of Minari"):
        source.parts(found)
