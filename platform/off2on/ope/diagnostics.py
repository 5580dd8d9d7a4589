"""When not to believe an estimate, in words: what an estimator needs, and what the data and the fit gave it.

The effective sample size is Kong's, "A Note on Importance Sampling", 1992: so many episodes of the policy
itself would vary as little. The share of states at which the policy acts as the data do nearby is our own
measure: its action counts as near if a recorded step is no further than 95 % of the recorded steps are from
each other, in standardised observations (their first principal components) and standardised actions; another
whole number is never near. The limits below are conventions, not theorems.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from datasets_io.diagnosis.neighbours import Projection, tree
from off2on.ope.candidates import Candidate
from off2on.ope.recorded import Array, Recorded
from off2on.runs.numbers import points

FEW_EPISODES = 20
"""Fewer do not make an interval by resampling."""
FEW_EFFECTIVE = 10.0
LARGE = 0.05
"""Share of all weight that one episode may carry without a word."""
NEAR, FAR = 0.8, 0.5
"""Shares of states at which the policy acts as recorded: below the first with care, below the second no."""
CUT = 0.05
"""The share of all discounted steps that may lie behind a time limit without a word."""
UNBALANCED = 0.2
"""Standard deviations of the observations that may come from nowhere, for each episode that begins."""
ASKED, HELD = 2_000, 50_000
"""States at which the policy is asked, and recorded steps that its actions are compared with."""
APART = 1e3
"""Between two whole numbers, in standard deviations of a state."""


@dataclass(frozen=True)
class Doubt:
    """A reason not to believe an estimate.

    Attributes:
        words: What is wrong, and what to do about it.
        severe: The estimate should not be used at all.
    """

    words: str
    severe: bool = False


def near(data: Recorded, policy: Candidate, seed: int = 0) -> float:
    """The share of recorded states at which the policy acts as the data do nearby, from 0 to 1."""
    rng = np.random.default_rng(seed)
    held = rng.permutation(len(data.reward))[:HELD]
    asked = held[:ASKED]
    project = Projection.of(data.obs[held])
    spread = 1.0 if data.choices else np.maximum(data.action[held].std(0), 1e-6)

    def placed(rows: Array, action: Array) -> Array:
        states = np.zeros((len(rows), 0)) if project is None else project(data.obs[rows])
        apart = APART * np.eye(data.choices)[action] if data.choices else action / spread
        return np.concatenate((states, apart), axis=1)

    known = placed(held, data.action[held])
    found = tree(known)
    usual = np.quantile(found.query(known[: len(asked)], k=2)[0][:, 1], 0.95) + 1e-9
    distance = found.query(placed(asked, policy.act(data.obs[asked])))[0]
    return float((distance <= usual).mean())


def of_episodes(data: Recorded) -> Iterator[Doubt]:
    """What holds of every estimate from these data."""
    if data.episodes < FEW_EPISODES:
        yield Doubt(f"{data.episodes} episodes are too few for an interval by resampling them")


def of_horizon(data: Recorded, discount: float) -> Iterator[Doubt]:
    """What an estimate of the recorded part leaves out."""
    lengths = np.bincount(data.episode)
    beyond = float(np.where(data.cut_off, discount ** lengths.astype(float), 0.0).mean())
    if beyond > CUT:
        yield Doubt(
            f"only recorded steps count: {data.cut_off.mean():.0%} of the episodes were cut off, and"
            f" {beyond:.0%} of all discounted steps lie behind; fqe, dr and dice count them"
        )


def of_weights(weight: Array, size: float) -> Iterator[Doubt]:
    """What the weights of whole episodes [E] say of importance sampling.

    Args:
        weight: One an episode.
        size: Their effective sample size.
    """
    count = len(weight)
    if size == 0:
        yield Doubt("the policy never takes the recorded actions all through an episode", severe=True)
        return
    if size < FEW_EFFECTIVE:
        yield Doubt(
            f"it rests on {size:.1f} effective episodes of {count}: the policy acts too unlike the behaviour,"
            " or for too long",
            severe=True,
        )
    share = float(weight.max() / weight.sum())
    if share > LARGE:
        yield Doubt(
            f"a single episode carries {share:.0%} of all weight: without it the estimate would be another,"
            " and the interval is too narrow"
        )
    mean, error = float(weight.mean()), float(weight.std() / np.sqrt(count))
    off = abs(mean - 1)
    if off > max(3 * error, 0.05):
        yield Doubt(
            f"the weights' mean is {mean:.2g} and should be 1: the behaviour never does some of what the"
            " policy does, or action_logp is not the behaviour's",
            severe=off > 0.2,
        )


def of_support(share: float) -> Iterator[Doubt]:
    """What it means for a model of values or visits how often the policy acts as recorded."""
    if share < NEAR:
        yield Doubt(
            f"at {1 - share:.0%} of the recorded states the policy acts unlike anything recorded nearby:"
            " there the networks extrapolate",
            severe=share < FAR,
        )


def of_fit(history: Array, low: float, high: float, spread: float) -> Iterator[Doubt]:
    """Whether a fit had come to rest.

    Args:
        history: The estimate at equal steps of the way.
        low: Of its interval at the end.
        high: Likewise.
        spread: Standard deviation of the recorded returns.
    """
    if len(history) < 5:
        return
    before = history[-1 - len(history) // 5]
    moved = abs(history[-1] - before)
    if moved > max((high - low) / 2, 0.1 * spread) or not np.isfinite(moved):
        yield Doubt(
            f"it still moves: from {points(before)} to {points(history[-1])} in the last fifth of the"
            " updates; more --updates",
            severe=True,
        )


def of_reach(targets: int, discount: float) -> Iterator[Doubt]:
    """Whether rewards had the time to reach the values of what comes long before them.

    Args:
        targets: How often the target followed; each time they come a step nearer.
        discount: Gamma.
    """
    horizon = np.inf if discount == 1 else 1 / (1 - discount)
    if targets < horizon < np.inf:
        yield Doubt(
            f"its targets moved {targets} times, and values reach some {horizon:.0f} steps ahead;"
            " more --updates",
            severe=True,
        )


def of_value(value: float, low: float, high: float, data: Recorded, discount: float) -> Iterator[Doubt]:
    """Whether an estimate can be, and whether it says anything."""
    if discount < 1:
        # After its end a task earns nothing for ever.
        rewards = np.append(data.reward, 0.0) if data.terminated.any() else data.reward
        least, most = float(rewards.min()) / (1 - discount), float(rewards.max()) / (1 - discount)
        if not least <= value <= most:
            yield Doubt("no sequence of the recorded rewards adds up to it", severe=True)
    spread = float(data.returns(discount).std())
    if high - low > 4 * spread > 0:
        yield Doubt("its interval is wider than the recorded returns are spread: it says little")


def of_visits(mass: float, unbalanced: float) -> Iterator[Doubt]:
    """Whether DICE's ratios are a distribution, and one that the world's moves could make; see `Ratios`."""
    if not 0.8 <= mass <= 1.25:
        yield Doubt(f"its visits add up to {mass:.2f} and should to 1: more --updates", severe=True)
    if unbalanced > UNBALANCED:
        yield Doubt(
            f"its visits do not follow the world's moves: {unbalanced:.2f} standard deviations of the"
            " observations come from nowhere; more --updates",
            severe=True,
        )
