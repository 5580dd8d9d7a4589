"""Checkpoints of a run that somebody changed are refused, naming the part."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from made_runs import make_run

from datasets_io.errors import Corrupt
from off2on.runs.checkpoints import PARTS, check_checkpoint
from off2on.runs.folder import Run

OLD_RUN = Path(__file__).parent / "fixtures" / "run_of_0_1_0"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def save(folder: str) -> None:
    """Write a checkpoint of two parts."""
    (Path(folder) / "learner").mkdir(parents=True)
    (Path(folder) / "learner/state.pkl").write_bytes(b"12345")
    (Path(folder) / "rows-0-of-1.pt").write_bytes(b"678")


@pytest.fixture
def kept(run: Path) -> Run:
    """A run with a checkpoint of two parts."""
    opened = Run.resume(run)
    opened.checkpoints.mkdir()
    opened.checkpoint("000010", save)
    return opened


def relink(run: Run, target: str) -> None:
    (run.checkpoints / "last").unlink()
    (run.checkpoints / "last").symlink_to(target)


SPOILED: dict[str, tuple[Callable[[Run], object], str]] = {
    "dangling": (lambda run: relink(run, "gone"), "gone"),
    "elsewhere": (lambda run: relink(run, "/etc"), "/etc"),
    "the run itself": (lambda run: relink(run, ".."), "leads to"),
    "all checkpoints": (lambda run: relink(run, "."), "leads to"),
    "a part is missing": (lambda run: (run.checkpoints / "000010/rows-0-of-1.pt").unlink(), "rows-0-of-1.pt"),
    "a folder is missing": (
        lambda run: shutil.rmtree(run.checkpoints / "000010/learner"),
        "learner/state.pkl",
    ),
    "a part is short": (
        lambda run: (run.checkpoints / "000010/learner/state.pkl").write_bytes(b"12"),
        "learner/state.pkl has 2 bytes",
    ),
    "a part lies elsewhere": (
        lambda run: (run.checkpoints / "000010/more.pkl").symlink_to("/etc/passwd"),
        "more.pkl",
    ),
    "another folder": (
        lambda run: run.checkpoints.symlink_to(run.checkpoints.rename(run.folder.parent / "x")),
        "leads to",
    ),
    "a damaged list": (lambda run: (run.checkpoints / "000010" / PARTS).write_text("[1]"), PARTS),
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_checkpoint_that_is_not_whole_is_refused(spoil: str, kept: Run):
    assert kept.last_checkpoint == kept.checkpoints / "000010"
    break_it, told = SPOILED[spoil]
    break_it(kept)
    with pytest.raises(Corrupt) as refused:
        _ = kept.last_checkpoint
    assert told in str(refused.value)


def test_only_former_checkpoints_are_deleted(kept: Run):
    (kept.checkpoints / ".DS_Store").touch()
    (kept.checkpoints / "best").symlink_to("000010")
    (kept.checkpoints / "000009").symlink_to("best")
    for name in ("mine", "handover", "000011.partial"):
        save(str(kept.checkpoints / name))
    assert kept.checkpoint("000020-000001", save) == kept.last_checkpoint
    left = {path.name for path in kept.checkpoints.iterdir()}
    assert left == {"000020-000001", "last", "handover", ".DS_Store", "best", "000009", "mine"}


def test_a_checkpoint_of_the_version_before_has_its_parts(tmp_path: Path):
    run = Path(shutil.copytree(OLD_RUN, tmp_path / "run", symlinks=True))
    checkpoint = check_checkpoint(run, "last")
    assert checkpoint.name == "000000300-000000100"
    for part in ("rows-0-of-1.pt", "algorithm_state.pkl"):
        (checkpoint / part).rename(checkpoint / "moved")
        with pytest.raises(Corrupt, match=part):
            check_checkpoint(run, "last")
        (checkpoint / "moved").rename(checkpoint / part)
