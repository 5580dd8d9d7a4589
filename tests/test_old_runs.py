"""A run that was begun by version 0.1.0, before its modules moved, is resumed by this version.

tests/fixtures/run_of_0_1_0 was interrupted after 100 of 200 environment steps; uninterrupted.csv holds the
metrics of the same run without the interruption, by the same version.
"""

import csv
import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml

from datasets_io import ingest
from datasets_io.sources.toy import ToyPendulum
from off2on.errors import UserError
from off2on.training.plan import Plan
from off2on.training.train import train

OLD_RUN = Path(__file__).parent / "fixtures" / "run_of_0_1_0"


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_run_of_the_version_before_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_root: Path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OFF2ON_DATA", raising=False)
    ingest(ToyPendulum(), None, tmp_path / "data", name="toy-pendulum")
    run = tmp_path / "runs" / "toy-pendulum" / "iql-symmetric-s0"
    shutil.copytree(OLD_RUN, run, symlinks=True)
    plan = Plan(
        "iql",
        "toy-pendulum",
        hyperparameters={"hidden": "8,8", "batch_size": "16"},
        updates=200,
        online=200,
        memory=2**30,
        threads=1,
        eval_every=100,
        eval_episodes=1,
    )
    with pytest.raises(UserError, match="run with precision float32, not bfloat16"):
        dataclasses.replace(plan, precision="bfloat16").check(resume=True)
    train(plan, resume=True)
    expected = rows(OLD_RUN / "uninterrupted.csv")
    found = rows(run / "metrics.csv")
    assert [row["env_steps"] for row in found] == [row["env_steps"] for row in expected]
    for name in ("score", "q", "critic/loss", "actor/loss", "value/loss"):
        # Bit-equal on the machine that recorded it; other CPUs add in another order.
        assert float(found[-1][name]) == pytest.approx(float(expected[-1][name]), rel=1e-3), name
    assert yaml.safe_load((run / "run.yaml").read_text())["status"] == "finished"
