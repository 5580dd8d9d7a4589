"""Off-policy evaluation against worlds whose values are known exactly."""

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets_io import Shards
from datasets_io.toy import ToyPendulum
from off2on import evaluate as play
from off2on.errors import UserError
from off2on.ope import METHODS, diagnostics, dice, doubly_robust, estimate, fqe, importance, rank
from off2on.ope.candidates import choices, log_probs
from off2on.ope.recorded import Array, Recorded


class Table:
    """A policy of probabilities [S, A] at observations that are one 1 among zeros."""

    random = has_density = True

    def __init__(self, probability: Array) -> None:
        self.probability = probability
        self.rng = np.random.default_rng(0)

    def act(self, obs: Array) -> Array:
        edges = self.probability[obs.argmax(1)].cumsum(1)[:, :-1]
        return (self.rng.random((len(obs), 1)) > edges).sum(1)

    def log_prob(self, obs: Array, action: Array) -> Array:
        with np.errstate(divide="ignore"):
            return np.log(self.probability[obs.argmax(1), action])


def drawn(rng: np.random.Generator, probability: Array) -> Array:
    """One number for each row of probabilities [n, m]."""
    return (rng.random((len(probability), 1)) > probability.cumsum(1)[:, :-1]).sum(1)


class World:
    """Moves [S, A, S] as long as it goes on, rewards [S, A], chances to end [S, A], where it begins [S]."""

    def __init__(self, moves: Array, reward: Array, end: Array, start: Array) -> None:
        self.moves, self.reward, self.end, self.start = moves, reward, end, start

    @classmethod
    def made(cls, seed: int, states: int = 4, actions: int = 2, ends: float = 0.1) -> "World":
        rng = np.random.default_rng(seed)
        return cls(
            rng.dirichlet(np.ones(states), (states, actions)),
            rng.normal(size=(states, actions)),
            rng.uniform(0, 2 * ends, (states, actions)),
            rng.dirichlet(np.ones(states)),
        )

    def _onward(self, policy: Array) -> Array:
        return np.einsum("sa,sat->st", policy * (1 - self.end), self.moves)

    def values(self, policy: Array, discount: float) -> Array:
        """V(s), without an end by a time limit."""
        onward = np.eye(len(self.start)) - discount * self._onward(policy)
        return np.linalg.solve(onward, (policy * self.reward).sum(1))

    def action_values(self, policy: Array, discount: float) -> Array:
        return self.reward + discount * (1 - self.end) * (self.moves @ self.values(policy, discount))

    def visits(self, policy: Array, discount: float) -> Array:
        """(1 - gamma) sum_t gamma^t P(s_t = s, a_t = a), [S, A]."""
        onward = np.eye(len(self.start)) - discount * self._onward(policy)
        return np.linalg.solve(onward.T, (1 - discount) * self.start)[:, None] * policy

    def play(self, behaviour: Array, episodes: int, most: int, seed: int) -> Recorded:
        """Episodes of at most so many steps, all at once."""
        rng = np.random.default_rng(seed)
        state = rng.choice(len(self.start), size=episodes, p=self.start)
        episode, steps = np.arange(episodes), []
        for step in range(most):
            action = drawn(rng, behaviour[state])
            over = rng.random(len(state)) < self.end[state, action]
            following = drawn(rng, self.moves[state, action])
            steps.append((episode, state, action, following, over, over | (step == most - 1)))
            state, episode = following[~over], episode[~over]
        episode, *columns = (np.concatenate(column) for column in zip(*steps, strict=True))
        order = np.argsort(episode, kind="stable")
        return self.recorded(behaviour, *(column[order] for column in columns))

    def recorded(
        self, behaviour: Array, state: Array, action: Array, following: Array, over: Array, last: Array
    ) -> Recorded:
        seen = np.eye(len(self.start), dtype=np.float32)
        return Recorded(
            obs=seen[state],
            action=action,
            reward=self.reward[state, action],
            next_obs=seen[following],
            terminated=over,
            last=last,
            log_prob=np.log(behaviour[state, action]),
            choices=behaviour.shape[1],
        )

    def every_path(self, behaviour: Array, length: int) -> tuple[Recorded, Array]:
        """All episodes of a length, cut off there, and how likely each is; the world must not end."""
        states, actions = self.reward.shape
        paths = list(product(range(states), *[range(actions), range(states)] * length))
        likely, rows = [], []
        for path in paths:
            chance = self.start[path[0]]
            for step in range(length):
                state, action, following = path[2 * step : 2 * step + 3]
                chance *= behaviour[state, action] * self.moves[state, action, following]
                rows.append((state, action, following, False, step == length - 1))
            likely.append(chance)
        return self.recorded(behaviour, *map(np.array, zip(*rows, strict=True))), np.array([likely])


