"""Comparisons of variants of the online phase: the file, the runs as real processes, and the page."""

import csv
import fcntl
import re
import shutil
import subprocess
from pathlib import Path

import command
import forked
import pytest
import yaml
from forked import Forked
from processes import runs_in, wait_for

from off2on.commands.comparison_file import read
from off2on.errors import UserError
from off2on.reports.comparison import write_comparison
from off2on.reports.page import MAX_PAGE_BYTES
from off2on.runs import statistics
from off2on.runs.numbers import points
from off2on.runs.record import load_run

PATIENCE = 400  # seconds until a process counts as stuck; a busy machine is slow
SHORT = "hidden=16,16 batch_size=32 --updates 60 --eval-every 60 --eval-episodes 1 --threads 1"
ONLINE = "--online 200 --eval-every 50 --eval-episodes 1 --threads 1"

FILE = f"""\
out: runs/ways
seeds: 3
handovers:
  iql: iql toy-pendulum {SHORT}
online: {ONLINE}
variants:
  append: --strategy append
  warm & <start>: --strategy warm_start --warm-up 50 online.utd=0.5
  pairs: --strategy append online.targets=random_pair
"""
VARIANTS = ("append", "warm & <start>")
SEEDS = 3

LAB = '''
from off2on.algorithms.iql import IQL


class Broken(IQL):
    """Fails in its first update."""

    @classmethod
    def compute_actor_loss(cls, nets, batch, hp):
        raise RuntimeError("a loss that cannot be computed")
'''

