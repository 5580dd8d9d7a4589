"""Episodes that RLlib 2.60 wrote (see helpers/make_rllib_episodes.py), and faulty ones."""

import shutil
from pathlib import Path
from typing import Any

import gymnasium as gym
import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets_io.episode import Episode
from datasets_io.errors import BadValues, Corrupt, UnknownName, UserError
from datasets_io.sources import rllib_episodes
from datasets_io.sources.catalogue import resolve_source
from datasets_io.sources.rllib_episodes import RLlibEpisodes

FILES = Path(__file__).parent / "fixtures" / "rllib_episodes"


def read(source: RLlibEpisodes, folder: Path) -> list[Episode]:
    return [episode for part in source.parts(folder) for episode in source.episodes(part)]


def packed(values: Any) -> dict[bytes, Any]:
    """Pack an array as msgpack-numpy does."""
    array = np.asarray(values)
    return {
        b"nd": True, b"type": array.dtype.str, b"kind": b"", b"shape": array.shape, b"data": array.tobytes()
    }  # fmt: skip


def write(folder: Path, **changes: Any) -> Path:
    """Write one episode of two steps, with other fields of its state."""
    state: dict[str, Any] = {
        "id_": "one",
        "observations": {"data": [packed(np.float32([t])) for t in range(3)], "lookback": 0},
        "actions": {"data": [packed(np.float32([0.5])), packed(np.float32([-1]))], "lookback": 0},
        "rewards": {"data": [1.0, 2.0], "lookback": 0},
        "is_terminated": True,
        "is_truncated": False,
    }
    item = msgpack.packb({**state, **changes})
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"item": pa.array([item], pa.binary())}), folder / "episodes.parquet")
    return folder


def test_steps_are_those_of_the_environment():
    for episode in read(RLlibEpisodes(env="CartPole-v1"), FILES / "cartpole"):
        assert episode.obs.shape == (episode.length + 1, 4)
        assert {*episode.actions.tolist()} <= {0, 1}
        assert (episode.rewards == 1).all()
        env = gym.make("CartPole-v1").unwrapped
        env.reset()
        for t in range(episode.length):  # the recorded step, made again from the recorded state
            env.state = episode.obs[t].astype(np.float64)
            obs, *_ = env.step(int(episode.actions[t]))
            np.testing.assert_allclose(obs, episode.obs[t + 1], atol=1e-5)
            env.steps_beyond_terminated = None


def test_ends_and_pieces():
    source = RLlibEpisodes(env="CartPole-v1")
    episodes = read(source, FILES / "cartpole")
    ended = sum(episode.terminated for episode in episodes)
    assert 0 < ended < len(episodes)
    assert all(episode.truncated is not episode.terminated for episode in episodes)
    (fault,) = source.faults
    assert (fault.kind, fault.count) == ("open_end", len(episodes) - ended)
    assert sum(episode.length for episode in episodes) == 120  # two rollouts of 60 steps


def test_the_first_value_of_a_piece_that_goes_on_belongs_to_the_piece_before():
    pieces = sorted(
        read(RLlibEpisodes(), FILES / "pendulum"), key=lambda piece: int(str(piece.id).split("-")[1])
    )
    first, second = pieces
    np.testing.assert_array_equal(first.obs[-1], second.obs[0])
    assert (first.length, second.length) == (15, 15)


@pytest.mark.parametrize("size", [1, rllib_episodes.PART_BYTES])
def test_an_episode_that_was_written_twice_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
):
    monkeypatch.setattr(rllib_episodes, "PART_BYTES", size)
    folder = Path(shutil.copytree(FILES / "pendulum", tmp_path / "all" / "run-1"))
    shutil.copytree(folder, tmp_path / "all" / "run-2")
    source = RLlibEpisodes()
    assert len(read(source, tmp_path / "all")) == 2
    assert ("repeated", 2) in [(fault.kind, fault.count) for fault in source.faults]