def log_ratio(policy: Array, data: Recorded) -> Array:
    assert data.log_prob is not None
    return log_probs(Table(policy), data) - data.log_prob


def recorded_value(world: World, policy: Array, discount: float, length: int) -> float:
    """The value of so many steps."""
    here, total = world.start, 0.0
    for step in range(length):
        total += discount**step * float(here @ (policy * world.reward).sum(1))
        here = here @ np.einsum("sa,sat->st", policy, world.moves)
    return total


# Importance sampling.


def bandit() -> tuple[Recorded, Array]:
    """Two episodes of two steps in one state, by a fair coin: actions 1 1 and 0 1, rewards 1 2 and 3 4.

    Judged is a policy that takes action 1 with 3/4: ratios 3/2 3/2 and 1/2 3/2, products 3/2 9/4 and 1/2 3/4.
    """
    data = Recorded(
        obs=np.ones((4, 1), np.float32),
        action=np.array([1, 1, 0, 1]),
        reward=np.array([1, 2, 3, 4], np.float32),
        next_obs=np.ones((4, 1), np.float32),
        terminated=np.array([False, True] * 2),
        last=np.array([False, True] * 2),
        log_prob=np.full(4, np.log(0.5)),
        choices=2,
    )
    return data, np.array([[0.25, 0.75]])


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("is", (9 / 4 * 2 + 3 / 4 * 5) / 2),
        ("pdis", (3 / 2 * 1 + 9 / 4 * 1 + 1 / 2 * 3 + 3 / 4 * 2) / 2),
        ("wis", (9 / 4 * 2 + 3 / 4 * 5) / 3),
        ("wpdis", (3 / 2 * 1 + 1 / 2 * 3) / 2 + (9 / 4 * 1 + 3 / 4 * 2) / 3),
    ],
)
def test_importance_sampling_of_two_episodes_by_hand(kind: importance.Kind, value: float):
    data, policy = bandit()
    weight = importance.weights(log_ratio(policy, data), data)
    assert importance.estimate(kind, weight, importance.rewards(data, 0.5))[0] == pytest.approx(value)


def test_a_clipped_weight_by_hand():
    data, policy = bandit()
    weight = importance.weights(log_ratio(policy, data), data, clip=2.0)
    assert weight == pytest.approx(np.array([[1.5, 2.0], [0.5, 0.75]]))
    value = importance.estimate("is", weight, importance.rewards(data, 0.5))[0]
    assert value == pytest.approx((2 * 2 + 3 / 4 * 5) / 2)


policies = st.lists(st.floats(0.05, 0.95), min_size=2, max_size=2).map(
    lambda first: np.array([[p, 1 - p] for p in first])
)


@given(st.integers(0, 10_000), policies, policies, st.floats(0.5, 1.0))
@settings(max_examples=30)
def test_over_all_episodes_importance_sampling_is_exact(
    seed: int, behaviour: Array, policy: Array, discount: float
):
    world = World.made(seed, states=2, ends=0.0)
    data, likely = world.every_path(behaviour, 3)
    weight = importance.weights(log_ratio(policy, data), data)
    reward = importance.rewards(data, discount)
    value = recorded_value(world, policy, discount, 3)
    for kind in importance.KINDS:  # the weighted ones, because all weights add up to 1 here
        assert importance.estimate(kind, weight, reward, likely)[0] == pytest.approx(value)


