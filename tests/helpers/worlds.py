"""Worlds of few states, whose values are known exactly."""

from itertools import product

import numpy as np

from off2on.ope import fqe
from off2on.ope.candidates import log_probs
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


SMALL = fqe.Budget(updates=1000, members=2, hidden=(32,), batch_size=128, lr=1e-2, sync=10)


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


def play_like(function):
    from off2on.ope.candidates import Deterministic

    return Deterministic(function, discrete=False)
