"""What exploring policies draw from: densities integrate to one, draws follow them, files keep them."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.policy import Policy, load_policy
from off2on.recipe.discrete import epsilon_greedy, epsilon_greedy_distribution
from off2on.recipe.distributions import END, Normal, TanhNormal, gaussian_around
from off2on.recipe.networks import Nets
from off2on.replay.transforms import Transforms

LOW, HIGH = (-2.0, 0.0), (1.0, 5.0)


class Fixed:
    """A recipe with the same distribution in every state."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def known_distribution(self, nets: Any, obs: torch.Tensor, hp: Any) -> Any:
        return self.made(len(obs))


def policy(made: Any, low: Any = LOW, high: Any = HIGH) -> Policy:
    return Policy(Fixed(made), Nets(), SimpleNamespace(), Transforms((0.0,), (1.0,), low, high))


def total(found: Policy, low: float, high: float) -> float:
    """The density of one-dimensional actions over the box, and the weight of its two ends."""
    points = torch.linspace(low, high, 20_001)
    inside, step = (points[1:] + points[:-1]) / 2, float(points[1] - points[0])
    density = found.log_prob(torch.zeros(len(inside), 1), inside.unsqueeze(1)).exp().sum() * step
    ends = found.log_prob(torch.zeros(2, 1), torch.tensor([[low], [high]])).exp().sum()
    return float(density + ends)


@given(mean=st.floats(-1.5, 1.5), std=st.floats(0.05, 3), half=st.floats(0.1, 50))
def test_a_clipped_gaussian_integrates_to_one_in_the_worlds_units(mean: float, std: float, half: float):
    made = policy(
        lambda rows: Normal(torch.full((rows, 1), mean), torch.full((rows, 1), std)), (-half,), (half,)
    )
    assert total(made, -half, half) == pytest.approx(1, abs=2e-3)


@given(mean=st.floats(-1, 1), std=st.floats(0.2, 0.8), half=st.floats(0.1, 50))
def test_a_squashed_gaussian_integrates_to_one_in_the_worlds_units(mean: float, std: float, half: float):
    made = policy(
        lambda rows: TanhNormal(torch.full((rows, 1), mean), torch.full((rows, 1), math.log(std))),
        (-half,),
        (half,),
    )
    points = torch.linspace(-half, half, 20_001)[1:-1]
    density = made.log_prob(torch.zeros(len(points), 1), points.unsqueeze(1)).exp().sum() * half / 10_000
    assert float(density) == pytest.approx(1, abs=2e-3)


