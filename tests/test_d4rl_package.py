"""The real d4rl 1.1 package says what our registry says: ids, files, references, horizons.

It is installed without its dependencies into a folder of its own, and its modules are run one by one: its
`__init__` needs mujoco_py, gym and much else.
"""

import subprocess
import sys
import types
from collections.abc import Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from datasets_io.registry import registry
from datasets_io.sources.download import SERVER, url_of

pytestmark = pytest.mark.slow

FAMILIES = (
    "locomotion",
    "hand_manipulation_suite",
    "pointmaze",
    "gym_minigrid",
    "gym_mujoco",
    "flow",
    "kitchen",
    "carla",
    "gym_bullet",
    "pointmaze_bullet",
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the installed package."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "10"]
    command += ["--no-deps", "--target", str(target), "d4rl==1.1"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"d4rl cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return target / "d4rl"


@pytest.fixture(scope="module")
def infos(package: Path) -> Any:
    """Its module of facts."""
    module = types.ModuleType("d4rl.infos")
    exec((package / "infos.py").read_text(), vars(module))
    return module


class Simulators(MetaPathFinder, Loader):
    """Stands in for what registering environments imports and is not there; keeps what they register."""

    def __init__(self) -> None:
        self.limits: dict[str, int] = {}
        self.made: list[str] = []

    def register(self, id: str, max_episode_steps: int, **rest: Any) -> None:  # noqa: A002
        self.limits[id] = max_episode_steps

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> Any:
        self.made.append(spec.name)
        return MagicMock(__path__=[], __spec__=spec, __name__=spec.name, register=self.register)

    def exec_module(self, module: Any) -> None:
        pass


@pytest.fixture
def simulators(infos: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulators]:
    """In place while a test runs; gym too, which may be there."""
    stand_in = Simulators()
    for name in [name for name in sys.modules if name.split(".")[0] == "gym"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("gym", "gym.envs", "gym.envs.registration"):
        module = stand_in.create_module(ModuleSpec(name, stand_in))
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "d4rl.infos", infos)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, stand_in])
    yield stand_in
    for name in stand_in.made:
        sys.modules.pop(name, None)


def test_ids_files_and_references_agree(infos: Any):
    ours = registry()
    assert set(infos.DATASET_URLS) == set(ours)
    for name, url in infos.DATASET_URLS.items():
        assert url == f"{SERVER}/{ours[name].file}" == url_of(name)
        low, high = infos.REF_MIN_SCORE.get(name), infos.REF_MAX_SCORE.get(name)
        assert (low, high) == (ours[name].low, ours[name].high), name
    assert set(infos.REF_MIN_SCORE) <= set(ours)


def test_horizons_agree(package: Path, simulators: Simulators):
    for family in FAMILIES:
        name, source = f"d4rl.{family}", package / family / "__init__.py"
        about = {"__name__": name, "__package__": name, "__path__": []}
        exec(compile(source.read_text(), source, "exec"), about)
    found = {name: simulators.limits.get(name) for name in registry()}
    assert found == {name: entry.horizon for name, entry in registry().items()}
