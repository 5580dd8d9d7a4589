import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

from off2on.recipe.actors import DeterministicActor, GaussianActor, SquashedGaussianActor
from off2on.recipe.distributions import Normal, TanhNormal
from off2on.recipe.ensembles import EnsembleLinear
from off2on.recipe.networks import ACTIVATIONS, MLP, Critic, Nets, Scalar, Value
from off2on.rllib.flat_parameters import FlatParameters


def test_an_ensemble_layer_is_separate_linear_layers():
    layer, x = EnsembleLinear(3, 5, 4), torch.randn(3, 7, 5)
    separate = [F.linear(x[e], layer.weight[e], layer.bias[e, 0]) for e in range(3)]
    torch.testing.assert_close(layer(x), torch.stack(separate))


def test_an_ensemble_is_initialised_like_linear_layers():
    layer = EnsembleLinear(200, 25, 10)
    for values in (layer.weight, layer.bias):
        assert values.abs().max() <= 0.2  # 1 / sqrt(25)
        assert values.std().item() == pytest.approx(0.2 / math.sqrt(3), rel=0.05)
    assert not torch.equal(layer.weight[0], layer.weight[1])


def test_a_critic_is_separate_networks():
    critic = Critic(5, 3, (16, 8), members=4)
    obs, action = torch.randn(6, 5), torch.rand(6, 3)
    values = critic(obs, action)
    assert values.shape == (4, 6)
    for member in range(4):
        x = torch.cat((obs, action), 1)
        for layer in critic.layers:
            x = F.linear(x, layer.weight[member], layer.bias[member, 0])
            x = x.relu() if layer is not critic.layers[-1] else x
        torch.testing.assert_close(values[member], x[:, 0])


def test_the_first_member_alone_is_the_first_of_all():
    critic = Critic(5, 3, (16, 8))
    obs, action = torch.randn(6, 5), torch.rand(6, 3)
    torch.testing.assert_close(critic.first(obs, action), critic(obs, action)[0])


@pytest.mark.parametrize("hidden", [(16,), (16, 8)])
def test_many_actions_at_once_are_many_calls(hidden: tuple[int, ...]):
    critic = Critic(5, 3, hidden)
    obs, actions = torch.randn(6, 5), torch.rand(10, 6, 3)
    one_by_one = torch.stack([critic(obs, action) for action in actions], 1)
    assert critic(obs, actions).shape == (2, 10, 6)
    torch.testing.assert_close(critic(obs, actions), one_by_one)


def test_a_perceptron_has_relu_between_its_layers_and_none_at_the_end():
    kinds = [type(layer) for layer in MLP((3, 8, 8, 2))]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


def test_a_value_is_one_number_per_observation():
    assert Value(5, (8,))(torch.randn(7, 5)).shape == (7,)


def test_a_scalar_is_one_learned_number():
    scalar = Scalar(0.25)
    assert scalar().shape == ()
    assert scalar().item() == 0.25
    assert len(list(scalar.parameters())) == 1


def test_a_normals_density_is_torchs():
    mean, std, action = torch.randn(6, 3), torch.rand(3) + 0.1, torch.randn(6, 3)
    expected = torch.distributions.Normal(mean, std).log_prob(action).sum(-1)
    torch.testing.assert_close(Normal(mean, std).log_prob(action), expected)


def squashed(mean: torch.Tensor, log_std: torch.Tensor) -> torch.distributions.Distribution:
    base = torch.distributions.Normal(mean.double(), log_std.double().exp())
    transform = torch.distributions.TanhTransform()
    return torch.distributions.Independent(torch.distributions.TransformedDistribution(base, transform), 1)


def test_a_squashed_normals_density_is_torchs():
    mean, log_std, action = torch.randn(6, 3), 0.3 * torch.randn(6, 3), torch.rand(6, 3) * 1.8 - 0.9
    expected = squashed(mean, log_std).log_prob(action.double())
    torch.testing.assert_close(
        TanhNormal(mean, log_std).log_prob(action).double(), expected, rtol=1e-5, atol=1e-5
    )


def test_a_sample_comes_with_its_own_density():
    policy = TanhNormal(0.5 * torch.randn(6, 3), torch.full((6, 3), -1.0))
    for action, log_prob in (policy.sample(), policy.sample(10)):
        assert action.abs().max() < 1
        expected = squashed(policy.location, policy.log_std).log_prob(action.double())
        torch.testing.assert_close(log_prob.double(), expected, rtol=1e-4, atol=1e-4)
    assert policy.sample(10)[0].shape == (10, 6, 3)
    assert policy.sample(10)[1].shape == (10, 6)


@given(mean=st.floats(-50, 50), log_std=st.floats(-20, 2), action=st.floats(-1, 1))
def test_densities_are_finite_at_the_ends_of_the_box(mean: float, log_std: float, action: float):
    policy = TanhNormal(torch.full((1, 2), mean, requires_grad=True), torch.full((1, 2), log_std))
    given, (drawn, log_prob) = policy.log_prob(torch.full((1, 2), action)), policy.sample()
    assert given.isfinite().all()
    assert log_prob.isfinite().all()
    assert (drawn.abs() <= 1).all()
    (log_prob + drawn.sum(-1)).backward()
    assert policy.location.grad is not None
    assert policy.location.grad.isfinite().all()


