"""The page of a run's files explains every file and every column that a run writes."""

import re
from pathlib import Path

import pytest

import off2on
from off2on.algorithms import find_algorithm

pytest.importorskip("mkdocs", reason="off2on[docs] is not installed")

from algorithm_pages import METRICS

PAGE = (Path(__file__).parents[1] / "platform" / "docs" / "run.md").read_text(encoding="utf-8")
ONLY_SOMETIMES = {"success", "staleness", "staleness_most"}


def named(heading: str) -> set[str]:
    """Return what the first cells of the first table below a heading name."""
    rows = f"\n{PAGE}".partition(f"\n{heading}\n")[2].partition("\n#")[0].splitlines()
    cells = [row.split(" | ")[0] for row in rows if row.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.fixture(scope="module")
def run(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> off2on.LoadedRun:
    return off2on.train(
        "iql", "toy-pendulum", updates=20, online=20, strategy="balanced", threads=1,
        eval_every=20, eval_episodes=1, out=str(tmp_path_factory.mktemp("page") / "runs"),
        hyperparameters={"hidden": (8, 8), "batch_size": 16},
    )  # fmt: skip


def test_every_column_of_the_metrics_is_explained(run: off2on.LoadedRun):
    columns, explained = {*run.metrics.columns}, named("## metrics.csv")
    losses = {f"{objective.name}/loss" for objective in find_algorithm("iql").objectives_in_order()}
    assert columns - explained - losses - METRICS.keys() == set()
    assert explained - columns == ONLY_SOMETIMES


def test_every_column_of_the_episodes_is_explained(run: off2on.LoadedRun):
    assert named("## episodes.csv") - {*run.episodes.columns} == {"success"}
    assert {*run.episodes.columns} <= named("## episodes.csv")


def test_every_file_is_explained(run: off2on.LoadedRun):
    files = {re.sub(r"(tfevents\.).*", r"\1…", path.name) for path in run.folder.iterdir()}
    explained = {name.rstrip("/") for name in named("# Files of a run")}
    assert files <= explained
    assert explained - files <= {"guard.yaml", "policies"}
