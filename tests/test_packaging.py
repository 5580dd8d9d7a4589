"""A wheel that is built from the source tree, and one from the sdist, work without the tree."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from off2on.errors import UserError
from off2on.training import metadata
from off2on.training.located_yaml import find_yaml

ROOT = Path(__file__).parents[1]
READY = sorted(f"tune_configs/{file.name}" for file in (ROOT / "tune_configs").glob("*.yaml"))
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
BUILD = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index"]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel from a copy of the tree, and one from that copy's sdist."""
    folder = tmp_path_factory.mktemp("build")
    tree, there = folder / "tree", {"cwd": folder / "tree", "capture_output": True, "check": True}
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("platform/off2on", "datasets_io", "tune_configs"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    code = "from setuptools import build_meta; build_meta.build_sdist('../sdist')"
    (folder / "sdist").mkdir()
    subprocess.run([sys.executable, "-c", code], **there)
    (sdist,) = (folder / "sdist").iterdir()
    found = {}
    for origin, source in {"sdist": sdist, "tree": tree}.items():
        subprocess.run([*BUILD, "--wheel-dir", folder / origin, source], **there)
        (found[origin],) = (folder / origin).glob("off2on-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel of the sdist is installed, without dependencies."""
    target = tmp_path_factory.mktemp("installed")
    words = ["install", "--no-deps", "--no-index", "--target", target, wheels["sdist"]]
    subprocess.run([*PIP, *words], capture_output=True, check=True)
    return target


def run(installed: Path, place: Path, *words: str) -> str:
    """Run the installed command in a folder and return its output."""
    variables = os.environ | {"PYTHONPATH": str(installed), "COLUMNS": "200"}
    command = [sys.executable, installed / "bin/off2on", *words]
    done = subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_both_wheels_have_all_modules_and_data(wheels: dict[str, Path]) -> None:
    names = {origin: set(zipfile.ZipFile(wheel).namelist()) for origin, wheel in wheels.items()}
    assert names["tree"] == names["sdist"]
    expected = {
        str(file.relative_to(root))
        for root, package in ((ROOT / "platform", "off2on"), (ROOT, "datasets_io"))
        for file in (root / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert expected | {f"off2on/{name}" for name in READY} == {
        name for name in names["tree"] if ".dist-info/" not in name
    }


@pytest.mark.slow
def test_a_policy_is_trained_without_the_source_tree(installed: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFF2ON_DATA", str(tmp_path / "data"))
        run(installed, tmp_path, "data", "add", "toy-pendulum")
        words = ["iql", "toy-pendulum", "--updates=20", "--eval-every=20", "hidden=16,16"]
        run(installed, tmp_path, "train", *words)
        said = run(installed, tmp_path, "tune", "tune_configs/smoke.yaml", "--dry-run")
        assert f"{installed}/off2on/tune_configs/smoke.yaml:" in said
        words = ["iql", "toy-pendulum", "@tune_configs/waymo-driving.yaml", "--out", "other", "--dry-run"]
        said = run(installed, tmp_path, "train", *words)
        assert f"{installed}/off2on/tune_configs/waymo-driving.yaml:" in said
    assert (tmp_path / "runs/toy-pendulum/iql-s0/policy.pt").exists()


def test_a_ready_file_is_found_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert READY
    for name in READY:
        assert find_yaml(Path(name)).read_text() == (ROOT / name).read_text()
    own = tmp_path / "tune_configs" / "smoke.yaml"
    own.parent.mkdir()
    own.write_text("trials: 1\n")
    assert find_yaml(Path("tune_configs/smoke.yaml")).read_text() == "trials: 1\n"
    for name in ("smoke.yaml", str(tmp_path / "tune_configs/iql.yaml"), "elsewhere/tune_configs/iql.yaml"):
        with pytest.raises(UserError, match="there is no file"):
            find_yaml(Path(name))
    with pytest.raises(UserError) as caught:
        find_yaml(Path("tune_configs/leaderbord.yaml"))
    assert caught.value.nearest == "leaderboard.yaml"


def test_a_commit_of_the_repository_around_an_installed_package_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", tmp_path, *words], capture_output=True, check=True)

    def commit() -> None:
        git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message=x")

    installed = tmp_path / ".venv" / "metadata.py"
    installed.parent.mkdir()
    installed.write_text("")
    (tmp_path / "own.py").write_text("")
    monkeypatch.setattr(metadata, "__file__", str(installed))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git("init", "--quiet")
    git("add", "own.py")
    commit()
    assert metadata.provenance()["commit"] is None
    git("add", ".venv")
    commit()
    assert len(metadata.provenance()["commit"]) == 12
    monkeypatch.setenv("PATH", "")
    assert metadata.provenance()["commit"] is None
