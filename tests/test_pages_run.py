"""The code of the pages runs as it stands: files are written, commands and Python are executed in order."""

import re
import shlex
from pathlib import Path

import command
import pytest
from forked import ForkedProgram

DOCS = Path(__file__).parents[1] / "platform" / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+/\w+\.py)\n")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of every block of code; commands have no language, and ``text`` is not run."""
    return BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


def run_page(page: str, folder: Path) -> tuple[int, int, int]:
    """Run the blocks of a page in a folder; return the numbers of files, commands and programs."""
    files = commands = programs = 0
    for language, text in blocks(page):
        named = FILE.match(text)
        if language == "python" and named:
            file = folder / named[1]
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
            files += 1
        elif language == "python":
            run_program(folder, text)
            programs += 1
        elif language == "":
            for line in text.splitlines():
                program, *words = shlex.split(line, comments=True)
                assert program == "off2on"
                if words[0] == "train":
                    words += ["--eval-every", "1000", "--eval-episodes", "1", "--threads", "1"]
                command.succeeds(folder, *words)
                commands += 1
    return files, commands, programs


def run_program(folder: Path, text: str) -> None:
    with ForkedProgram(folder, text, env=command.environment()) as process:
        _, err = process.communicate(command.PATIENCE)
        assert process.returncode == 0, err


def test_the_page_of_extensions_runs(tmp_path: Path):
    assert run_page("extending.md", tmp_path) == (6, 10, 0)
    runs = {path.name for path in (tmp_path / "runs" / "toy-pendulum").iterdir()}
    assert len(runs) == 5
    assert (tmp_path / "data" / "random-pendulum" / "manifest.json").exists()


def test_the_quickstart_runs_and_leaves_the_files_that_it_lists(tmp_path: Path):
    assert run_page("quickstart.md", tmp_path) == (0, 6, 3)
    run = tmp_path / "runs" / "toy-pendulum" / "iql-symmetric-s0"
    listed = re.findall(r"^\| `([\w.]+)/?` \|", (DOCS / "quickstart.md").read_text(), re.MULTILINE)
    assert len(listed) == 6
    assert [name for name in listed if not (run / name).exists()] == []


def test_a_table_becomes_a_policy_without_a_simulator(tmp_path: Path):
    assert run_page("without_simulator.md", tmp_path) == (0, 5, 2)
    assert (tmp_path / "runs" / "heating" / "iql-s0" / "policy.pt").exists()


def test_the_counterparts_of_other_libraries_run(tmp_path: Path):
    text = (DOCS / "migrating.md").read_text(encoding="utf-8")
    ours = re.findall(r'^```\{\.python title="off2on"\}\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    assert len(ours) == 3
    command.succeeds(tmp_path, "data", "add", "toy-pendulum")
    shorter = "\n".join(ours).replace("10_000", "20").replace("5_000", "20")
    run_program(tmp_path, f"{shorter}\nassert algo.finished and algo.updates == 20")
