"""The learned dynamics alone: what they compute, how they are fitted, how they are kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets_io import Shards
from off2on.errors import HyperparameterError, UnknownName, UserError
from off2on.recipe import dynamics_model as module
from off2on.recipe.dynamics_model import (
    FILE,
    PATIENCE,
    Dynamics,
    DynamicsShape,
    dynamics_file,
    fit_dynamics,
    read_dynamics,
)

SMALL = DynamicsShape(obs=3, action=2, hidden=(16, 16), members=4, elites=2)
PENDULUM = DynamicsShape(obs=3, action=1, hidden=(64, 64), members=3, elites=2)
DECAY = (2.5e-5, 5e-5, 1e-4)


def made(rows: int, noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """Inputs [N, 5] of different sizes and places, and targets [N, 4] that follow from them."""
    scale, place = torch.tensor([1.0, 10, 0.1, 1, 1]), torch.tensor([0.0, 50, 0, 3, -3])
    x = torch.randn(rows, 5)
    y = torch.stack((x[:, 0] * x[:, 1], x[:, 2], x[:, 3].sin(), x.sum(1)), 1)
    return x * scale + place, y + noise * torch.randn(rows, 4)


def fitted(
    shape: DynamicsShape, inputs: Tensor, targets: Tensor, seed: int = 0, **given: Any
) -> tuple[Dynamics, Any]:
    torch.manual_seed(0)
    dynamics = Dynamics(shape)
    options = {"lr": 1e-3, "decay": DECAY, "batch_size": 64, "epochs": 5} | given
    found = fit_dynamics(dynamics, inputs, targets, generator=torch.Generator().manual_seed(seed), **options)
    return dynamics, found


# What they compute.


def test_members_are_computed_at_once_and_do_not_mix():
    dynamics, x = Dynamics(SMALL), torch.randn(7, 5)
    mean, log_var = dynamics(x)
    assert mean.shape == log_var.shape == (4, 7, 4)
    own = torch.randn(4, 7, 5)
    for number in range(4):
        alone = own.clone()
        alone[[other for other in range(4) if other != number]] = 0
        for whole, one in zip(dynamics(own), dynamics(alone), strict=True):
            assert torch.equal(whole[number], one[number])
    assert not torch.equal(mean[0], mean[1])


def test_the_log_variance_stays_between_its_learned_bounds():
    dynamics = Dynamics(SMALL)
    with torch.no_grad():
        for parameter in dynamics.layers[-1].parameters():
            parameter *= 1e4
    _, log_var = dynamics(10 * torch.randn(50, 5))
    assert log_var.max() <= dynamics.max_log_var.max() + 1e-4
    assert log_var.min() >= dynamics.min_log_var.min() - 1e-4
    assert log_var.max() > 0.4
    assert log_var.min() < -9.9


def test_a_prediction_is_the_observation_plus_the_change_and_the_reward_alone():
    dynamics, obs, action = Dynamics(SMALL), torch.randn(6, 3), torch.randn(6, 2)
    change, log_var = dynamics(torch.cat((obs, action), 1))
    mean, std = dynamics.predict(obs, action)
    torch.testing.assert_close(mean[..., :3], obs + change[..., :3])
    assert torch.equal(mean[..., 3], change[..., 3])
    torch.testing.assert_close(std.square().log(), log_var)


def test_a_step_draws_from_one_elite_per_row_and_tells_every_members_sigma():
    dynamics, count = Dynamics(SMALL), 4000
    with torch.no_grad():
        dynamics.layers[-1].weight.zero_()
        # member e predicts a change and a reward of 10 e, with a sigma of about exp(-5)
        dynamics.layers[-1].bias.copy_(10 * torch.arange(4.0).view(4, 1, 1).expand(4, 1, 8))
        dynamics.layers[-1].bias[..., 4:] = -30
    dynamics.elites = torch.tensor([2, 0])
    next_obs, reward, std = dynamics.step(torch.ones(count, 3), torch.zeros(count, 2))
    assert next_obs.shape == (count, 3)
    assert reward.shape == (count,)
    assert std.shape == (4, count, 4)
    member = (reward / 10).round()
    assert set(member.tolist()) == {0.0, 2.0}
    assert (member == 2).float().mean() == pytest.approx(0.5, abs=5 * 0.5 / count**0.5)
    assert torch.equal(((next_obs - 1) / 10).round(), member.unsqueeze(1).expand(-1, 3))
    noise = (next_obs - 1 - 10 * member.unsqueeze(1)) / std[0, :, :3]
    assert noise.mean().item() == pytest.approx(0, abs=5 / (3 * count) ** 0.5)
    assert noise.std().item() == pytest.approx(1, abs=5 / (6 * count) ** 0.5)


def test_one_step_of_the_optimiser_is_adams_on_the_loss_and_the_papers_decay():
    torch.manual_seed(0)
    dynamics = Dynamics(SMALL)
    optimizer = module._optimizer(dynamics, 1e-3, (0.1, 0.2, 0.3))
    before = {name: value.detach().clone() for name, value in dynamics.named_parameters()}
    x, y = torch.randn(4, 9, 5), torch.randn(4, 9, 4)
    weights = [layer.weight for layer in dynamics.layers]
    penalty = sum(d / 2 * w.square().sum() for d, w in zip((0.1, 0.2, 0.3), weights, strict=True))
    names, parameters = zip(*dynamics.named_parameters(), strict=True)
    gradients = torch.autograd.grad(dynamics.loss(x, y) + penalty, parameters)
    dynamics.loss(x, y).backward()
    optimizer.step()
    for name, parameter, g in zip(names, parameters, gradients, strict=True):
        # Adam's first step: lr g / (|g| + eps)
        torch.testing.assert_close(
            parameter, before[name] - 1e-3 * g / (g.abs() + 1e-8), rtol=1e-4, atol=1e-6
        )


# How they are fitted.


def test_they_predict_held_out_episodes_better_than_any_constant(toy: Shards):
    columns = toy.read_all(["obs", "actions", "new_obs", "rewards", "last"])
    number = np.cumsum(np.concatenate([[0], columns["last"][:-1]]))
    held = torch.from_numpy(number % 5 == 0)
    assert 0 < held.sum() < len(held)
    obs, action, next_obs, reward = (
        torch.from_numpy(np.asarray(columns[name], np.float32))
        for name in ("obs", "actions", "new_obs", "rewards")
    )
    inputs = torch.cat((obs, action), 1)
    targets = torch.cat((next_obs - obs, reward.unsqueeze(1)), 1)
    dynamics, found = fitted(PENDULUM, inputs[~held], targets[~held], epochs=15, lr=3e-3)
    mean = dynamics(inputs[held])[0][dynamics.elites].mean(0)
    error = (mean - targets[held]).square().mean(0)
    constant = (targets[~held].mean(0) - targets[held]).square().mean(0)
    assert (error < 0.1 * constant).all(), error / constant  # of each dimension and of the reward
    assert found["dynamics/holdout_mse"] < 0.1 * found["dynamics/constant_mse"]


@torch.no_grad()
def predicted_sigma(dynamics: Dynamics, inputs: Tensor, dimension: int) -> Tensor:
    return (0.5 * dynamics(inputs)[1]).exp()[dynamics.elites, :, dimension].mean(0)


def test_what_is_uncertain_is_said_to_be():
    inputs, targets = made(2000)
    targets[:, 1] += torch.where(inputs[:, 0] > 0, 1.0, 0.01) * torch.randn(2000)
    dynamics, _ = fitted(SMALL, inputs, targets, epochs=30)
    std = predicted_sigma(dynamics, inputs, 1)
    assert std[inputs[:, 0] > 0.5].mean().item() == pytest.approx(1.0, rel=0.3)
    assert std[inputs[:, 0] < -0.5].mean() < 0.5


def state(dynamics: Dynamics) -> list[Tensor]:
    return list(dynamics.state_dict().values())


def test_fitting_is_a_function_of_the_generator():
    rows = made(300)
    one, other, third = fitted(SMALL, *rows), fitted(SMALL, *rows), fitted(SMALL, *rows, seed=1)
    assert one[1] == other[1]
    assert all(torch.equal(a, b) for a, b in zip(state(one[0]), state(other[0]), strict=True))
    assert one[1] != third[1]


def test_fitting_leaves_the_worlds_random_numbers_alone():
    rows = made(300)
    torch.manual_seed(0)
    dynamics = Dynamics(SMALL)
    before = torch.get_rng_state()
    fit_dynamics(
        dynamics,
        *rows,
        lr=1e-3,
        decay=DECAY,
        batch_size=64,
        epochs=1,
        generator=torch.Generator().manual_seed(0),
    )
    assert torch.equal(before, torch.get_rng_state())


def test_inputs_are_standardised_by_the_training_rows_and_constants_stay():
    inputs, targets = made(1000)
    inputs[:, 4] = 7.0
    dynamics, _ = fitted(SMALL, inputs, targets, epochs=1)
    assert dynamics.std[4] == 1
    assert dynamics.mean[4] == 7
    x = (inputs - dynamics.mean) / dynamics.std
    torch.testing.assert_close(x.mean(0), torch.zeros(5), atol=0.1, rtol=0)
    torch.testing.assert_close(x.std(0)[:4], torch.ones(4), atol=0.1, rtol=0)
    assert dynamics.mean.sum() != inputs.mean(0).sum()  # the held-out rows have no say


class Watched(Dynamics):
    """Records the rows it is trained on."""

    def __init__(self, shape: DynamicsShape) -> None:
        super().__init__(shape)
        self.seen: list[Tensor] = []

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        self.seen.append(targets[..., 0].long())
        return super().loss(inputs, targets)


def test_every_member_trains_on_its_own_bootstrap_sample_of_what_is_not_held_out():
    inputs, targets = made(1000)
    targets[:, 0] = torch.arange(1000)  # every row has a number
    dynamics = Watched(SMALL)
    fit_dynamics(
        dynamics, inputs, targets, lr=1e-3, decay=DECAY, batch_size=64, epochs=2, generator=torch.Generator()
    )
    steps = len(dynamics.seen) // 2
    assert steps == -(-800 // 64)
    first, second = (torch.cat(dynamics.seen[part], 1) for part in (slice(steps), slice(steps, None)))
    assert first.shape == (4, 800)
    assert torch.equal(first.sort(1).values, second.sort(1).values)  # the same rows in another order
    assert not torch.equal(first, second)
    assert len(first.unique()) <= 800
    for member in first:
        assert len(member.unique()) / 800 == pytest.approx(1 - np.exp(-1), abs=0.05)
    assert not torch.equal(first[0].sort().values, first[1].sort().values)


class Scripted(Dynamics):
    """Returns prescribed errors, and records its weights at each of them."""

    def __init__(self, script: list[list[float]]) -> None:
        super().__init__(SMALL)
        self.script = iter(script)
        self.then: list[Tensor] = []

    def errors(self, inputs: Tensor, targets: Tensor) -> Tensor:
        self.then.append(self.layers[0].weight.detach().clone())
        return torch.tensor(next(self.script))


def test_fitting_ends_after_five_epochs_without_progress_and_keeps_every_members_best():
    script = [[8.0, 4.0, 6.0, 2.0], [7.0, 5.0, 6.0, 1.0], [6.95, 3.0, 6.0, 1.5]]
    script += [[6.94, 2.98, 5.95, 1.0]] * PATIENCE  # better, but by no more than 1 %
    dynamics = Scripted([*script, [0.0] * 4])
    found = fit_dynamics(
        dynamics, *made(100), lr=1e-3, decay=DECAY, batch_size=64, epochs=None, generator=torch.Generator()
    )
    assert found["dynamics/epochs"] == 3 + PATIENCE
    kept = [dynamics.then[epoch][member] for member, epoch in enumerate((1, 2, 0, 1))]
    assert torch.equal(dynamics.layers[0].weight, torch.stack(kept))
    assert dynamics.elites.tolist() == [3, 1]
    assert found["dynamics/holdout_mse"] == pytest.approx((1.0 + 3.0) / 2)


def test_the_error_reported_is_that_of_the_weights_kept():
    inputs, targets = made(500, noise=1.0)
    dynamics, found = fitted(SMALL, inputs, targets, epochs=12, batch_size=16)
    held = torch.randperm(500, generator=torch.Generator().manual_seed(0))[:100]
    errors = dynamics.errors(inputs[held], targets[held])
    assert found["dynamics/holdout_mse"] == pytest.approx(errors[dynamics.elites].mean().item(), rel=1e-4)
    assert set(dynamics.elites.tolist()) == set(errors.argsort()[:2].tolist())


def test_a_handful_of_rows_is_enough_to_run():
    _, found = fitted(SMALL, *made(3), epochs=2)
    assert all(np.isfinite(value) for value in found.values())


# How they are kept.


def test_they_are_read_as_they_were_written(tmp_path: Path):
    dynamics, _ = fitted(SMALL, *made(100), epochs=1)
    torch.save(dynamics.state_dict(), tmp_path / FILE)
    other = Dynamics(SMALL)
    other.load_state_dict(read_dynamics(dynamics_file(str(tmp_path)), SMALL))  # the folder of a run
    assert all(torch.equal(a, b) for a, b in zip(state(dynamics), state(other), strict=True))
    assert dynamics_file(str(tmp_path / FILE)) == tmp_path / FILE


def test_other_shapes_are_refused_by_name(tmp_path: Path):
    torch.save(Dynamics(SMALL).state_dict(), tmp_path / FILE)
    fewer = DynamicsShape(obs=3, action=2, hidden=(16, 16), members=4, elites=1)
    with pytest.raises(HyperparameterError, match="other shapes") as refusal:
        read_dynamics(tmp_path / FILE, fewer)
    assert refusal.value.expected == "elites: [2], expected [1]"
    deeper = DynamicsShape(obs=3, action=2, hidden=(16, 16, 16), members=4, elites=2)
    with pytest.raises(HyperparameterError, match=r"layers.3.weight: None, expected \[4, 8, 16\]"):
        read_dynamics(tmp_path / FILE, deeper)


def test_reading_draws_no_random_numbers(tmp_path: Path):
    torch.save(Dynamics(SMALL).state_dict(), tmp_path / FILE)
    before = torch.get_rng_state()
    read_dynamics(tmp_path / FILE, SMALL)
    assert torch.equal(before, torch.get_rng_state())


def test_a_missing_file_and_one_that_holds_something_else_are_refused(tmp_path: Path):
    with pytest.raises(UnknownName, match="no fitted dynamics"):
        read_dynamics(tmp_path / "nowhere.pt", SMALL)
    for number, content in enumerate((b"", b"not a file of torch", b"\x80\x02K\x01.")):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(content)
        with pytest.raises(UserError, match="does not hold fitted dynamics"):
            read_dynamics(path, SMALL)
    torch.save({"something": "else"}, tmp_path / "else.pt")
    with pytest.raises(UserError, match="does not hold fitted dynamics"):
        read_dynamics(tmp_path / "else.pt", SMALL)
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(UserError, match="does not hold fitted dynamics"):
        read_dynamics(tmp_path / "tensor.pt", SMALL)


class Harmful:
    """What a pickle could do."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("harmed"),)


def test_a_file_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"elites": Harmful()}, "bad.pt")
    with pytest.raises(UserError, match="does not hold fitted dynamics"):
        read_dynamics(Path("bad.pt"), SMALL)
    assert not Path("harmed").exists()
