"""Runs whose losses or weights become NaN or infinite end with an error that says where and what to try."""

import csv
import re
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
import yaml
from command import environment, off2on
from searches import OFFLINE, made
from torch import Tensor

from off2on.algorithms.bc import BC
from off2on.errors import Diverged
from off2on.rllib.batched.learners import BatchedLearners
from off2on.rllib.divergence import check_weights
from off2on.search.run import run
from off2on.search.trial_store import TrialStore

SMALL = ("hidden=8,8", "batch_size=16", "--eval-episodes", "1", "--threads", "1")
MODULE = '''
import torch

from off2on.algorithms.bc import BC


class Late(BC):
    """From update 21 of 40 on, its learning rate is too large for float32."""

    @classmethod
    def lr(cls, objective, hp, progress):
        return 1e38 if progress >= 0.5 else super().lr(objective, hp, progress)


class Logarithm(BC):
    """Its loss has the logarithm of a weight, which is positive for some seeds only."""

    @classmethod
    def compute_actor_loss(cls, nets, batch, hp):
        loss, metrics = super().compute_actor_loss(nets, batch, hp)
        weight = next(nets.actor.parameters()).flatten()[0]
        return loss + 0 * weight.detach().log(), metrics


class Root(BC):
    """Late in the online phase its loss has the square root of 0, whose gradient is not finite."""

    @classmethod
    def compute_actor_loss(cls, nets, batch, hp):
        loss, metrics = super().compute_actor_loss(nets, batch, hp)
        if batch.progress >= 1.5:
            weight = next(nets.actor.parameters())
            loss = loss + (0 * weight).square().sum().sqrt()
        return loss, metrics
'''


class Steep(BC):
    """Its loss is finite and its gradient NaN."""

    @classmethod
    def compute_actor_loss(cls, nets: Any, batch: Any, hp: Any) -> tuple[Tensor, dict[str, Tensor]]:
        loss, metrics = super().compute_actor_loss(nets, batch, hp)
        return loss + (0 * next(nets.actor.parameters())).square().sum().sqrt(), metrics


@pytest.fixture
def lab(data_root: Path, tmp_path: Path) -> Path:
    """A working directory with algorithms that diverge."""
    (tmp_path / "diverging.py").write_text(MODULE)
    (tmp_path / "data").symlink_to(data_root, target_is_directory=True)
    return tmp_path


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def status(folder: Path) -> str:
    return str(yaml.safe_load((folder / "run.yaml").read_text())["status"])