@given(st.integers(0, 10_000), policies, policies, st.floats(0.5, 0.99))
@settings(max_examples=30)
def test_doubly_robust_is_unbiased_whatever_the_model_says(
    seed: int, behaviour: Array, policy: Array, discount: float
):
    world = World.made(seed, states=2, ends=0.0)
    data, likely = world.every_path(behaviour, 3)
    wrong = np.random.default_rng(seed).normal(size=(2, 2))
    state, following = data.obs.argmax(1), data.next_obs.argmax(1)
    value = (policy * wrong).sum(1)
    each = doubly_robust.per_episode(
        data,
        importance.weights(log_ratio(policy, data), data),
        value[state],
        value[following],
        wrong[state, data.action],
        discount,
    )
    reached = world.start
    for _ in range(3):
        reached = reached @ np.einsum("sa,sat->st", policy, world.moves)
    behind = discount**3 * float(reached @ value)  # the model's word for what was cut off
    expected = recorded_value(world, policy, discount, 3) + behind
    assert (likely @ each)[0] == pytest.approx(expected)


def test_doubly_robust_with_the_true_values_is_exact_beyond_a_time_limit():
    world, rng = World.made(3, ends=0.0), np.random.default_rng(3)
    policy, behaviour, discount = rng.dirichlet(np.ones(2), 4), np.full((4, 2), 0.5), 0.9
    data = world.play(behaviour, 4000, 5, seed=1)
    truth, q = world.values(policy, discount), world.action_values(policy, discount)
    state, following = data.obs.argmax(1), data.next_obs.argmax(1)
    each = doubly_robust.per_episode(
        data,
        importance.weights(log_ratio(policy, data), data),
        truth[state],
        truth[following],
        q[state, data.action],
        discount,
    )
    error = each.std() / np.sqrt(len(each))
    assert abs(each.mean() - world.start @ truth) < 4 * error


@given(st.lists(st.floats(-20, 20), min_size=4, max_size=4), st.floats(-30, 30))
def test_weighted_importance_sampling_knows_no_unit_and_stays_among_the_returns(
    log_ratios: list[float], shift: float
):
    data, _ = bandit()
    reward = importance.rewards(data, 0.9)
    weight = importance.weights(np.array(log_ratios), data)
    value = importance.estimate("wis", weight, reward)[0]
    returns = reward.sum(1)
    assert returns.min() - 1e-9 <= value <= returns.max() + 1e-9
    for kind in ("wis", "wpdis"):
        same = importance.estimate(kind, weight * np.exp(shift), reward)[0]
        assert same == pytest.approx(importance.estimate(kind, weight, reward)[0])


def test_the_behaviour_judged_is_the_mean_of_its_returns():
    world, behaviour = World.made(1), np.full((4, 2), 0.5)
    data = world.play(behaviour, 50, 10, seed=0)
    weight = importance.weights(log_ratio(behaviour, data), data)
    for kind in importance.KINDS:
        value = importance.estimate(kind, weight, importance.rewards(data, 0.9))[0]
        assert value == pytest.approx(data.returns(0.9).mean())


def test_weights_too_large_for_a_number_are_held():
    data, _ = bandit()
    weight = importance.weights(np.array([900.0, 900.0, -np.inf, 900.0]), data)
    assert np.isfinite(weight).all()
    assert weight[1].tolist() == [0.0, 0.0]
    assert importance.estimate("wis", weight, importance.rewards(data, 1.0))[0] == pytest.approx(3.0)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20))
def test_the_effective_sample_size_is_between_one_and_all(weights: list[float]):
    size = importance.effective(np.array(weights))
    assert 1 - 1e-9 <= size <= len(weights) + 1e-9
    assert importance.effective(np.full(7, weights[0])) == pytest.approx(7)


