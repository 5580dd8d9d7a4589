"""Sources of one's own, toys, and the names that all sources are found by."""

import sys
from pathlib import Path

import numpy as np
import pytest

from datasets_io.code_files import files_of_code
from datasets_io.errors import UnknownName, UserError
from datasets_io.ingestion.ingest import ingest
from datasets_io.source import hash_path
from datasets_io.sources.catalogue import known_names, resolve_source
from datasets_io.sources.tabular import Table, parse_columns
from datasets_io.sources.toy import ToyCartPole, ToyPendulum


def add(path, folder, source, name="made"):
    return ingest(source, path, folder, name=name)


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
        ("my_lab_of_forklifts:Episode", UnknownName, "a subclass of datasets_io.source.Source"),
        ("my_lab_of_nothing:Forklifts", UnknownName, "No module named 'my_lab_of_nothing'"),
    ],
)
def test_a_source_that_is_none_says_so(my_lab, text, error, words):
    with pytest.raises(error, match=words):
        resolve_source(text, "trips.txt")


TYPED = """
from typing import TYPE_CHECKING, Optional
from datasets_io import Source

if TYPE_CHECKING:
    from gymnasium.spaces import Box

class Typed(Source):
    def __init__(self, noisy: bool = True, limit: int | None = None, share: Optional[float] = None,
                 name: str | int = "", ids: list[int] = ()):
        self.given = noisy, limit, share, name, ids

class Untold(Source):
    def __init__(self, space: 'Box | None' = None, noisy: bool = True):
        self.space, self.noisy = space, noisy
"""


@pytest.mark.parametrize("first", ["", "from __future__ import annotations\n"])
def test_options_of_a_source_have_the_types_of_its_constructor(tmp_path, monkeypatch, first):
    (tmp_path / "my_lab_of_types.py").write_text(first + (TYPED.replace("'", "") if first else TYPED))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_lab_of_types", raising=False)
    text = {"noisy": "false", "limit": "2k", "share": "0.5", "name": "7", "ids": "7"}
    source = resolve_source("my_lab_of_types:Typed", options=text).source
    assert source.given == (False, 2000, 0.5, "7", "7")
    with pytest.raises(UserError, match="limit is int: got 'x'"):
        resolve_source("my_lab_of_types:Typed", options={"limit": "x"})
    with pytest.raises(UserError, match=r"option 'space' .* name 'Box' is not defined"):
        resolve_source("my_lab_of_types:Untold", options={"space": "wide"})
    untold = resolve_source("my_lab_of_types:Untold", options={"space": 7, "noisy": "false"}).source
    assert (untold.space, untold.noisy) == (7, False)


# --- toys, names -------------------------------------------------------------------------------------------


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
    columns = parse_columns("obs=x,v actions=u rewards=r episode=trip terminated=crashed")
    assert resolve_source("mine", tmp_path / "t.csv", {"columns": columns}).name == "mine"
    assert isinstance(resolve_source(str(tmp_path / "t.parquet")).source, Table)
    assert len(known_names()) == 196


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("toy-pendulam", None, r"nearest: toy-pendulum\. Looked in the catalogue \(196 names\)"),
        ("hoper-medium-v2", None, "nearest: hopper-medium-v2"),
        ("hopper-medium", None, "nearest: hopper-medium-v"),
        ("mine", "trips.xlsx", r"Known: \.hdf5 \.h5 \.csv \.parquet \.npz"),
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


# --- the code of a source ----------------------------------------------------------------------------------

PACKAGE = {
    "trips/__init__.py": "",
    "trips/source.py": "from datasets_io import Source\nfrom . import units\nfrom trips.parts import wheels\n"
    "import helper\n\n\nclass Trips(Source):\n    pass\n",
    "trips/units.py": "from .deep import more\n",
    "trips/deep.py": "more = 1\n",
    "trips/parts/__init__.py": "",
    "trips/parts/wheels.py": "def load():\n    import later\n",
    "trips/unused.py": "",
    "helper.py": "import trips.source\n",
    "later.py": "this is no Python\n",
    "other.py": "",
}
IMPORTED = sorted(PACKAGE.keys() - {"trips/unused.py", "other.py"})


@pytest.fixture
def package(tmp_path, monkeypatch):
    for name, text in PACKAGE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("trips", "helper")]:
        del sys.modules[name]


def test_a_changed_file_that_a_source_imports_changes_the_hash_of_its_code(package):
    source = resolve_source("trips.source:Trips").source
    before = source.code_hash
    assert source.code_hash == before
    assert files_of_code(package / "trips" / "source.py")[0] == package / "trips" / "source.py"
    for name, text in PACKAGE.items():
        (package / name).write_text(f"{text}# changed\n")
        assert (source.code_hash != before) is (name in IMPORTED), name
        (package / name).write_text(text)
    assert source.code_hash == before


def test_a_source_without_imports_of_its_own_has_the_hash_of_its_file(tmp_path):
    (tmp_path / "alone.py").write_text("import numpy, datasets_io\n")
    assert files_of_code(tmp_path / "alone.py") == [tmp_path / "alone.py"]
    file = sys.modules[ToyPendulum.__module__].__file__
    assert ToyPendulum().code_hash == hash_path(Path(file))