@pytest.mark.parametrize("learners", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_a_run_ends_at_the_first_loss_that_is_not_finite(lab: Path, learners: str):
    words = ("--updates", "40", "--eval-every", "10", "--learners", learners)
    # In a process of its own: the learners of a Ray that another test started do not find the module.
    done = forked.run(lab, "train", "diverging:Late", "toy-pendulum", *words, *SMALL, env=environment())
    assert done.returncode == 2, done.stderr
    folder = Path("runs/toy-pendulum/Late-s0")
    message = done.stderr[done.stderr.index("error: ") :]
    assert re.match(
        rf"error: {folder}: the loss of the objective 'actor' is (NaN|infinite) at update 22\.", message
    )
    assert f"{lab / folder}/checkpoints/000000020\n" in message
    assert "actor_lr=3e-05, not 0.0003" in message
    assert message.endswith("  try: off2on data check toy-pendulum\n")
    assert status(lab / folder) == "failed"
    assert [row["updates"] for row in metrics(lab / folder)] == ["10", "20"]
    assert [path.name for path in (lab / folder / "checkpoints").iterdir() if path.is_dir()].count(
        "000000020"
    )
    assert "Traceback" in (lab / folder / "log.txt").read_text()
    assert "Traceback" not in message


def test_weights_are_checked_before_they_are_evaluated_or_kept(lab: Path):
    (lab / "steep.py").write_text(MODULE.replace("batch.progress >= 1.5", "True"))
    words = ("--updates", "1", "--eval-every", "1")
    done = off2on(lab, "train", "steep:Root", "toy-pendulum", *words, *SMALL)
    assert done.returncode == 2, done.stderr
    assert "weights of the network 'actor' are NaN or infinite after update 1." in done.stderr
    assert "It has no checkpoint yet." in done.stderr
    folder = lab / "runs/toy-pendulum/Root-s0"
    assert not (folder / "metrics.csv").exists()
    assert not [*(folder / "checkpoints").iterdir()]


def test_an_environment_is_not_blamed_for_actions_that_are_nan(lab: Path):
    words = ("--updates", "5", "--online", "20", "--eval-every", "20", "--strategy", "append")
    done = off2on(lab, "train", "diverging:Root", "toy-pendulum", *words, *SMALL)
    assert done.returncode == 2, done.stderr
    assert re.search(r"(weights of the network|the loss of the objective) 'actor'", done.stderr)
    assert "Pendulum-v1" not in done.stderr
    assert "online.actor_lr=3e-05" in done.stderr
    assert "checkpoints/000000006-000000001" in done.stderr


@pytest.mark.parametrize("together", [(), ("--together",)], ids=["one by one", "together"])
def test_other_seeds_go_on(lab: Path, together: tuple[str, ...]):
    words = ("--updates", "20", "--eval-every", "10", "--seeds", "4", *together)
    done = off2on(lab, "train", "diverging:Logarithm", "toy-pendulum", *words, *SMALL)
    assert done.returncode == 1, done.stderr
    folders = {seed: lab / f"runs/toy-pendulum/Logarithm-s{seed}" for seed in range(4)}
    ends = {seed: status(folder) for seed, folder in folders.items()}
    assert {*ends.values()} == {"failed", "finished"}
    for seed, end in ends.items():
        told = f"Logarithm-s{seed}: the loss of the objective 'actor' is NaN at update 1."
        assert (f"error: runs/toy-pendulum/{told}" in done.stderr) == (end == "failed")
        report = next(line for line in done.stdout.splitlines() if line.startswith("together "))
        assert (f"Logarithm-s{seed}" in report) == (end == "finished")
        assert (folders[seed] / "report.html").exists() == (end == "finished")
        if end == "finished":
            assert [row["updates"] for row in metrics(folders[seed])] == ["10", "20"]


def test_seeds_in_one_program_diverge_each_by_itself(build_learner: Any):
    learners = [build_learner(BC, "toy-pendulum", seed=seed) for seed in (3, 4)]
    together = BatchedLearners(learners)
    for learner in learners:
        together.advance(learner, 3)
    alone = learners[1].flat["actor"].vector.clone()
    assert together.stack is not None
    for parameter in together.stack.flat["actor"].parameters:  # [S, …]
        parameter.data[0] = torch.nan
    with pytest.raises(Diverged, match="actor") as caught:
        together.advance(learners[0], 5)
    assert caught.value.update == 4
    assert all(torch.isfinite(torch.tensor([*together.advance(learners[1], 5).values()])))
    assert not torch.equal(learners[1].flat["actor"].vector, alone)
    check_weights(learners[1])


@pytest.mark.slow
def test_in_a_search_only_the_trial_fails(
    lab: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(lab)
    text = OFFLINE.replace("actor_lr: default", "actor_lr: {one_of: [1e-4, 3e-4]}")
    search = made(text, trials="2", updates="20")
    drawn = {"expectile": 0.7, "actor_lr": "1e30"}
    TrialStore(search.place, search.names).add("first", drawn, search.as_text(drawn))
    trials = run(search, jobs=1, resume=False)
    assert [trial.outcome["status"] for trial in trials] == ["failed", "finished"]
    (told,) = (line for line in capfd.readouterr().err.splitlines() if line.startswith("failed "))
    assert re.search(
        r"000  Diverged: \S+: the loss of the objective '\w+' is (NaN|infinite) at update 2\.  ", told
    )
    assert "Traceback" in (search.folder / "trials/000/log.txt").read_text()


def test_the_update_is_found_in_a_block_with_others(build_learner: Any):
    learner = build_learner(Steep, "toy-pendulum")
    with pytest.raises(Diverged) as caught:
        learner.advance(50)
    assert (caught.value.objective, caught.value.update) == ("actor", 2)
    with pytest.raises(Diverged, match="after update 50"):
        check_weights(learner)