# Fitted Q evaluation.

SMALL = fqe.Budget(updates=1000, members=2, hidden=(32,), batch_size=128, lr=1e-2, sync=10)


@pytest.mark.parametrize(("terminated", "value"), [(False, 10.0), (True, 1 + 0.9 + 0.81)])
def test_a_time_limit_ends_no_value_and_a_terminal_does(terminated: bool, value: float):
    count, obs = 20, np.zeros((60, 3), np.float32)
    obs[np.arange(60), np.tile([0, 1, 2], count)] = 1
    last = np.tile([False, False, True], count)
    following = np.roll(obs, -1, axis=0)  # after the third state the first comes again
    action, reward = np.zeros(60, np.int64), np.ones(60, np.float32)
    data = Recorded(obs, action, reward, following, last & terminated, last, choices=1)
    fitted = fqe.fit(data, Table(np.ones((3, 1))), 0.9, replace(SMALL, updates=1500, sync=5))
    assert fitted.members == pytest.approx(value, rel=0.08)


@pytest.mark.parametrize("ends", [0.1, 0.0])
def test_fitted_values_of_a_world_are_its_values(ends: float):
    world, rng = World.made(0, ends=ends), np.random.default_rng(5)
    policy = rng.dirichlet(np.ones(2), 4)
    data = world.play(np.full((4, 2), 0.5), 1500, 20, seed=1)
    fitted = fqe.fit(data, Table(policy), 0.9, SMALL)
    rows = np.arange(4000)
    q, v = world.action_values(policy, 0.9), world.values(policy, 0.9)
    spread = q.std()
    state, following = data.obs[rows].argmax(1), data.next_obs[rows].argmax(1)
    assert np.abs(fitted.action_value(rows) - q[state, data.action[rows]]).mean() < 0.25 * spread
    assert np.abs(fitted.value(rows) - v[state]).mean() < 0.25 * spread
    assert np.abs(fitted.next_value(rows) - v[following]).mean() < 0.25 * spread
    assert fitted.members.mean() == pytest.approx(world.start @ v, abs=0.2 * spread)


class Dice:
    """A policy over [-2, 2] that draws uniformly, to be averaged over."""

    random, has_density = True, False

    def act(self, obs: Array) -> Array:
        return np.random.default_rng(len(obs)).uniform(-2, 2, (len(obs), 1)).astype(np.float32)


def one_step(count: int) -> Recorded:
    """Continuous actions in [-2, 2], reward -(a - s)^2, every episode one step."""
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (count, 1)).astype(np.float32)
    action = rng.uniform(-2, 2, (count, 1)).astype(np.float32)
    end = np.ones(count, bool)
    low = np.array([-2.0], np.float32)
    return Recorded(obs, action, -np.square(action - obs)[:, 0], obs, end, end, low=low, high=-low)


def test_continuous_actions_of_a_function_and_of_a_drawing_policy():
    data = one_step(2000)
    budget = fqe.Budget(updates=800, members=2, hidden=(64,), lr=5e-3, samples=8)
    best = fqe.fit(data, play_like(lambda obs: obs), 0.9, budget)
    assert best.members == pytest.approx(0, abs=0.1)
    drawn = fqe.fit(data, Dice(), 0.9, budget)
    assert drawn.members == pytest.approx(-(4 / 3 + 1 / 3), abs=0.15)


def play_like(function):
    from off2on.ope.candidates import Deterministic

    return Deterministic(function, discrete=False)


def test_a_policy_of_whole_numbers_is_averaged_over_exactly():
    world = World.made(0)
    data = world.play(np.full((4, 2), 0.5), 5, 5, seed=0)
    policy = np.random.default_rng(1).dirichlet(np.ones(2), 4)
    said = choices(Table(policy), data, data.obs, samples=1)
    assert said.numpy() == pytest.approx(policy[data.obs.argmax(1)])


