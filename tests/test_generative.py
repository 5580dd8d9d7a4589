"""The generative model of actions, functions of its draws, and two losses for it."""

import math

import pytest
import torch
from torch import Tensor, tensor

from off2on.algorithms.uwac import DropoutCritic
from off2on.recipe import losses
from off2on.recipe.networks import Critic
from off2on.recipe.singular_values import largest_singular_value
from off2on.recipe.vae import Autoencoder, Perturbation, best_action, concatenate, min_max_mixture


def constant(layer: torch.nn.Module, *bias: float) -> None:
    """A linear layer that ignores its input."""
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(tensor(bias))


def known(mean: float, log_std: float, action: float) -> Autoencoder:
    """Return an autoencoder of one action dimension with a constant encoder and decoder."""
    vae = Autoencoder(2, 1, ())
    constant(vae.encoder[0], mean, mean, log_std, log_std)
    constant(vae.decoder[0], math.atanh(action))
    return vae


def test_the_bound_by_hand():
    obs, data = torch.randn(2, 2), tensor([[0.5], [-0.5]])
    # error (0.5 - a)^2 = 0 and 1; divergence of N(2, e) from N(0, 1): (4 + e^2 - 1 - 2) / 2
    divergence = (4 + math.e**2 - 3) / 2
    bound = known(2.0, 1.0, 0.5).loss_per_transition(obs, data, 0.5)
    assert bound.tolist() == pytest.approx([0.5 * divergence, 1 + 0.5 * divergence])
    assert known(0.0, 0.0, 0.5).loss_per_transition(obs, data, 0.5).tolist() == pytest.approx([0, 1])


def test_both_parts_of_the_bound_are_means_over_dimensions():
    vae = Autoencoder(2, 3, ())
    constant(vae.encoder[0], *[1.0, 0, 0, 0, 0, 0], *[0.0] * 6)
    constant(vae.decoder[0], 0.0, 0.0, 0.0)
    bound = vae.loss_per_transition(torch.zeros(1, 2), tensor([[0.6, 0.0, 0.0]]), 1.0)
    assert bound.item() == pytest.approx(0.36 / 3 + 0.5 / 6)


def test_log_sigma_is_kept_within_bounds():
    for given, kept in ((-9.0, -4.0), (20.0, 15.0), (1.0, 1.0)):
        _, log_std = known(0.0, given, 0.0).encode(torch.zeros(1, 2), torch.zeros(1, 1))
        assert log_std.tolist() == [[kept, kept]]


def test_the_decoder_squashes_and_its_raw_actions_are_those_before():
    vae = Autoencoder(5, 3, (16,))
    obs, latent = torch.randn(8, 5), 30 * torch.randn(8, 6)
    raw, action = vae.before_tanh(obs, latent), vae(obs, latent)
    assert torch.equal(action, raw.tanh())
    assert raw.abs().max() > 1 >= action.abs().max()


def test_several_latents_are_each_latent_alone():
    vae, correct = Autoencoder(5, 3, (16,)), Perturbation(5, 3, (16,), 0.3)
    obs, latent = torch.randn(8, 5), torch.randn(4, 8, 6)
    every = correct(obs, vae(obs, latent))
    alone = torch.stack([correct(obs, vae(obs, one)) for one in latent])
    torch.testing.assert_close(every, alone)
    assert torch.equal(concatenate(obs, latent)[2, 7], torch.cat((obs[7], latent[2, 7])))


def test_latents_are_normal_but_no_further_than_a_half():
    latent = Autoencoder(5, 3, (16,)).latents(4000, 2)
    assert latent.shape == (4000, 2, 6)
    assert latent.abs().max() == 0.5
    # P(|z| < 0.5) = 0.383
    assert (latent.abs() < 0.5).float().mean().item() == pytest.approx(0.383, abs=0.01)


def test_a_perturbation_is_bounded_by_its_reach_and_by_the_box():
    correct = Perturbation(2, 1, (), 0.2)
    constant(correct.mlp[0], 50.0)
    obs, action = torch.randn(3, 2), tensor([[-0.5], [0.5], [0.9]])
    assert correct(obs, action).flatten().tolist() == pytest.approx([-0.3, 0.7, 1.0])


