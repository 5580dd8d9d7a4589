"""A disk that fills up while data are written: said as it is, nothing half-written, and made good later."""

import os
import subprocess

import numpy as np
import pytest
from command import off2on

from datasets_io import Episode, Source, open_shards
from datasets_io.errors import NoSpace
from datasets_io.ingestion.appending import append
from datasets_io.ingestion.ingest import ingest

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path):
    """An empty disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk, and not everywhere")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


class Noise(Source):
    """Parts of 200 kB that do not compress."""

    def __init__(self, count):
        self.count = count

    def parts(self, path):
        return list(range(self.count))

    def episodes(self, part):
        rng = np.random.default_rng(part)
        yield Episode(rng.normal(size=(5001, 10)), np.zeros((5000, 1)), np.ones(5000), terminated=True)


def test_one_part_too_large_leaves_nothing(small_disk):
    class Whole(Noise):
        def parts(self, path):
            return [None]

        def episodes(self, part):
            for number in range(8):
                yield from super().episodes(number)

    with pytest.raises(NoSpace, match="cannot be written: No space left") as caught:
        ingest(Whole(8), None, small_disk, name="x")
    assert caught.value.exit_code == 3
    assert list(small_disk.iterdir()) == []


def test_finished_parts_are_kept_until_there_is_room(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(500_000))
    with pytest.raises(NoSpace, match="Free some space and run the command again"):
        ingest(Noise(4), None, small_disk, name="x")
    left = sorted(path.name for path in (small_disk / "x.partial/shards").iterdir())
    assert left == ["part-00000.parquet", "part-00001.parquet"]
    ballast.unlink()
    ingest(Noise(4), None, small_disk, name="x")
    open_shards(small_disk / "x").verify()
    assert [path.name for path in small_disk.iterdir()] == ["x"]


def test_a_replacement_without_room_leaves_the_old_data(small_disk):
    old = ingest(Noise(3), None, small_disk, name="x")
    with pytest.raises(NoSpace):
        ingest(Noise(4), None, small_disk, name="x", overwrite=True)
    assert open_shards(small_disk / "x").manifest.content_hash == old.manifest.content_hash
    open_shards(small_disk / "x").verify()


def test_an_addition_without_room_changes_nothing_and_is_made_good(small_disk):
    class Other(Noise):
        def episodes(self, part):
            yield from super().episodes(part + 100)

    old = ingest(Noise(1), None, small_disk, name="x")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(500_000))
    with pytest.raises(NoSpace):
        append(Other(2), None, old)
    open_shards(small_disk / "x").verify()
    assert open_shards(small_disk / "x").manifest.content_hash == old.manifest.content_hash
    ballast.unlink()
    append(Other(2), None, old).verify()
    assert sorted(path.name for path in (small_disk / "x").iterdir()) == ["manifest.json", "shards"]
    assert [path.name for path in small_disk.iterdir()] == ["x"]


def test_the_command_line_says_so(small_disk):
    (small_disk / "ballast").write_bytes(bytes(1_030_000))
    done = off2on(small_disk, "data", "add", "toy-pendulum", "episodes=5", OFF2ON_DATA=small_disk)
    assert done.returncode == 3
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