def test_the_members_interval_by_hand():
    # Student's t with two degrees of freedom: 4.3027 times the standard deviation 1.
    assert fqe.interval(np.array([1.0, 2.0, 3.0])) == pytest.approx((2, 2 - 4.3027, 2 + 4.3027), abs=1e-3)


# DICE.


@pytest.mark.parametrize("ends", [0.1, 0.0])
def test_the_ratios_of_visits_are_the_exact_ones(ends: float):
    world, rng = World.made(0, ends=ends), np.random.default_rng(5)
    policy, discount = rng.dirichlet(np.ones(2), 4), 0.8
    data = world.play(np.full((4, 2), 0.5), 1500, 12, seed=1)
    budget = dice.Budget(updates=1500, members=2, hidden=(32,), batch_size=128, lr=2e-3)
    found = dice.fit(data, Table(policy), discount, budget)
    state = data.obs.argmax(1)
    visited = np.zeros((4, 2))
    np.add.at(visited, (state, data.action), 1 / len(state))
    exact = (world.visits(policy, discount) / visited)[state, data.action]
    assert np.abs(found.zeta - exact).mean() < 0.15
    assert found.mass == pytest.approx(1, abs=0.1)
    hasty = dice.fit(data, Table(policy), discount, replace(budget, updates=60))
    assert found.unbalanced < 0.1 < diagnostics.UNBALANCED < hasty.unbalanced
    assert [doubt.severe for doubt in diagnostics.of_visits(1.0, hasty.unbalanced)] == [True]
    value = float(world.start @ world.values(policy, discount))
    assert found.members == pytest.approx(value, abs=0.25 * data.returns(discount).std())


# All at once, on a world from a hospital.


@pytest.fixture(scope="module")
def sepsis() -> World:
    """ICU-Sepsis (Choudhary et al. 2024): 716 states, 25 actions; only death and survival end an episode."""
    place = find_spec("icu_sepsis")
    if place is None:
        pytest.skip("icu-sepsis is not installed: pip install icu-sepsis==2.0.1")
    path = Path(place.submodule_search_locations[0]) / "envs/assets/dynamics.npz"
    with np.load(path) as file:
        moves, reward, start = file["tx_mat"], file["r_mat"], file["d_0"]
        World.clinician = file["expert_policy"][:713]
    end = moves[:713, :, 713:].sum(2)
    earned = (moves * reward).sum(2)[:713]
    onward = moves[:713, :, :713] / np.maximum(1 - end, 1e-12)[..., None]
    onward[end > 1 - 1e-9] = 1 / 713
    return World(onward, earned, end, start[:713])


def optimal(world: World) -> Array:
    """Of what clinicians do at all: without any data nothing can be said of the rest."""
    value, never = np.zeros(len(world.start)), np.where(World.clinician > 0, 0.0, -np.inf)
    for _ in range(1000):
        q = world.reward + (1 - world.end) * (world.moves @ value) + never
        if np.abs(q.max(1) - value).max() < 1e-9:
            break
        value = q.max(1)
    return np.eye(q.shape[1])[q.argmax(1)]


def test_the_published_values_of_sepsis(sepsis: World):
    # The package's own table says 0.78 and 0.88.
    assert float(sepsis.start @ sepsis.values(World.clinician, 1.0)) == pytest.approx(0.782, abs=5e-4)
    assert float(sepsis.start @ sepsis.values(optimal(sepsis), 1.0)) == pytest.approx(0.875, abs=5e-4)


