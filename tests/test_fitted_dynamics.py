"""The dynamics of MOPO and COMBO: what they ask of data and settings, fitting, and taking fitted ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import tensor

from datasets_io import Shards
from off2on.algorithms.combo import COMBO
from off2on.algorithms.mopo import MOPO
from off2on.algorithms.sac import SAC
from off2on.errors import HyperparameterError, UnknownName, UserError
from off2on.recipe import terminations
from off2on.recipe.batch import Batch
from off2on.recipe.dynamics_model import FILE

Build = Callable[..., Any]
SMALL = {"dynamics_hidden": (16,), "dynamics_decay": (0.0, 0.0), "dynamics_members": 3, "dynamics_elites": 2}


# What they ask of data and settings.


@pytest.mark.parametrize("recipe", [MOPO, COMBO])
def test_the_rule_is_the_environments(recipe: Any, toy: Shards):
    hp = recipe.resolve(recipe.Hyperparameters(), toy)
    assert hp.termination == "pendulum"
    assert recipe.resolve(hp, toy) == hp
    assert recipe.resolve(recipe.Hyperparameters(termination="hopper"), toy).termination == "hopper"
    assert recipe.resolve(recipe.Hyperparameters(normalise_obs=True), toy).normalise_obs


def test_data_whose_episodes_end_by_an_unknown_rule_are_refused(wide: Shards):
    with pytest.raises(UserError, match="6 of 12 episodes terminate") as refusal:
        MOPO.resolve(MOPO.Hyperparameters(), wide)
    assert refusal.value.try_ == "termination=my_lab.forklift:crashed"
    assert "termination=never" in refusal.value.expected
    for name in ("never", f"{terminations.__name__}:never"):
        assert MOPO.resolve(MOPO.Hyperparameters(termination=name), wide).termination == name


def test_rules_that_need_units_do_not_go_with_other_units(toy: Shards):
    hp = MOPO.Hyperparameters(termination="hopper", normalise_obs=True)
    with pytest.raises(HyperparameterError, match="cannot normalise observations"):
        MOPO.resolve(hp, toy)


def test_a_rule_that_is_not_there_is_refused(toy: Shards):
    with pytest.raises(UnknownName, match="hoper"):
        MOPO.resolve(MOPO.Hyperparameters(termination="hoper"), toy)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"dynamics_elites": 8}, "dynamics_elites must be at most"),
        ({"dynamics_hidden": (10, 10)}, "dynamics_decay must have 3 numbers"),
        ({"real_ratio": 1.5}, "real_ratio"),
        ({"horizon": 0}, "horizon"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: Any, word: str):
    with pytest.raises(HyperparameterError, match=word):
        MOPO.Hyperparameters(**given)


@pytest.mark.parametrize("recipe", [MOPO, COMBO])
def test_presets_are_settings(recipe: Any):
    for name in recipe.Hyperparameters.presets:
        hp = recipe.Hyperparameters.parse({"preset": name}, "it")
        assert hp.horizon in (1, 5)
    assert {"hopper-medium", "hopper-medium-v2"} <= set(recipe.Hyperparameters.presets)


# Fitting, and taking what was fitted.


@pytest.fixture
def rows(toy: Shards, build_learner: Build) -> Batch:
    learner = build_learner(SAC)
    columns: Batch = learner.rows.layout.split(learner.rows.data[: learner.rows.offline])
    return columns


def settled(toy: Shards, **given: Any) -> Any:
    return MOPO.resolve(
        MOPO.Hyperparameters.parse(SMALL | {"dynamics_epochs": 10, "dynamics_lr": 1e-2} | given, "mopo"), toy
    )


def unfitted(toy: Shards, path: Path) -> None:
    nets = MOPO.build_nets(toy.observation_space, toy.action_space, settled(toy))
    torch.save(nets.dynamics.state_dict(), path)


def test_fitted_dynamics_are_taken_from_a_file_or_a_run(toy: Shards, rows: Batch, tmp_path: Path):
    hp, spaces = settled(toy), (toy.observation_space, toy.action_space)
    nets = MOPO.build_nets(*spaces, hp)
    found = MOPO.fit(nets, rows, hp, torch.Generator().manual_seed(0))
    assert found["dynamics/epochs"] == 10
    assert found["dynamics/holdout_mse"] < found["dynamics/constant_mse"]
    torch.save(nets.dynamics.state_dict(), tmp_path / FILE)
    for where in (tmp_path, tmp_path / FILE):
        again = settled(toy, dynamics=str(where), penalty=3.0)
        other = MOPO.build_nets(*spaces, again)
        taken = MOPO.fit(other, rows, again, torch.Generator().manual_seed(1))
        assert taken["dynamics/recorded_mse"] == pytest.approx(found["dynamics/holdout_mse"], rel=0.3)
        for name, value in nets.dynamics.state_dict().items():
            assert torch.equal(value, other.dynamics.state_dict()[name])


def test_a_path_is_made_absolute_for_other_processes(
    toy: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    unfitted(toy, tmp_path / FILE)
    monkeypatch.chdir(tmp_path)
    assert settled(toy, dynamics=".").dynamics == str(tmp_path / FILE)


def test_dynamics_that_are_missing_or_do_not_fit_are_refused_before_anything_starts(
    toy: Shards, tmp_path: Path
):
    with pytest.raises(UnknownName, match="no fitted dynamics"):
        settled(toy, dynamics=str(tmp_path / "nowhere"))
    unfitted(toy, tmp_path / FILE)
    with pytest.raises(HyperparameterError, match=r"layers.0.weight: \[3, 16, 4\], expected \[4, 16, 4\]"):
        settled(toy, dynamics=str(tmp_path), dynamics_members=4)


@pytest.mark.parametrize("constant", [False, True])
def test_dynamics_of_other_rewards_are_refused(toy: Shards, rows: Batch, tmp_path: Path, constant: bool):
    hp = settled(toy)
    if constant:
        rows.reward = torch.ones_like(rows.reward)
    nets = MOPO.build_nets(toy.observation_space, toy.action_space, hp)
    MOPO.fit(nets, rows, hp, torch.Generator().manual_seed(0))
    torch.save(nets.dynamics.state_dict(), tmp_path / FILE)
    MOPO.fit(nets, rows, settled(toy, dynamics=str(tmp_path)), torch.Generator())
    rows.reward = 10 * rows.reward - 5
    with pytest.raises(UserError, match="worse than a constant") as refusal:
        MOPO.fit(nets, rows, settled(toy, dynamics=str(tmp_path)), torch.Generator())
    assert "reward=" in refusal.value.expected


class Watched(MOPO):
    """Logs how many rows of a batch are recorded, and the largest reward of the others."""

    @classmethod
    def compute_critic_loss(cls, nets: Any, batch: Batch, hp: Any) -> Any:
        loss, metrics = super().compute_critic_loss(nets, batch, hp)
        return loss, metrics | {"real": tensor(float(batch.real)), "dream": batch.reward[batch.real :].max()}


def test_the_machine_fits_imagines_and_mixes(build_learner: Build):
    given = SMALL | {"dynamics_epochs": 2, "rollout_starts": 40, "rollout_every": 4, "penalty": 1e4}
    learner = build_learner(Watched, real_ratio=0.25, **given)
    found = learner.fit()
    assert found["dynamics/epochs"] == 2
    assert learner.nets.dynamics.mean.abs().sum() > 0
    before = [value.clone() for value in learner.nets.dynamics.state_dict().values()]
    learner.advance(6)
    assert learner.sampler.model_buffer.rows.online == 2 * 40 * 5
    for value, old in zip(learner.nets.dynamics.state_dict().values(), before, strict=True):
        assert torch.equal(value, old)  # no update touches them


def test_a_batch_without_recorded_rows_has_no_offline_share(build_learner: Build):
    given = {"dynamics_hidden": (8,), "dynamics_decay": (0.0, 0.0), "rollout_starts": 40, "horizon": 1}
    learner = build_learner(Watched, real_ratio=0.0, **given)
    made = learner.advance(2)
    assert made["real"] == 0
    assert "offline_share" not in made
