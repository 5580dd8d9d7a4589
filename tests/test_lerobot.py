"""LeRobot data sets: files of lerobot 0.3.3 and 0.4.2 (see helpers/make_lerobot.py), and faulty copies."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets_io.episode import Episode
from datasets_io.errors import BadValues, Corrupt, MissingColumn, UnknownName, UserError
from datasets_io.ingestion.appending import append
from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.catalogue import resolve_source
from datasets_io.sources.lerobot import NO_REWARDS, LeRobot

FILES = Path(__file__).parent / "fixtures" / "lerobot"


@pytest.fixture(params=["v2.1", "v3.0"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a copy of a data set: 3 episodes of 4, 3 and 5 frames; the first one succeeds."""
    return Path(shutil.copytree(FILES / request.param, tmp_path / "toy"))


def read(source: LeRobot, folder: Path) -> list[Episode]:
    return [episode for part in source.parts(folder) for episode in source.episodes(part)]


def change(folder: Path, **fields: Any) -> None:
    """Change fields of info.json."""
    file = folder / "meta/info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def features_without(folder: Path, *names: str) -> dict[str, Any]:
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    return {name: one for name, one in features.items() if name not in names}


def test_frames_become_episodes(folder: Path):
    source = LeRobot()
    first, second, third = read(source, folder)
    np.testing.assert_array_equal(first.obs, [[0, t, 0.5, t, 0] for t in range(4)])
    np.testing.assert_allclose(third.actions, [[t / 10, -0.2] for t in range(5)], rtol=1e-6)
    np.testing.assert_allclose(third.rewards, np.arange(5) / 10, rtol=1e-6)
    assert [episode.terminated for episode in (first, second, third)] == [True, False, False]
    assert [episode.truncated for episode in (first, second, third)] == [False, True, True]
    details = [fault.detail for fault in source.faults]
    assert details == ["images and videos: observation.images.front", "tasks, which are not told apart"]


def test_both_formats_give_the_same_data(tmp_path: Path):
    hashes = {
        ingest(LeRobot(), FILES / version, tmp_path, name=version).manifest.content_hash
        for version in ("v2.1", "v3.0")
    }
    assert len(hashes) == 1


def test_columns_can_be_chosen(folder: Path):
    source = LeRobot("obs=observation.state terminated=next.done")
    episodes = read(source, folder)
    assert [episode.obs.shape[1] for episode in episodes] == [3, 3, 3]
    assert all(episode.terminated for episode in episodes)


def test_columns_in_another_order_are_not_appended(tmp_path: Path):
    names = ("observation.state", "observation.environment_state")
    shards = ingest(LeRobot(f"obs={','.join(names)}"), FILES / "v2.1", tmp_path, name="arm")
    with pytest.raises(BadValues, match="columns of obs have another order than in arm"):
        append(LeRobot(f"obs={','.join(names[::-1])}"), FILES / "v3.0", shards)


def test_files_are_grouped_by_their_rows(tmp_path: Path):
    source = LeRobot()
    source.rows_per_shard = 8
    assert [len(part.files) for part in source.parts(FILES / "v2.1")] == [2, 1]
    source.rows_per_shard = 1
    assert [len(part.files) for part in source.parts(FILES / "v2.1")] == [1, 1, 1]


def test_without_rewards_success_is_the_reward(folder: Path):
    change(folder, features=features_without(folder, "next.reward"))
    first, second, _ = read(LeRobot(), folder)
    assert first.rewards.tolist() == [0, 0, 0, 1]
    assert second.rewards.tolist() == [0, 0, 0]


def test_without_rewards_and_success_rewards_are_zero_and_that_is_said(folder: Path):
    change(folder, features=features_without(folder, "next.reward", "next.success"))
    source = LeRobot()
    episodes = read(source, folder)
    assert not any(episode.rewards.any() for episode in episodes)
    assert not any(episode.terminated for episode in episodes)
    assert NO_REWARDS in [fault.detail for fault in source.faults]


def test_the_folder_is_recognised_with_and_without_a_name(folder: Path):
    (folder / "notes.csv").write_text("a\n1\n")  # a table beside it changes nothing
    for found, name in ((resolve_source(str(folder)), "toy"), (resolve_source("arm", folder), "arm")):
        assert isinstance(found.source, LeRobot)
        assert (found.path, found.name) == (folder, name)


def test_the_folder_is_recognised_without_opening_its_tables(folder: Path):
    for table in folder.rglob("*.parquet"):
        table.write_bytes(b"damaged")
    assert isinstance(resolve_source("arm", folder).source, LeRobot)


def test_another_format_is_refused(folder: Path):
    change(folder, codebase_version="v1.6")
    with pytest.raises(UserError, match=r"format 'v1\.6'") as error:
        LeRobot().parts(folder)
    assert "v2.0, v2.1, v3.0" in str(error.value)


@pytest.mark.parametrize(
    ("left_out", "role"),
    [(("observation.state", "observation.environment_state"), "obs"), (("action",), "actions")],
)
def test_data_of_images_alone_are_refused(folder: Path, left_out: tuple[str, ...], role: str):
    change(folder, features=features_without(folder, *left_out))
    with pytest.raises(MissingColumn, match=f"no vectors for '{role}': images are not read"):
        LeRobot().parts(folder)


def test_damaged_descriptions_and_missing_tables_are_refused(folder: Path):
    shutil.rmtree(folder / "data")
    (folder / "data").mkdir()
    with pytest.raises(UnknownName, match=r"holds no \.parquet file"):
        LeRobot().parts(folder)
    change(folder, features={"action": {"dtype": "float32", "shape": [-1]}})
    with pytest.raises(Corrupt, match=r"info\.json"):
        LeRobot().parts(folder)
    (folder / "meta/info.json").write_text("{")
    with pytest.raises(Corrupt, match=r"info\.json"):
        LeRobot().parts(folder)


def test_the_description_and_the_tables_are_what_a_change_is_seen_in(folder: Path):
    before = LeRobot().fingerprint(folder)
    (folder / "videos").mkdir()
    (folder / "videos" / "front.mp4").write_bytes(b"x")
    assert LeRobot().fingerprint(folder) == before
    change(folder, fps=20)
    assert LeRobot().fingerprint(folder) != before
