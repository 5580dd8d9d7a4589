"""Data sets written as files of d3rlpy, read by d3rlpy itself, and read back."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from command import off2on
from gymnasium.spaces import Box, Discrete
from jumps import jumps

from datasets_io import Episode, Shards, Source
from datasets_io.errors import BadValues, Exists, UserError
from datasets_io.export import export_d3rlpy
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.d4rl import D4RL
from datasets_io.sources.episode_files import ACTION_SPACE


def load(path: Path) -> Any:
    """Return the buffer that d3rlpy makes of a file."""
    dataset = pytest.importorskip("d3rlpy.dataset", reason="the reference of the tests is not installed")
    with path.open("rb") as file:
        return dataset.ReplayBuffer.load(file, dataset.InfiniteBuffer())


def rows(shards: Shards) -> dict[str, Any]:
    return shards.read_all(["obs", "new_obs", "actions", "rewards", "terminateds", "truncateds", "last"])


@pytest.mark.parametrize("name", ["wide", "toy-cartpole", "toy-pendulum"])
def test_d3rlpy_has_every_transition(data_root: Path, tmp_path: Path, name: str):
    shards = Shards(data_root / name)
    buffer = load(export_d3rlpy(shards, tmp_path / "x.h5"))
    expected = rows(shards)
    assert buffer.size() == shards.episodes
    assert buffer.transition_count == shards.rows
    assert buffer.dataset_info.action_space.name == ("DISCRETE" if name == "toy-cartpole" else "CONTINUOUS")
    row = 0
    for episode in buffer.episodes:
        for index in range(episode.transition_count):
            transition = buffer.transition_picker(episode, index)
            np.testing.assert_array_equal(transition.observation, expected["obs"][row])
            np.testing.assert_array_equal(transition.action, np.atleast_1d(expected["actions"][row]))
            assert transition.reward.item() == expected["rewards"][row]
            assert transition.terminal == expected["terminateds"][row]
            if not transition.terminal:
                np.testing.assert_array_equal(transition.next_observation, expected["new_obs"][row])
            row += 1
    assert row == shards.rows
    returns = [episode.compute_return() for episode in buffer.episodes]
    np.testing.assert_allclose(returns, shards.returns, rtol=1e-5)


@pytest.mark.parametrize("name", ["wide", "toy-cartpole", "toy-pendulum"])
def test_there_and_back(data_root: Path, tmp_path: Path, name: str):
    first = Shards(data_root / name)
    again = ingest(D4RL(), export_d3rlpy(first, tmp_path / "x.h5"), tmp_path, name="again")
    before, after = rows(first), rows(again)
    continues = ~before["terminateds"].astype(bool)  # of terminal steps, d3rlpy keeps no next observation
    before["new_obs"], after["new_obs"] = before["new_obs"][continues], after["new_obs"][continues]
    for column in before:
        np.testing.assert_array_equal(before[column], after[column], column)


class Playing(Source):
    def __init__(self, actions: Any, action_space: Any):
        self._actions, self.action_space = actions, action_space

    def fingerprint(self, path: Any) -> str:
        return str(self._actions)

    def episodes(self, part: Any) -> Any:
        yield Episode(np.eye(6), self._actions, np.ones(5), terminated=False)


@pytest.mark.parametrize(
    ("actions", "space", "seen"),
    [
        (np.linspace(-8, 8, 5), Box(-9, 9, (1,)), Box(-8, 8, (1,))),
        (
            np.linspace(-1, 1, 10).reshape(5, 2),
            Box(np.float32([-np.inf, -2]), np.float32([1, 0.1 + 2])),
            None,
        ),
        (np.arange(5) % 2, Discrete(4), Discrete(2)),
    ],
)
def test_the_action_space_comes_back(tmp_path: Path, actions: Any, space: Any, seen: Any):
    first = ingest(Playing(actions, space), None, tmp_path, name="first")
    ours = export_d3rlpy(first, tmp_path / "ours.h5")
    assert ingest(D4RL(), ours, tmp_path, name="again").action_space == space
    assert load(ours).size() == 1
    if seen is not None:  # of a file of d3rlpy itself
        with h5py.File(ours, "r+") as file:
            del file[ACTION_SPACE]
        assert ingest(D4RL(), ours, tmp_path, name="theirs").action_space == seen


def test_what_d3rlpy_dumps_itself_has_the_same_rows(data_root: Path, tmp_path: Path):
    ours = export_d3rlpy(Shards(data_root / "wide"), tmp_path / "ours.h5")
    with (tmp_path / "theirs.h5").open("w+b") as file:
        load(ours).dump(file)
    one, other = (ingest(D4RL(), tmp_path / f"{name}.h5", tmp_path, name=name) for name in ("ours", "theirs"))
    assert one.manifest.content_hash == other.manifest.content_hash


def test_d3rlpy_trains_from_the_file(data_root: Path, tmp_path: Path):
    buffer = load(export_d3rlpy(Shards(data_root / "wide"), tmp_path / "x.h5"))
    algos = pytest.importorskip("d3rlpy.algos")
    learner = algos.TD3PlusBCConfig(batch_size=16).create(device="cpu")
    learner.build_with_dataset(buffer)
    assert np.isfinite(learner.update(buffer.sample_transition_batch(16))["critic_loss"])


def test_the_command(data_root: Path, tmp_path: Path):
    wide = data_root / "wide"
    done = off2on(tmp_path, "data", "export", wide, "out/wide.h5")
    assert done.returncode == 0, done.stderr
    assert "12 episodes" in done.stdout
    assert load(tmp_path / "out" / "wide.h5").size() == 12
    again = off2on(tmp_path, "data", "export", wide, "out/wide.h5")
    assert again.returncode == 2
    assert "off2on data export wide out/wide-2.h5" in again.stderr
    mixed = off2on(tmp_path, "data", "export", wide, "x.h5", "--format", "arrow")
    assert mixed.returncode == 2
    assert "--format arrow is of Minari" in mixed.stderr


def test_a_file_is_whole_or_not_there(data_root: Path, tmp_path: Path):
    shards = Shards(data_root / "wide")

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_d3rlpy(shards, tmp_path / "x.h5", stop)
    assert not list(tmp_path.iterdir())
    (tmp_path / "x.h5").write_text("mine")
    with pytest.raises(Exists, match=r"x\.h5 exists"):
        export_d3rlpy(shards, tmp_path / "x.h5")
    assert (tmp_path / "x.h5").read_text() == "mine"
    with pytest.raises(UserError, match=r"ends in \.h5 or \.hdf5"):
        export_d3rlpy(shards, tmp_path / "x.npz")


def test_rows_that_do_not_follow_each_other_cannot_be_exported(tmp_path: Path):
    with pytest.raises(BadValues, match="do not follow each other"):
        export_d3rlpy(jumps(tmp_path), tmp_path / "x.h5")