def test_the_units_of_actions_are_asked_for_where_they_matter(tmp_path: Path):
    folder = write(tmp_path / "one")
    with pytest.raises(
        UserError, match=r"(?s)between -2 and 2.*actions=normalised.*or actions=units"
    ) as error:
        RLlibEpisodes(env="Pendulum-v1").parts(folder)
    assert "normalize_actions" in str(error.value)
    (scaled,) = read(RLlibEpisodes(env="Pendulum-v1", actions="normalised"), folder)
    assert scaled.actions.tolist() == [[1.0], [-2.0]]
    (plain,) = read(RLlibEpisodes(env="Pendulum-v1", actions="units"), folder)
    assert plain.actions.tolist() == [[0.5], [-1.0]]
    with pytest.raises(UserError, match="needs the environment's range"):
        RLlibEpisodes(actions="normalised").parts(folder)
    with pytest.raises(UserError, match="normalised or units: got 'raw'"):
        RLlibEpisodes(actions="raw")


def test_files_are_grouped_by_their_size(monkeypatch: pytest.MonkeyPatch):
    folder = FILES / "cartpole"
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    monkeypatch.setattr(rllib_episodes, "PART_BYTES", 30_000)
    groups = [files for files, _ in RLlibEpisodes().parts(folder)]
    assert [Path(file).name for files in groups for file in files] == list(sizes)
    assert len(groups) > 1
    for files in groups:
        assert sum(sizes[Path(file).name] for file in files) <= 30_000


def test_actions_beyond_the_range_are_not_normalised(tmp_path: Path):
    folder = write(tmp_path / "one", actions={"data": [packed(np.float32([1.5]))] * 2})
    with pytest.raises(BadValues, match=r"1\.5: it is not between -1 and 1"):
        read(RLlibEpisodes(env="Pendulum-v1", actions="normalised"), folder)


OBJECTS = {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": b"cos\nsystem\n(S'false'\ntR."}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": {"data": [OBJECTS]}}, "objects, not numbers"),
        ({"observations": {"data": packed(np.zeros((3, 1)))[b"data"]}}, "no arrays of one shape"),
        ({"actions": {"data": [packed([1.0]), packed([1.0, 2.0])]}}, "no arrays of one shape"),
        ({"rewards": {"data": [{"a": 1}]}}, "no arrays of one shape"),
        ({"rewards": {"data": [1.0], "lookback": -1}}, "no episode of one agent: rewards.lookback"),
        ({"is_terminated": "yes"}, "is_terminated of an episode is yes"),
        ({"id_": None}, "no episode of one agent: id_"),
        ({"observations": {"data": [packed([1.0]) | {b"shape": [7]}]}}, "cannot be decoded"),
        ({"observations": {"data": [packed([1.0]) | {b"type": "?!"}]}}, "cannot be decoded"),
    ],
)
def test_faulty_states_are_refused(tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message) as error:
        read(RLlibEpisodes(), write(tmp_path / "one", **changes))
    assert "episodes.parquet, row 0" in str(error.value)


def test_other_tables_and_damaged_ones_are_refused(tmp_path: Path):
    with pytest.raises(UnknownName, match=r"holds no \.parquet file"):
        RLlibEpisodes().parts(tmp_path)
    pq.write_table(pa.table({"item": [1]}), tmp_path / "a.parquet")
    with pytest.raises(Corrupt, match="no packed episode"):
        read(RLlibEpisodes(), tmp_path)
    pq.write_table(pa.table({"item": pa.array([b"\xc1"], pa.binary())}), tmp_path / "a.parquet")
    with pytest.raises(Corrupt, match="cannot be decoded"):
        read(RLlibEpisodes(), tmp_path)


def test_the_files_are_recognised(tmp_path: Path):
    folder = FILES / "pendulum"
    for given in (folder, folder / "episodes-0.parquet"):
        assert isinstance(resolve_source("swing", given).source, RLlibEpisodes)
    nested = shutil.copytree(folder, tmp_path / "env" / "run-1").parent
    assert isinstance(resolve_source("swing", nested).source, RLlibEpisodes)