def test_the_mixture_leans_towards_the_smallest():
    q = tensor([[1.0, 5.0], [3.0, 1.0], [2.0, 2.0]])
    assert min_max_mixture(q, 0.75).tolist() == [1.5, 2.0]
    assert torch.equal(min_max_mixture(q, 1.0), q.amin(0))
    assert torch.equal(min_max_mixture(q, 0.0), q.amax(0))


def test_best_is_the_first_critics_choice_among_each_rows_own_actions():
    critic = Critic(5, 3, (16,))
    obs, action = torch.randn(8, 5), torch.randn(20, 8, 3)
    chosen = best_action(critic, obs, action)
    for b in range(8):
        of_first = critic(obs[b].expand(20, 5), action[:, b])[0]
        assert torch.equal(chosen[b], action[of_first.argmax(), b])


# Losses.


def test_mmd_by_hand():
    x, y = tensor([[[0.0]], [[2.0]]]), tensor([[[1.0]]])
    # pairs within x: 0, 2, 2, 0; between: 1, 1
    laplacian = (2 + 2 * math.exp(-1)) / 4 + 1 - 2 * math.exp(-0.5)
    assert losses.mmd(x, y, 1.0, "laplacian").item() == pytest.approx(math.sqrt(laplacian + 1e-6))
    gaussian = (2 + 2 * math.exp(-2)) / 4 + 1 - 2 * math.exp(-0.5)
    assert losses.mmd(x, y, 1.0, "gaussian").item() == pytest.approx(math.sqrt(gaussian + 1e-6))
    # sigma is not squared: 10 times the distances, 10 (laplacian) or 100 (gaussian) times the width
    wide = {"laplacian": 10.0, "gaussian": 100.0}
    for kernel, sigma in wide.items():
        near, far = losses.mmd(x, y, 1.0, kernel), losses.mmd(10 * x, 10 * y, sigma, kernel)
        torch.testing.assert_close(near, far)


def test_mmd_sums_over_dimensions_and_averages_roots_over_rows():
    x = torch.zeros(1, 2, 2)
    y = tensor([[[0.0, 0.0], [1.0, -3.0]]])
    apart = math.sqrt(2 - 2 * math.exp(-4 / 2) + 1e-6)
    assert losses.mmd(x, y, 1.0, "laplacian").item() == pytest.approx((1e-3 + apart) / 2)


@pytest.mark.parametrize("kernel", ["laplacian", "gaussian"])
def test_samples_like_each_other_are_at_no_distance_and_descent_brings_others_closer(kernel: str):
    x = torch.randn(4, 8, 3)
    assert losses.mmd(x, x[[2, 0, 3, 1]], 2.0, kernel).item() == pytest.approx(1e-3, rel=0.3)
    y = (x + 3).requires_grad_()
    losses.mmd(x, y, 2.0, kernel).backward()
    assert y.grad is not None
    assert (y.grad.mean((0, 1)) > 0).all()  # descent moves y back


def slope(log_alpha: float, violation: float) -> tuple[float, float]:
    value = tensor(log_alpha, requires_grad=True)
    loss = losses.multiplier(value, tensor(violation, requires_grad=True), -5.0, 10.0)
    loss.backward()
    assert value.grad is not None
    return loss.item(), value.grad.item()


def test_the_multiplier_grows_while_its_constraint_is_violated():
    assert slope(math.log(2), 0.5) == pytest.approx((-1, -1))
    assert slope(math.log(2), -0.5) == pytest.approx((1, 1))


def test_the_multiplier_stops_at_its_bounds_and_comes_back():
    assert slope(11.0, 0.5) == pytest.approx((-0.5 * math.e**10, 0))
    assert slope(11.0, -0.5) == pytest.approx((0.5 * math.e**10, 0.5 * math.e**10))
    assert slope(-6.0, -0.5) == pytest.approx((0.5 * math.e**-5, 0))
    assert slope(-6.0, 0.5) == pytest.approx((-0.5 * math.e**-5, -0.5 * math.e**-5))


def test_a_multiplier_under_adam_stays_near_its_bounds_and_returns_at_once():
    value = torch.nn.Parameter(tensor(9.99))
    optimizer = torch.optim.Adam([value], lr=1e-3)

    def steps(count: int, violation: float) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            losses.multiplier(value, tensor(violation), -5.0, 10.0).backward()
            optimizer.step()

    steps(2000, 0.5)
    assert 10 <= value.item() < 10.05
    steps(200, -0.5)
    assert value.item() < 10


