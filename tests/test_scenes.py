"""Scenes beside the shards: any arrays, each scene once, read back one at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets_io import Episode, Shards, Source, open_shards
from datasets_io.errors import BadValues, Corrupt, UnknownName
from datasets_io.ingestion.appending import append
from datasets_io.ingestion.ingest import ingest
from datasets_io.shards.scenes import Scenes, open_scenes


def arrays(number: int) -> dict[str, Any]:
    return {
        "tracks": np.arange(number * 6, dtype=np.float32).reshape(number, 3, 2),
        "valid": np.arange(number) % 2 == 0,
        "centre": np.array([1e6 + number, 2.0, 3.0]),
        "current": np.array(10),
    }


class Drives(Source):
    """Two episodes for each of three scenes, s0 … s2, of which s0 has no track at all."""

    def __init__(self, first: int = 0) -> None:
        self.first = first

    def episodes(self, part: Any) -> Iterator[Episode]:
        for number in range(self.first, self.first + 3):
            for car in range(2):
                yield Episode(
                    np.zeros((3, 1)),
                    np.zeros((2, 1)),
                    np.ones(2),
                    terminated=False,
                    id=f"s{number}/{car}",
                    scene=(f"s{number}", arrays(number)),
                )


@pytest.fixture
def drives(tmp_path: Path) -> Shards:
    return ingest(Drives(), None, tmp_path, name="drives")


def test_each_scene_is_kept_once_and_comes_back_as_it_was(drives: Shards):
    scenes = Scenes(drives.env_options["scenes"])
    assert scenes.ids == ["s0", "s1", "s2"]
    for number in range(3):
        read = scenes.read(f"s{number}")
        assert list(read) == list(arrays(number))
        for name, values in arrays(number).items():
            np.testing.assert_array_equal(read[name], values)
            assert (read[name].dtype, read[name].shape) == (values.dtype, values.shape)


def test_some_generations_have_their_own_scenes(drives: Shards):
    began = drives.env_options["scenes"]
    append(Drives(2), None, drives)
    (drives.path / "scenes" / "g0002-part-00000.parquet").write_bytes(b"of an addition that was killed")
    assert Scenes(began).ids == ["s0", "s1", "s2"]
    for which, numbers in {"": "01234", "@0": "012", "@1+": "234"}.items():
        shards = open_shards(f"{drives.path}{which}")
        assert sorted(Scenes(shards.env_options["scenes"]).ids) == [f"s{number}" for number in numbers]


def test_a_folder_is_opened_once_until_it_changes(drives: Shards):
    folders = [drives.env_options["scenes"], str(drives.path / "scenes")]
    before = [open_scenes(folder) for folder in folders]
    assert before == [open_scenes(folder) for folder in folders]
    append(Drives(3), None, drives)
    assert [len(open_scenes(folder)) for folder in folders] == [3, 6]
    ingest(Drives(6), None, drives.path.parent, name="drives", overwrite=True)
    for folder in folders:
        assert open_scenes(folder).ids == ["s6", "s7", "s8"]


def test_an_unknown_scene_is_named(drives: Shards):
    with pytest.raises(UnknownName, match="no scene 's7'"):
        Scenes(drives.path / "scenes").read("s7")
    with pytest.raises(UnknownName, match="contains no scene"):
        Scenes(drives.path)


def test_a_scene_file_that_was_cut_short_is_noticed(drives: Shards):
    (file,) = (drives.path / "scenes").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Corrupt, match="part-00000"):
        Shards(drives.path)


def test_scenes_of_different_arrays_are_refused(tmp_path: Path):
    class Mixed(Drives):
        def episodes(self, part: Any) -> Iterator[Episode]:
            for name, extra in (("a", {}), ("b", {"more": np.zeros(1)})):
                step = np.zeros((1, 1))
                yield Episode(np.zeros((2, 1)), step, np.ones(1), True, scene=(name, arrays(1) | extra))

    with pytest.raises(BadValues, match="arrays of scene b differ"):
        ingest(Mixed(), None, tmp_path, name="mixed")
    assert not list(tmp_path.iterdir())


class Leaky(Source):
    """Two files of which one has a record that cannot be read."""

    def parts(self, path: Any) -> list[Any]:
        return ["good", "bad"]

    def episodes(self, part: Any) -> Iterator[Episode]:
        if part == "bad":
            self.quarantine("bad.rec", 17, "the checksum, of all things, is wrong")
        yield Episode(np.zeros((2, 1)), np.zeros((1, 1)), np.ones(1), True)


def test_records_that_cannot_be_read_are_listed(tmp_path: Path):
    shards = ingest(Leaky(), None, tmp_path, name="leaky")
    assert shards.rows == 2
    (fault,) = shards.manifest.faults
    assert (fault.kind, fault.count) == ("quarantined", 1)
    assert (shards.path / "quarantine.csv").read_text().splitlines() == [
        "file,offset,reason",
        'bad.rec,17,"the checksum, of all things, is wrong"',
    ]


def test_when_no_record_can_be_read_the_reasons_are_told(tmp_path: Path):
    class Ruined(Source):
        def episodes(self, part: Any) -> Iterator[Episode]:
            self.quarantine("bad.rec", 1700, "cut short")
            return iter(())

    with pytest.raises(BadValues, match="contains no episode") as error:
        ingest(Ruined(), None, tmp_path, name="ruined")
    assert error.value.expected == "bad.rec, byte 1,700: cut short"
    assert not list(tmp_path.iterdir())