# What a user gets wrong: (in the file, instead of it), and what the message must hold.
# fmt: off
MISTAKES = {
    "bucket": (("out: runs/ways", "out: s3://bucket/ways"), ["wrong.yaml:1", "s3://bucket/ways"]),
    "online": ((f"iql: iql toy-pendulum {SHORT}", f"iql: iql toy-pendulum {SHORT} --online 50"),
               ["wrong.yaml:4", "--online"]),
    "own-seed": (("--strategy append\n  warm", "--strategy append --seed=4\n  warm"),
                 ["wrong.yaml:7", "--seed"]),
    "online-seed": (("--eval-every 50", "--eval-every 50 --seeds 4"), ["wrong.yaml:5", "--seeds is set by"]),
    "no-effect": (("--strategy append\n  warm", "--strategy append --dry-run\n  warm"),
                  ["wrong.yaml:7", "--dry-run has no effect"]),
    "quote": (("--strategy append\n  warm", "--strategy 'append\n  warm"),
              ["wrong.yaml:7", "no closing quotation"]),
    "no-online": ((f"online: {ONLINE}\n", ""), ["wrong.yaml:6", "no online phase"]),
    "key": (("seeds: 3", "seed: 3"), ["wrong.yaml:2", "'seed'", "nearest: seeds"]),
    "seeds": (("seeds: 3", "seeds: 0"), ["wrong.yaml:2", "seeds", "0"]),
    "twice": (("seeds: 3", "out: elsewhere"), ["wrong.yaml:2", "'out' is given twice", "First at wrong"]),
    "no-variants": ((FILE[FILE.index("variants:"):], ""), ["wrong.yaml", "variants"]),
    "yaml": (("seeds: 3", "seeds: [3"), ["wrong.yaml:3", "not YAML"]),
    "list": ((f"iql: iql toy-pendulum {SHORT}", "iql: [iql, toy-pendulum]"), ["wrong.yaml:4", "arguments"]),
    "algorithm": (("iql: iql", "iql: iqll"), ["wrong.yaml:4", "'iqll'", "nearest: iql"]),
    "data": (("toy-pendulum", "toy-pendulom"), ["wrong.yaml:4", "'toy-pendulom'", "nearest: toy-pendulum"]),
    "hyperparameter": (("hidden=", "hiden="), ["wrong.yaml:4", "'hiden'", "nearest: hidden"]),
    "option": (("--warm-up", "--warm-ap"), ["wrong.yaml:8", "--warm-ap"]),
    "strategy": (("--strategy append\n  warm", "--strategy apend\n  warm"),
                 ["wrong.yaml:7", "'apend'", "nearest: append"]),
    "factor": (("online.utd", "online.udt"), ["wrong.yaml:8", "'udt'", "nearest: utd"]),
    "range": (("online.utd=0.5", "online.utd=-1"), ["wrong.yaml:8", "utd", "-1"]),
}
# fmt: on


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_line(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    (there, instead), parts = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    path = Path("wrong.yaml")
    path.write_text(FILE.replace(there, instead, 1))
    with pytest.raises(UserError) as caught:
        read(path).refusals()
    told = str(caught.value)
    for part in parts:
        assert part in told, told
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "nothing is begun"


def test_a_variant_that_a_recipe_cannot_take_is_left_out_and_no_other(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ways.yaml").write_text(FILE)
    assert set(read(Path("ways.yaml")).refusals()) == {("iql", "pairs")}
    Path("former.yaml").write_text(FILE.replace("variants:", "ways:"))
    assert list(read(Path("former.yaml")).variants) == [*VARIANTS, "pairs"]
    assert "'ways' is now 'variants'" in capsys.readouterr().err


def off2on(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return forked.run(cwd, *words, env=command.environment(), timeout=PATIENCE)


def scores(out: Path) -> list[dict[str, str]]:
    with (out / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with toy data and a comparison's file."""
    lab = tmp_path_factory.mktemp("comparison")
    command.succeeds(lab, "data", "add", "toy-pendulum", "episodes=4")
    (lab / "ways.yaml").write_text(FILE)
    (lab / "wrong.yaml").write_text(FILE.replace("hidden=", "hiden=", 1))
    (lab / "my_lab.py").write_text(LAB)
    return lab


@pytest.fixture(scope="module")
def compared(lab: Path) -> tuple[dict[Path, str], subprocess.CompletedProcess[str]]:
    """The comparison, killed when its second online run has begun, and the same command again.

    Returns:
        When each run that was finished at the kill had started, and what the second command said.
    """
    words = ["compare", "ways.yaml"]
    with Forked(lab, *words, env=command.environment()) as first:
        wait_for(lambda: len(runs_in(lab / "runs/ways")) >= 3, first, PATIENCE)
        first.kill()
    assert not (lab / "runs/ways/scores.csv").exists(), "killed too late to tell anything"
    told = [(run, yaml.safe_load((run / "run.yaml").read_text())) for run in runs_in(lab / "runs/ways")]
    there = {folder: about["started"] for folder, about in told if about["status"] == "finished"}
    return there, off2on(lab, *words)


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_killed_and_begun_again_it_makes_what_was_missing(
    lab: Path, compared: tuple[dict[Path, str], subprocess.CompletedProcess[str]]
) -> None:
    there, done = compared
    assert done.returncode == 0, done.stderr
    assert there, "a run was finished when the comparison was killed"
    for folder, started in there.items():
        assert yaml.safe_load((folder / "run.yaml").read_text())["started"] == started
    runs = [yaml.safe_load(path.read_text()) for path in lab.glob("runs/ways/**/run.yaml")]
    assert len(runs) == SEEDS * (1 + len(VARIANTS))
    assert {about["status"] for about in runs} == {"finished"}
    assert "iql × pairs" in done.stderr
    assert len(re.findall(r"^done .* left$", done.stderr, re.MULTILINE)) == len(runs) - len(there) - 1
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_the_table_has_every_run_and_its_numbers_are_the_runs(lab: Path, compared: object) -> None:
    rows = scores(lab / "runs/ways")
    assert sorted((row["variant"], int(row["seed"])) for row in rows) == [
        (w, s) for w in VARIANTS for s in range(SEEDS)
    ]
    records = {}
    for path in lab.glob("runs/ways/**/run.yaml"):
        run = load_run(path.parent)
        if run.strategy is not None:
            records[run.strategy, run.seed] = run
    for row in rows:
        run = records[row["strategy"], int(row["seed"])]
        assert float(row["final"]) == run.curve.online[-1]
        assert float(row["drop"]) == run.curve.drop
        assert float(row["area"]) == pytest.approx(run.curve.area)
        assert int(row["env_steps"]) == 200
        assert row["command"] == run.metadata.command
    for seed in range(SEEDS):
        before = {row["score"] for row in rows if int(row["seed"]) == seed}
        assert len(before) == 1, "every variant starts from the same policy"


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_the_page_says_what_the_table_says(lab: Path, compared: object) -> None:
    out = lab / "runs/ways"
    page = (out / "report.html").read_text()
    assert len(page.encode()) <= MAX_PAGE_BYTES
    assert "<script" not in page
    assert "warm &amp; &lt;start&gt;" in page
    assert "<start>" not in page
    assert "iql × pairs" in page
    rows = scores(out)
    for variant in VARIANTS:
        finals = [float(row["final"]) for row in rows if row["variant"] == variant]
        assert points(statistics.estimate(finals).value) in page


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_the_page_alone_is_made_without_a_run(lab: Path, compared: object) -> None:
    out = lab / "runs/ways"
    before = {path: path.read_bytes() for path in out.rglob("*.csv")}
    (out / "report.html").unlink()
    done = off2on(lab, "compare", "ways.yaml", "--report-only")
    assert done.returncode == 0, done.stderr
    assert str(Path("runs/ways/report.html")) in done.stdout
    assert (out / "report.html").is_file()
    assert {path: path.read_bytes() for path in out.rglob("*.csv")} == before


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_run_that_fails_stops_no_other(lab: Path) -> None:
    handovers = f"  broken: my_lab:Broken toy-pendulum {SHORT}\n  iql: iql toy-pendulum {SHORT}\n"
    ways = f"online: {ONLINE}\nvariants:\n  append: --strategy append\n"
    (lab / "failing.yaml").write_text(f"out: runs/failing\nseeds: 1\nhandovers:\n{handovers}{ways}")
    done = off2on(lab, "compare", "failing.yaml", "--jobs", "2")
    assert done.returncode == 1, done.stderr
    log = "runs/failing/broken/offline/toy-pendulum/Broken-s0/log.txt"
    assert f"{lab / 'my_lab.py'}:10: RuntimeError: a loss that cannot be computed" in done.stderr
    assert "a loss that cannot be computed" in (lab / log).read_text()
    assert [row["handover"] for row in scores(lab / "runs/failing")] == ["iql"]
    assert "broken" in (lab / "runs/failing/report.html").read_text()


@pytest.fixture
def made(lab: Path, compared: object, tmp_path: Path) -> dict[str, list[Path]]:
    """Copies of the runs of each variant, to be changed, below the test's own folder."""
    shutil.copytree(lab / "runs/ways", tmp_path / "ways")
    places = {"append": "append", VARIANTS[1]: "warm*"}
    return {
        variant: sorted(path.parent for path in tmp_path.glob(f"ways/iql/{place}/**/run.yaml"))
        for variant, place in places.items()
    }


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_run_that_is_not_finished_is_in_the_table_and_not_on_the_page(
    made: dict[str, list[Path]], tmp_path: Path
) -> None:
    about = made["append"][0] / "run.yaml"
    about.write_text(about.read_text().replace("status: finished", "status: interrupted"))
    write_comparison(tmp_path, {("iql", variant): folders for variant, folders in made.items()}, {})
    rows = scores(tmp_path)
    assert len(rows) == SEEDS * len(VARIANTS)
    kept = [float(row["final"]) for row in rows if row["variant"] == "append" and row["status"] == "finished"]
    assert len(kept) == SEEDS - 1
    page = (tmp_path / "report.html").read_text()
    assert "iql × append: seed 0 is interrupted" in page
    assert points(statistics.estimate(kept).value) in page


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_only_handovers_that_every_variant_took_are_put_together(
    made: dict[str, list[Path]], tmp_path: Path
) -> None:
    cells = {(handover, variant): made[variant] for handover in ("one", "two") for variant in VARIANTS}
    write_comparison(tmp_path, cells | {("three", "append"): made["append"]}, {})
    page = (tmp_path / "report.html").read_text()
    assert "<h2>one and two together</h2>" in page
    assert "three × warm &amp; &lt;start&gt; is missing" in page
    # Both handovers are the same runs here, so that the mean of their chances is that of one.
    rows = [row for row in scores(tmp_path) if row["handover"] == "one"]
    finals = [
        [float(row["final"]) for row in rows if row["variant"] == variant] for variant in reversed(VARIANTS)
    ]
    assert f"<td>{statistics.probability_of_improvement(*finals).value:.0%}</td>" in page


def test_two_comparisons_in_one_folder_are_refused(lab: Path) -> None:
    (lab / "other.yaml").write_text(FILE.replace("runs/ways", "runs/other"))
    (lab / "runs/other").mkdir(parents=True)
    with (lab / "runs/other/.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = command.off2on(lab, "compare", "other.yaml")
    assert done.returncode == 2, done.stderr
    assert "another comparison is running in runs/other" in done.stderr
    assert not list((lab / "runs/other").rglob("run.yaml"))


def test_a_mistake_ends_the_command_before_anything_starts(lab: Path) -> None:
    done = command.off2on(lab, "compare", "wrong.yaml", "--jobs", "2")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "wrong.yaml:4" in done.stderr
    assert "Traceback" not in done.stderr