# Critics with dropout.


def dropout_critic(rate: float, spectral: bool) -> DropoutCritic:
    return DropoutCritic(5, 3, (32, 16), rate, spectral)


def test_without_dropout_every_pass_is_the_plain_critic():
    dropped, plain = dropout_critic(0.0, False), Critic(5, 3, (32, 16))
    plain.load_state_dict(dropped.state_dict())
    obs, one, several = torch.randn(8, 5), torch.randn(8, 3), torch.randn(4, 8, 3)
    torch.testing.assert_close(dropped(obs, one), plain(obs, one))
    torch.testing.assert_close(dropped(obs, several), plain(obs, several))
    torch.testing.assert_close(dropped.first(obs, one), plain.first(obs, one))
    passes = dropped.passes(obs, several, 6)
    assert passes.shape == (2, 6, 4, 8)
    torch.testing.assert_close(passes, plain(obs, several).unsqueeze(1).expand_as(passes))


@pytest.mark.parametrize("mode", [True, False])
def test_masks_are_drawn_in_every_mode_but_not_for_acting(mode: bool):
    critic = dropout_critic(0.3, True).train(mode)
    obs, action = torch.randn(8, 5), torch.randn(8, 3)
    assert not torch.equal(critic(obs, action), critic(obs, action))
    passes = critic.passes(obs, action, 5)
    assert (passes.var(1) > 0).all()
    assert torch.equal(critic.first(obs, action), critic.first(obs, action))


def test_passes_in_pieces_are_as_many_and_as_random(monkeypatch: pytest.MonkeyPatch):
    critic = dropout_critic(0.3, False)
    obs, action = torch.randn(8, 5), torch.randn(4, 8, 3)
    monkeypatch.setattr("off2on.algorithms.uwac.ROWS", 100)  # 3 passes at a time
    passes = critic.passes(obs, action, 10)
    assert passes.shape == (2, 10, 4, 8)
    assert len({round(value, 6) for value in passes[0, :, 0, 0].tolist()}) > 5
    still = dropout_critic(0.0, False)
    pieces = still.passes(obs, action, 10)
    monkeypatch.undo()
    torch.testing.assert_close(pieces, still.passes(obs, action, 10))


def test_the_mean_over_masks_of_one_hidden_layer_is_the_mean_network():
    critic = DropoutCritic(5, 3, (64,), 0.2, True)
    obs, action = torch.randn(3, 5), torch.randn(3, 3)
    passes = critic.passes(obs, action, 20_000)[0]
    error = (passes.mean(0) - critic.first(obs, action)).abs()
    assert (error < 5 * passes.std(0) / math.sqrt(20_000)).all()


@pytest.mark.parametrize("shape", [(2, 64, 8), (2, 64, 64), (3, 16, 64), (2, 1, 64)])
def test_the_largest_singular_value_and_its_gradient(shape: tuple[int, ...]):
    weight = torch.randn(shape, requires_grad=True)
    ours, exact = largest_singular_value(weight), torch.linalg.matrix_norm(weight, 2)
    torch.testing.assert_close(ours.flatten(), exact, rtol=1e-4, atol=0)
    weights = torch.arange(1.0, 1 + len(exact))
    mine, other = (torch.autograd.grad((one.flatten() * weights).sum(), weight)[0] for one in (ours, exact))
    torch.testing.assert_close(mine, other, rtol=1e-2, atol=1e-3)


def test_under_spectral_normalisation_no_layer_stretches():
    critic = dropout_critic(0.0, True)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter *= 50
    obs, action = torch.randn(100, 5), torch.randn(100, 3)
    other = action + 1e-3 * torch.randn(100, 3)
    moved = (critic(obs, action) - critic(obs, other)).abs()
    assert (moved <= 1.01 * (action - other).norm(dim=1)).all()


def test_a_critic_with_dropout_reaches_all_of_its_parameters():
    critic = dropout_critic(0.1, True)
    loss: Tensor = critic.passes(torch.randn(8, 5), torch.randn(8, 3), 4).square().mean()
    gradients = torch.autograd.grad(loss, list(critic.parameters()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)
