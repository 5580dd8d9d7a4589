"""A folder that cannot be written is refused before anything begins, and is no defect of off2on."""

import os
import tempfile
from pathlib import Path
from unittest.mock import Mock

import pytest
from command import off2on
from made_runs import make_run

from datasets_io import Shards, storage
from datasets_io.diagnosis import Diagnosis
from datasets_io.errors import UserError
from datasets_io.export import export_d3rlpy
from datasets_io.storage.writable import check_writable
from off2on.api import train
from off2on.reports import data
from off2on.reports.run import write_report

COMPARISON = """\
out: {out}
seeds: 1
handovers:
  bc: bc toy-pendulum hidden=16,16 --updates 10
online: --online 10
variants:
  append: --strategy append
"""
SEARCH = """\
algorithm: bc
data: toy-pendulum
updates: 10
trials: 2
out: {out}
search:
  actor_lr: {{one_of: [1e-4, 1e-3]}}
"""
TRAIN = "train bc toy-pendulum hidden=16,16 --updates 10 --seeds 2"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file and a link that leads nowhere; reports of defects go into its folder `reports`."""
    (tmp_path / "reports").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "reports"))
    work = tmp_path / "work"
    work.mkdir()
    (work / "file").touch()
    (work / "link").symlink_to("nowhere/at/all")
    return work


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("file", "{}/file: Not a directory"),
        ("file/a/b", "{}/file: Not a directory"),
        ("link/a", "{}/link: No such file or directory"),
        ("/proc/nope", "/proc: No such file or directory"),
        ("x" * 300, "{}/" + "x" * 300 + ": File name too long"),
    ],
)
def test_what_cannot_be_written_is_named_with_the_reason(here: Path, folder: str, reason: str):
    with pytest.raises(UserError) as caught:
        check_writable(here / folder, "--out it", "--out other")
    assert f"--out it: nothing can be written in {reason.format(here)}." in str(caught.value)
    assert (caught.value.exit_code, caught.value.try_) == (2, "--out other")


@pytest.mark.skipif(os.geteuid() == 0, reason="an administrator may write everywhere")
def test_a_folder_without_permission_is_refused(here: Path):
    (here / "closed").mkdir(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        check_writable(here / "closed/a", "--out it")


def test_a_folder_that_can_be_made_passes_and_nothing_is_left(here: Path):
    before = sorted(here.rglob("*"))
    for folder in (here, here / "new", here / "new/in/new"):
        check_writable(folder, "--out it")
    check_writable(storage.locate("s3://bucket/runs"), "--out it")
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("out", ["file", "/proc/nope"])
@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        (f"{TRAIN} --out {{out}}", "--seeds 2 --out {home}/runs\n"),
        (f"{TRAIN} --out {{out}} --dry-run", "--dry-run --out {home}/runs\n"),
        ("compare it.yaml", "out: {home}/runs/it\n"),
        ("tune search.yaml", "off2on tune search.yaml out={home}/runs/search\n"),
        ("tune search.yaml --dry-run", "off2on tune search.yaml out={home}/runs/search\n"),
    ],
)
def test_a_command_says_so_before_it_starts(
    here: Path, data_root: Path, words: str, suggested: str, out: str
):
    (here / "it.yaml").write_text(COMPARISON.format(out=out))
    (here / "search.yaml").write_text(SEARCH.format(out=out))
    before = sorted(here.rglob("*"))
    done = off2on(here, *words.format(out=out).split(), OFF2ON_DATA=data_root)
    assert done.returncode == 2, done.stderr
    assert f"out{'' if 'train' in words else ':'} {out}: nothing can be written in " in done.stderr
    assert suggested.format(home=os.path.expanduser("~")) in done.stderr
    assert (sorted(here.rglob("*")), [*(here.parent / "reports").iterdir()]) == (before, [])


def test_the_default_folder_is_checked_too(here: Path, data_root: Path):
    (here / "runs").touch()
    done = off2on(here, *TRAIN.split(), "--dry-run", OFF2ON_DATA=data_root)
    assert done.returncode == 2, done.stderr
    assert f"--out runs/toy-pendulum/bc-s0: nothing can be written in {here}/runs: Not a " in done.stderr


def test_the_data_folder_is_checked_before_the_data_are_read(here: Path):
    done = off2on(here, "data", "add", "toy-pendulum", "episodes=2", OFF2ON_DATA="file")
    assert done.returncode == 2, done.stderr
    assert f"the data folder file: nothing can be written in {here}/file: Not a directory" in done.stderr
    line = f"try: OFF2ON_DATA={os.path.expanduser('~')}/data off2on data add toy-pendulum episodes=2\n"
    assert line in done.stderr


@pytest.mark.parametrize("folder", ["file", "file/a", "/proc/nope"])
def test_a_page_or_a_file_that_cannot_be_written_is_no_defect(
    here: Path, toy: Shards, folder: str, monkeypatch: pytest.MonkeyPatch
):
    run, there, diagnosis = make_run(here / "runs/iql-s0", evaluations=3), here / folder, Mock(Diagnosis)
    monkeypatch.setattr(data, "data_report", lambda *_: "a page")
    for write in (
        lambda: write_report([run], there / "page.html"),
        lambda: data.write_data_report(diagnosis, "", there / "page.html"),
        lambda: export_d3rlpy(toy, there / "x.h5"),
    ):
        with pytest.raises(UserError, match=there.name):
            write()


def test_runs_in_two_roots_are_reported_in_the_current_folder(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(here)
    runs = [make_run(here / name / "iql-s0", evaluations=3) for name in ("a", "b")]
    monkeypatch.setattr(os.path, "commonpath", lambda paths: "/")
    assert write_report(runs) == Path("report.html")
    assert {path.name for path in (here / "figures").iterdir()} >= {"handover.png"}


def test_a_run_in_python_names_the_argument(here: Path, data_root: Path):
    with pytest.raises(UserError, match=r"(?s)^out='.*file': nothing can be written.*Not a directory.*out='"):
        train("bc", "toy-pendulum", updates=10, out=str(here / "file"))