def test_the_density_of_two_dimensions_by_hand():
    made = policy(lambda rows: Normal(torch.zeros(rows, 2), torch.ones(rows, 2)))
    # 0 of [-2, 1] is 1/3 in [-1, 1]; half the length of [-2, 1] is 1.5; 5 is the end of [0, 5].
    expected = math.log(math.exp(-1 / 18) / math.sqrt(2 * math.pi) / 1.5) + math.log(0.158655)
    found = made.log_prob(torch.zeros(1, 1), torch.tensor([[0.0, 5.0]]))
    assert float(found[0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("mean", [-1.2, 0.3, 0.95])
def test_draws_are_as_frequent_as_the_density_says(mean: float):
    made = policy(
        lambda rows: Normal(torch.full((rows, 1), mean), torch.full((rows, 1), 0.4)), (-3.0,), (1.0,)
    )
    action, log_prob = made.sampled(torch.zeros(20_000, 1))
    torch.testing.assert_close(log_prob, made.log_prob(torch.zeros(20_000, 1), action), rtol=0, atol=1e-4)
    edges = torch.linspace(-3, 1, 9)
    counts = torch.histogram(action[:, 0], edges).hist / 20_000
    fine = torch.linspace(-3, 1, 8001)
    middle = (fine[1:] + fine[:-1]) / 2
    mass = made.log_prob(torch.zeros(8000, 1), middle.unsqueeze(1)).exp().view(8, -1).sum(1) * 4 / 8000
    ends = made.log_prob(torch.zeros(2, 1), torch.tensor([[-3.0], [1.0]])).exp()
    mass[0], mass[-1] = mass[0] + ends[0], mass[-1] + ends[1]
    torch.testing.assert_close(counts, mass, rtol=0, atol=0.015)


def test_an_end_that_was_rounded_is_an_end():
    made = gaussian_around(torch.full((1, 1), 0.9), 0.5)
    assert made is not None
    torch.testing.assert_close(
        made.log_density(torch.tensor([[END + 2e-7]])), made.log_density(torch.ones(1, 1))
    )
    assert gaussian_around(torch.zeros(1, 1), 0.0) is None


def test_epsilon_greedy_draws_from_what_is_said_of_it():
    best = torch.full((20_000,), 2)
    drawn = torch.bincount(epsilon_greedy(best, 4, 0.3), minlength=4) / 20_000
    torch.testing.assert_close(
        epsilon_greedy_distribution(best[:1], 4, 0.3).probs[0], drawn, rtol=0, atol=0.015
    )


NO_DENSITY = (
    "bc", "filtered_bc", "rebrac", "bcq", "bear", "crr", "uwac", "e2o", "pex", "fql", "ifql", "bfn", "fan",
    "qc", "qc_fql", "dt",
    "dsrl",
    "expo", "qam", "qam_e", "qam_f", "diffusion_ql", "idql",
)  # fmt: skip
"""Algorithms that do not state the distribution of their exploring actions."""


@pytest.mark.parametrize("name", NO_DENSITY)
def test_an_algorithm_without_a_known_distribution_gives_none(problem: Any, name: str):
    case = problem(find_algorithm(name))
    assert case.recipe.known_distribution(case.nets, case.batch.obs, case.hp) is None


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in CATALOGUE if name not in NO_DENSITY])
def test_exploring_actions_follow_the_known_distribution(problem: Any, name: str):
    recipe = find_algorithm(name)
    case = problem(recipe)
    obs = case.batch.obs[:1].repeat(20_000, 1)
    made = recipe.known_distribution(case.nets, obs, case.hp)
    mode = recipe.act(case.nets, obs, case.hp, False)
    torch.testing.assert_close(made.mode, mode.clamp(-1, 1) if mode.is_floating_point() else mode)
    drawn, drawn_from = recipe.act(case.nets, obs, case.hp, True).float(), made.draw().float()
    tolerance = 0.04 * drawn_from.std(0).max().item()
    torch.testing.assert_close(drawn.mean(0), drawn_from.mean(0), rtol=0, atol=tolerance)
    torch.testing.assert_close(drawn.std(0), drawn_from.std(0), rtol=0, atol=tolerance)


def test_whoever_acts_otherwise_and_says_nothing_has_no_density(problem: Any):
    from off2on.algorithms.iql import IQL

    class Shy(IQL):
        @classmethod
        def act(cls, nets: Nets, obs: torch.Tensor, hp: Any, explore: bool) -> torch.Tensor:
            return super().act(nets, obs, hp, explore) / 2

    case = problem(IQL)
    seen = case.batch.obs
    assert IQL.known_distribution(case.nets, seen, case.hp) is not None
    assert Shy.known_distribution(case.nets, seen, case.hp) is None
    torch.testing.assert_close(
        Shy.act(case.nets, seen, case.hp, False), IQL.act(case.nets, seen, case.hp, False) / 2
    )


def test_a_file_draws_and_says_how_likely_it_was(problem: Any, tmp_path: Path):
    from off2on.algorithms.iql import IQL

    case = problem(IQL)
    made = Policy(
        IQL, case.nets, case.hp, Transforms((0.5,) * 5, (2.0,) * 5, (-2.0, 0.0, -1.0), (1.0, 4.0, 1.0))
    )
    (tmp_path / "exploring.pt").write_bytes(made.export(explore=True))
    load: Any = load_policy(tmp_path / "exploring.pt")
    obs = torch.randn(400, 5)
    action, log_prob = load(obs)
    torch.testing.assert_close(log_prob, made.log_prob(obs, action), rtol=1e-4, atol=1e-3)
    assert not torch.equal(action, load(obs)[0]), "it draws anew"
    assert np.ptp(action.detach().numpy(), 0).min() > 0.1