def test_the_estimators_agree_with_the_exact_value_of_sepsis(sepsis: World):
    policy, discount = 0.9 * World.clinician + 0.1 * optimal(sepsis), 0.98
    data = sepsis.play(World.clinician, 2000, 500, seed=0)
    values = fqe.Budget(updates=300, members=2, hidden=(64,), lr=5e-3, sync=10)
    truth = float(sepsis.start @ sepsis.values(policy, discount))
    methods = [name for name in METHODS if name != "dice"]  # of 716 states it takes minutes
    report = estimate(Table(policy), data, methods=methods, discount=discount, values=values)
    assert not report.left_out
    for one in report.judgements:
        assert one.value == pytest.approx(truth, abs=0.1), one
        if one.method != "fqe":
            # Few of the patients were treated so, and some of them count for twenty.
            assert abs(one.value - truth) <= one.high - one.low, one
            assert 20 < one.diagnostics["effective"] < 2000


def test_all_estimators_agree_with_the_exact_value_of_a_world():
    world, discount = World.made(0, ends=0.25), 0.9
    policy, behaviour = np.tile([0.2, 0.8], (4, 1)), np.tile([0.6, 0.4], (4, 1))
    data = world.play(behaviour, 4000, 60, seed=1)
    truth = float(world.start @ world.values(policy, discount))
    error = abs(truth - world.start @ world.values(behaviour, discount)) / 3
    visits = dice.Budget(updates=1200, members=2, hidden=(32,), batch_size=256, lr=1e-3)
    report = estimate(Table(policy), data, discount=discount, values=SMALL, visits=visits)
    assert len(report.judgements) == 7
    for one in report.judgements:
        assert one.value == pytest.approx(truth, abs=error), one


# A world of continuous actions: which of two controllers is better.


def swings(skill: float):
    """The toy data's controller without its noise; a negative skill pushes the wrong way."""

    class Still(np.random.Generator):
        def uniform(self, low: float, high: float) -> float:  # type: ignore[override]
            return abs(skill) if low == 0.1 else 0.0

        def normal(self) -> float:  # type: ignore[override]
            return 0.0

    act = ToyPendulum().controller(Still(np.random.PCG64(0)))
    sign = np.sign(skill)
    return lambda obs: np.stack([sign * act(row) for row in obs]).astype(np.float32)


def test_fitted_values_tell_a_good_controller_of_the_pendulum_from_a_bad_one(toy: Shards):
    budget = fqe.Budget(updates=1200, members=2, hidden=(64, 64), batch_size=128, lr=2e-3, sync=5)
    scored, earned = {}, {}
    for skill in (0.8, -0.5):
        act = swings(skill)
        report = estimate(act, toy, methods=("fqe",), discount=0.95, values=budget)
        scored[skill] = report.judgements[0].value
        episodes = play.evaluate(act, "Pendulum-v1", episodes=5, seed=100)
        earned[skill] = np.mean([episode.ret for episode in episodes])
    assert earned[0.8] > earned[-0.5]
    assert scored[0.8] > scored[-0.5]


# What must not be believed.


def words(report) -> Iterator[str]:
    for one in report.judgements:
        yield from (doubt.words for doubt in one.doubts)


def test_a_policy_unlike_the_behaviour_is_not_trusted():
    world, behaviour = World.made(0, ends=0.0), np.tile([0.9, 0.1], (4, 1))
    data = world.play(behaviour, 100, 30, seed=0)
    report = estimate(Table(1 - behaviour), data, methods=("is", "wis"), discount=0.9)
    assert [one.trust for one in report.judgements] == ["do not trust"] * 2
    said = " ".join(words(report))
    assert "effective episodes of 100" in said
    assert "the weights' mean" in said
    assert "only recorded steps count: 100% of the episodes were cut off" not in said  # 0.9^30 is little
    near = estimate(Table(behaviour), data, methods=("wis",), discount=0.9).judgements[0]
    assert near.trust == "no objection"
    assert near.diagnostics["effective"] == pytest.approx(100)


def test_actions_that_nobody_took_nearby_are_seen(toy: Shards):
    data = Recorded.of(toy)
    assert diagnostics.near(data, play_like(lambda obs: data.action[: len(obs)])) < 1
    outside = diagnostics.near(data, play_like(lambda obs: np.full((len(obs), 1), 9.0)))
    order = np.random.default_rng(0).permutation(len(data.reward))[:2000]
    recorded = diagnostics.near(data, play_like(lambda obs: data.action[order]))
    assert outside == 0
    assert recorded == 1
    assert diagnostics.Doubt in {type(doubt) for doubt in diagnostics.of_support(outside)}