def test_samples_are_differentiable_and_spread_as_they_should():
    mean = torch.zeros(20_000, 1, requires_grad=True)
    policy = TanhNormal(mean, torch.full((20_000, 1), -0.5))
    action, _ = policy.sample()
    raw = action.detach().clamp(-1 + 1e-6, 1 - 1e-6).atanh()
    assert raw.mean().item() == pytest.approx(0, abs=0.02)
    assert raw.std().item() == pytest.approx(math.exp(-0.5), rel=0.02)
    action.sum().backward()
    torch.testing.assert_close(mean.grad, 1 - action.detach().square())


def test_rows_of_a_distribution():
    policy = TanhNormal(torch.randn(6, 3), torch.randn(6, 3))
    assert torch.equal(policy.rows(2, 4).location, policy.location[2:4])
    assert torch.equal(policy.rows(2, 4).log_std, policy.log_std[2:4])


def test_actors_stay_in_the_box_and_their_spread_within_bounds():
    obs = 1e3 * torch.randn(6, 5)
    assert DeterministicActor(5, 3, (8,))(obs).abs().max() <= 1
    gaussian = GaussianActor(5, 3, (8,))
    assert gaussian(obs).mean.abs().max() <= 1
    assert torch.equal(gaussian(obs).std, torch.ones(3))
    with torch.no_grad():
        gaussian.log_std.copy_(torch.tensor([-9.0, 0.5, 9.0]))
    assert gaussian(obs).std.tolist() == pytest.approx([math.exp(-5), math.exp(0.5), math.exp(2)])
    log_std = SquashedGaussianActor(5, 3, (8,))(1e3 * obs).log_std
    assert log_std.min() == -20
    assert log_std.max() == 2


def nets() -> Nets:
    return Nets(critic=Critic(5, 3, (8,)), actor=DeterministicActor(5, 3, (8,)), targets=("critic",))


def test_targets_are_frozen_copies():
    both = nets()
    assert both.names() == ["critic", "actor"]
    assert all(not parameter.requires_grad for parameter in both.target.parameters())
    with torch.no_grad():
        for parameter in both.critic.parameters():
            parameter.zero_()
    assert all(parameter.abs().max() > 0 for parameter in both.target.critic.parameters())


def test_acting_alone_keeps_the_actor_alone():
    both = nets()
    both.keep(("actor",))
    assert both.names() == ["actor"]
    assert {name.partition(".")[0] for name in both.state_dict()} == {"actor"}
    with pytest.raises(AttributeError):
        both.target  # noqa: B018


# Parameters as one vector.


def test_flattening_keeps_names_shapes_and_values():
    network = Critic(5, 3, (8,))
    before = copy.deepcopy(network.state_dict())
    flat = FlatParameters(network)
    assert flat.vector.shape == (sum(value.numel() for value in before.values()),)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    flat.vector.zero_()
    assert all(parameter.abs().max() == 0 for parameter in network.parameters())
    network.load_state_dict(before)  # what a checkpoint does: the views must survive it
    assert flat.vector.abs().max() > 0


def test_one_adam_on_the_vector_is_adam_on_every_parameter():
    # The action's gradient makes some parameters' gradients strided, which a fused Adam once mixed up.
    network = Critic(5, 3, (8, 8))
    twin = copy.deepcopy(network)
    flat = FlatParameters(network)
    fused = torch.optim.Adam([flat.vector], lr=1e-2, fused=True)
    plain = torch.optim.Adam(twin.parameters(), lr=1e-2, foreach=False)
    obs, action = torch.randn(64, 5), torch.rand(64, 3)
    for _ in range(20):
        loss = network(obs, action).square().sum() + network(obs, action.expand(4, 64, 3)).mean()
        flat.set_gradient(torch.autograd.grad(loss, flat.parameters))
        fused.step()
        flat.mark_changed()
        plain.zero_grad()
        (twin(obs, action).square().sum() + twin(obs, action.expand(4, 64, 3)).mean()).backward()
        plain.step()
    for ours, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_gradients_lie_side_by_side_in_the_order_of_the_parameters():
    flat = FlatParameters(nn.Linear(2, 3))
    weight, bias = torch.arange(6.0).view(2, 3).T, torch.tensor([6.0, 7.0, 8.0])  # the first is strided
    assert flat.set_gradient([weight, bias]).tolist() == [0, 3, 1, 4, 2, 5, 6, 7, 8]
    assert flat.vector.grad is not None


def test_following_takes_over_a_share():
    one, other = FlatParameters(nn.Linear(2, 1)), FlatParameters(nn.Linear(2, 1))
    one.vector.fill_(1.0)
    other.vector.fill_(3.0)
    one.move_towards(other, 0.25)
    assert one.vector.tolist() == [1.5] * 3


def test_a_graph_from_before_a_step_is_an_error():
    network = MLP((2, 4, 1))
    flat = FlatParameters(network)
    loss = network(torch.randn(3, 2)).sum()
    flat.vector += 1.0
    flat.mark_changed()
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dropout_follows_every_activation(activation: str):
    mlp, x = MLP((4, 64, 64, 2), activation, layer_norm="after"), torch.randn(8, 4)
    assert torch.equal(mlp(x), mlp(x))
    assert not torch.equal(mlp(x, 0.5), mlp(x, 0.5))
