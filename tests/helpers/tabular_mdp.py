"""Tabular MDPs with exact values, and small data sets with known returns."""

from itertools import product

import numpy as np

from off2on.ope import fqe
from off2on.ope.evaluated_policy import log_probs
from off2on.ope.recorded_data import Array, RecordedData


class TabularPolicy:
    """A policy given by action probabilities [S, A]; observations are one-hot states."""

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


def sample_rows(rng: np.random.Generator, probability: Array) -> Array:
    """Draw one index for each row of probabilities [n, m]."""
    return (rng.random((len(probability), 1)) > probability.cumsum(1)[:, :-1]).sum(1)


class TabularMDP:
    """A finite MDP.

    Args:
        moves: Transition probabilities given that the episode continues [S, A, S].
        reward: Rewards [S, A].
        end: Probabilities of termination [S, A].
        start: Initial distribution [S].
    """

    def __init__(self, moves: Array, reward: Array, end: Array, start: Array) -> None:
        self.moves, self.reward, self.end, self.start = moves, reward, end, start

    @classmethod
    def random(cls, seed: int, states: int = 4, actions: int = 2, ends: float = 0.1) -> "TabularMDP":
        rng = np.random.default_rng(seed)
        return cls(
            rng.dirichlet(np.ones(states), (states, actions)),
            rng.normal(size=(states, actions)),
            rng.uniform(0, 2 * ends, (states, actions)),
            rng.dirichlet(np.ones(states)),
        )

    def _transition_matrix(self, policy: Array) -> Array:
        return np.einsum("sa,sat->st", policy * (1 - self.end), self.moves)

    def values(self, policy: Array, discount: float) -> Array:
        """Solve for V(s) [S], without a time limit."""
        matrix = np.eye(len(self.start)) - discount * self._transition_matrix(policy)
        return np.linalg.solve(matrix, (policy * self.reward).sum(1))

    def action_values(self, policy: Array, discount: float) -> Array:
        return self.reward + discount * (1 - self.end) * (self.moves @ self.values(policy, discount))

    def visits(self, policy: Array, discount: float) -> Array:
        """Solve for (1 - gamma) sum_t gamma^t P(s_t = s, a_t = a), [S, A]."""
        matrix = np.eye(len(self.start)) - discount * self._transition_matrix(policy)
        return np.linalg.solve(matrix.T, (1 - discount) * self.start)[:, None] * policy

    def play(self, behaviour: Array, episodes: int, max_steps: int, seed: int) -> RecordedData:
        """Sample episodes of at most `max_steps` steps, all in parallel."""
        rng = np.random.default_rng(seed)
        state = rng.choice(len(self.start), size=episodes, p=self.start)
        episode, steps = np.arange(episodes), []
        for step in range(max_steps):
            action = sample_rows(rng, behaviour[state])
            terminated = rng.random(len(state)) < self.end[state, action]
            next_state = sample_rows(rng, self.moves[state, action])
            steps.append(
                (episode, state, action, next_state, terminated, terminated | (step == max_steps - 1))
            )
            state, episode = next_state[~terminated], episode[~terminated]
        episode, *columns = (np.concatenate(column) for column in zip(*steps, strict=True))
        order = np.argsort(episode, kind="stable")
        return self.recorded(behaviour, *(column[order] for column in columns))

    def recorded(
        self, behaviour: Array, state: Array, action: Array, next_state: Array, terminated: Array, last: Array
    ) -> RecordedData:
        one_hot = np.eye(len(self.start), dtype=np.float32)
        return RecordedData(
            obs=one_hot[state],
            action=action,
            reward=self.reward[state, action],
            next_obs=one_hot[next_state],
            terminated=terminated,
            last=last,
            log_prob=np.log(behaviour[state, action]),
            n_actions=behaviour.shape[1],
        )

    def all_episodes(self, behaviour: Array, length: int) -> tuple[RecordedData, Array]:
        """Return all episodes of a length and their probabilities; the MDP must not terminate."""
        states, actions = self.reward.shape
        paths = list(product(range(states), *[range(actions), range(states)] * length))
        probabilities, rows = [], []
        for path in paths:
            probability = self.start[path[0]]
            for step in range(length):
                state, action, next_state = path[2 * step : 2 * step + 3]
                probability *= behaviour[state, action] * self.moves[state, action, next_state]
                rows.append((state, action, next_state, False, step == length - 1))
            probabilities.append(probability)
        return self.recorded(behaviour, *map(np.array, zip(*rows, strict=True))), np.array([probabilities])


def log_ratio(policy: Array, data: RecordedData) -> Array:
    assert data.log_prob is not None
    return log_probs(TabularPolicy(policy), data) - data.log_prob


def recorded_value(mdp: TabularMDP, policy: Array, discount: float, length: int) -> float:
    """Compute the expected return of `length` steps."""
    distribution, total = mdp.start, 0.0
    for step in range(length):
        total += discount**step * float(distribution @ (policy * mdp.reward).sum(1))
        distribution = distribution @ np.einsum("sa,sat->st", policy, mdp.moves)
    return total


SMALL_FQE = fqe.FQESettings(updates=1000, members=2, hidden=(32,), batch_size=128, lr=1e-2, sync=10)


def bandit() -> tuple[RecordedData, Array]:
    """Return two episodes of two steps in one state, and a policy that takes action 1 with probability 3/4.

    The behaviour is uniform; actions are 1 1 and 0 1, rewards 1 2 and 3 4. The probability ratios are 3/2 3/2
    and 1/2 3/2, their products 3/2 9/4 and 1/2 3/4.
    """
    data = RecordedData(
        obs=np.ones((4, 1), np.float32),
        action=np.array([1, 1, 0, 1]),
        reward=np.array([1, 2, 3, 4], np.float32),
        next_obs=np.ones((4, 1), np.float32),
        terminated=np.array([False, True] * 2),
        last=np.array([False, True] * 2),
        log_prob=np.full(4, np.log(0.5)),
        n_actions=2,
    )
    return data, np.array([[0.25, 0.75]])


class UniformPolicy:
    """A policy that draws actions uniformly from [-2, 2]."""

    random, has_density = True, False

    def act(self, obs: Array) -> Array:
        return np.random.default_rng(len(obs)).uniform(-2, 2, (len(obs), 1)).astype(np.float32)


def one_step(count: int) -> RecordedData:
    """Return episodes of one step, with continuous actions in [-2, 2] and reward -(a - s)^2."""
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (count, 1)).astype(np.float32)
    action = rng.uniform(-2, 2, (count, 1)).astype(np.float32)
    end = np.ones(count, bool)
    low = np.array([-2.0], np.float32)
    return RecordedData(obs, action, -np.square(action - obs)[:, 0], obs, end, end, low=low, high=-low)


def deterministic(function):
    from off2on.ope.evaluated_policy import DeterministicPolicy

    return DeterministicPolicy(function, discrete=False)