def test_a_fit_that_still_moves_and_a_value_that_cannot_be_are_told():
    moving = list(diagnostics.of_fit(np.arange(10.0), 8.9, 9.1, spread=1.0))
    assert moving
    assert moving[0].severe
    assert not list(diagnostics.of_fit(np.full(10, 3.0), 2.9, 3.1, spread=1.0))
    data, _ = bandit()
    assert "adds up" in next(diagnostics.of_value(41.0, 40, 42, data, 0.9)).words  # 4 / (1 - 0.9) is the most
    assert not list(diagnostics.of_value(3.0, 2.9, 3.1, data, 0.9))


def test_what_cannot_be_asked_is_named_with_its_reason(toy: Shards):
    budget = fqe.Budget(updates=20, members=2, hidden=(8,))
    report = estimate(swings(0.5), toy, discount=0.9, values=budget, visits=dice.Budget(20, 2, (8,)))
    assert [one.method for one in report.judgements] == ["fqe", "dice"]
    assert set(report.left_out) == {"is", "pdis", "wis", "wpdis", "dr"}
    assert "action_logp" in report.left_out["is"]
    undiscounted = estimate(swings(0.5), toy, methods=("fqe", "dice"), discount=1.0)
    assert set(undiscounted.left_out) == {"fqe", "dice"}
    with_column = one_step(30)
    known = Recorded(**{**vars(with_column), "log_prob": np.zeros(30)})
    assert "density" in estimate(lambda obs: obs, known, methods=("wis",)).left_out["wis"]


def test_data_that_allow_no_estimate_are_refused():
    world = World.made(0, ends=0.0)
    one = world.play(np.full((4, 2), 0.5), 1, 5, seed=0)
    with pytest.raises(UserError, match="one episode"):
        estimate(Table(np.full((4, 2), 0.5)), one)
    two = world.play(np.full((4, 2), 0.5), 2, 5, seed=0)
    two.log_prob[3] = -np.inf
    with pytest.raises(UserError, match="not finite in 1 rows"):
        estimate(Table(np.full((4, 2), 0.5)), two)


# Ranking.


def test_a_ranking_by_hand():
    found = rank([1, 2, 3, 4], [10, 30, 20, 0], ks=(1, 2, 3, 5))
    # Ranks 1 2 3 4 and 2 4 3 1: 1 - 6 (1 + 4 + 0 + 9) / (4 * 15).
    assert found.correlation == pytest.approx(1 - 6 * 14 / 60)
    assert found.regret == pytest.approx({1: 1.0, 2: 1 / 3, 3: 0.0})
    assert np.isnan(rank([1, 1, 1], [1, 2, 3]).correlation)
    with pytest.raises(UserError, match="2 policies"):
        rank([1, 2], [1, 2])


def test_the_same_seed_gives_the_same_estimate_and_leaves_the_random_numbers_alone():
    data = World.made(0).play(np.full((4, 2), 0.5), 30, 5, seed=0)
    budget = fqe.Budget(updates=30, members=2, hidden=(8,))
    before = torch.get_rng_state()
    first, again, other = (
        fqe.fit(data, Table(np.full((4, 2), 0.5)), 0.9, budget, seed).members for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()
    assert torch.equal(before, torch.get_rng_state())


def test_values_are_bounded_by_the_rewards_by_hand():
    assert fqe.bounds(np.array([-2.0, 1.0]), 0.9) == pytest.approx((-20, 10))
    assert fqe.bounds(np.array([1.0, 3.0]), 0.5) == (0, 6)  # an episode may end, and earn nothing more
    assert fqe.bounds(np.array([-1.0, 0.0]), 1.0) == (-np.inf, 0)
