"""One call for all estimators: what each says, how sure it is, and why it may be wrong or cannot be asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from datasets_io import Shards
from off2on.errors import UnknownName, UserError
from off2on.ope import diagnostics, dice, doubly_robust, fqe, importance
from off2on.ope.candidates import Candidate, as_candidate, log_probs
from off2on.ope.diagnostics import Doubt
from off2on.ope.recorded import LOG_PROB, Array, Recorded

METHODS = ("fqe", *importance.KINDS, "dr", "dice")
RESAMPLES = 1_000
ENDLESS, RECORDED = "without an end", "as far as recorded"


@dataclass(frozen=True)
class Judgement:
    """What one estimator says of a policy.

    Attributes:
        method: Its name.
        value: The expected discounted return from the start of an episode, in the world's units.
        low, high: The ends of its 95 % interval.
        counts: Which return: `ENDLESS`, a time limit does not end it, or `RECORDED`, up to it.
        diagnostics: Numbers to judge it by.
        doubts: Why not to believe it.
    """

    method: str
    value: float
    low: float
    high: float
    counts: str
    diagnostics: dict[str, float]
    doubts: tuple[Doubt, ...]

    @property
    def trust(self) -> str:
        """In words: nothing speaks against it, with care, or do not."""
        if any(doubt.severe for doubt in self.doubts):
            return "do not trust"
        return "with care" if self.doubts else "no objection"


@dataclass(frozen=True)
class Report:
    """What all estimators say.

    Attributes:
        discount: Gamma of every return here.
        recorded: Mean discounted return of the data, as far as recorded, and its 95 % interval.
        judgements: In the order asked for.
        left_out: Methods that cannot be asked, and why.
    """

    discount: float
    recorded: tuple[float, float, float]
    judgements: list[Judgement] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def estimate(
    policy: Candidate | Callable[[Array], Array],
    shards: Shards | Recorded,
    *,
    methods: Sequence[str] = METHODS,
    discount: float = 0.99,
    clip: float | None = None,
    values: fqe.Budget | None = None,
    visits: dice.Budget | None = None,
    seed: int = 0,
) -> Report:
    """What a policy would earn, from the data alone.

    Args:
        policy: A `Candidate`, or a function from observations [B, D] to actions.
        shards: The data.
        methods: Which estimators.
        discount: Gamma, in (0, 1].
        clip: The largest weight of importance sampling; None: no bound.
        values: How long FQE is fitted.
        visits: How long DICE is fitted.
        seed: Of all draws.

    Raises:
        UnknownName: There is no such method.
        UserError: The data have one episode only, or an `action_logp` that is not finite.
    """
    for method in methods:
        if method not in METHODS:
            raise UnknownName(
                f"there is no method '{method}'.", f"All: {' '.join(METHODS)}", given=method, known=METHODS
            )
    if not 0 < discount <= 1:
        raise UserError(f"the discount must lie in (0, 1]: got {discount}.")
    data = shards if isinstance(shards, Recorded) else Recorded.of(shards)
    judged = as_candidate(policy, data)
    if data.episodes < 2:
        raise UserError("there is one episode only.", "No estimate is possible of how much episodes differ.")
    if data.log_prob is not None and not np.isfinite(data.log_prob).all():
        raise UserError(
            f"{LOG_PROB} is not finite in {(~np.isfinite(data.log_prob)).sum():,} rows.",
            "A behaviour has taken each recorded action, with a probability.",
        )
    estimators = _Estimators(
        data, judged, discount, clip, values or fqe.Budget(), visits or dice.Budget(), seed
    )
    report = Report(discount, estimators.recorded())
    for method in methods:
        reason = estimators.lacks(method)
        if reason:
            report.left_out[method] = reason
        else:
            report.judgements.append(estimators.judge(method))
    return report


@dataclass
class _Estimators:
    """The estimators on one policy and data; what several of them need is made once."""

    data: Recorded
    policy: Candidate
    discount: float
    clip: float | None
    values: fqe.Budget
    visits: dice.Budget
    seed: int

    @cached_property
    def counts(self) -> Array:
        """How often each resample counts each episode [RESAMPLES, E]."""
        return importance.resampled(self.data.episodes, RESAMPLES, self.seed)

    @cached_property
    def fitted(self) -> fqe.Fitted:
        """FQE's."""
        return fqe.fit(self.data, self.policy, self.discount, self.values, self.seed)

    @cached_property
    def weight(self) -> Array:
        """Importance weights [E, T]."""
        ratio = log_probs(self.policy, self.data) - self.data.log_prob
        return importance.weights(ratio, self.data, self.clip)

    @cached_property
    def near(self) -> float:
        """The share of states at which the policy acts as recorded nearby."""
        return diagnostics.near(self.data, self.policy, self.seed)

    @cached_property
    def spread(self) -> float:
        """Standard deviation of the recorded returns."""
        return float(self.data.returns(self.discount).std())

    def recorded(self) -> tuple[float, float, float]:
        """The data's own mean, and its interval."""
        returns = self.data.returns(self.discount)
        return float(returns.mean()), *importance.percentiles(self.counts @ returns / len(returns))

    def lacks(self, method: str) -> str:
        """Why a method cannot be asked; nothing if it can."""
        if method in (*importance.KINDS, "dr"):
            if self.data.log_prob is None:
                return (
                    f"the data do not say how likely their actions were: no column {LOG_PROB}, which"
                    " `off2on serve --explore --log` keeps"
                )
            if not self.policy.has_density:
                return (
                    "this policy's actions have no density; --explore judges the one that draws its actions"
                )
        if self.discount == 1 and method == "dice":
            return "its visits are discounted: --discount below 1"
        if self.discount == 1 and method in ("fqe", "dr") and self.data.cut_off.any():
            return "without discount an episode that was cut off has no value: --discount below 1"
        return ""

    def judge(self, method: str) -> Judgement:
        """What a method says."""
        if method == "fqe":
            return self._of_fqe()
        if method == "dr":
            return self._of_dr()
        return self._of_dice() if method == "dice" else self._of_importance(method)

    def _made(
        self,
        method: str,
        numbers: tuple[float, float, float],
        counts: str,
        facts: dict[str, float],
        *doubts: Any,
    ) -> Judgement:
        value, low, high = numbers
        said = [doubt for some in doubts for doubt in some]
        said += diagnostics.of_value(value, low, high, self.data, self.discount)
        said += diagnostics.of_episodes(self.data)
        return Judgement(method, value, low, high, counts, facts, tuple(said))

    def _of_fqe(self) -> Judgement:
        numbers, history = fqe.interval(self.fitted.members), self.fitted.history
        moving = diagnostics.of_fit(history, *numbers[1:], self.spread)
        support = diagnostics.of_support(self.near)
        reach = diagnostics.of_reach(self.values.updates // self.values.sync, self.discount)
        return self._made("fqe", numbers, ENDLESS, {"near": self.near}, moving, reach, support)

    def _of_importance(self, method: Any) -> Judgement:
        reward = importance.rewards(self.data, self.discount)
        value = float(importance.estimate(method, self.weight, reward)[0])
        drawn = importance.estimate(method, self.weight, reward, self.counts)
        return self._made(
            method,
            (value, *importance.percentiles(drawn)),
            RECORDED,
            self._facts,
            diagnostics.of_weights(self.weight[:, -1], self._facts["effective"]),
            diagnostics.of_horizon(self.data, self.discount),
        )

    @cached_property
    def _facts(self) -> dict[str, float]:
        """Of the weights of whole episodes."""
        last = self.weight[:, -1]
        facts = {"effective": importance.effective(last), "mean_weight": float(last.mean())}
        return facts | {"largest_weight": float(last.max()), "without_weight": float((last == 0).mean())}

    def _of_dr(self) -> Judgement:
        rows, model = np.arange(len(self.data.reward)), self.fitted
        values = model.value(rows), model.next_value(rows), model.action_value(rows)
        each = doubly_robust.per_episode(self.data, self.weight, *values, self.discount)
        numbers = float(each.mean()), *importance.percentiles(self.counts @ each / len(each))
        weights = diagnostics.of_weights(self.weight[:, -1], self._facts["effective"])
        return self._made("dr", numbers, ENDLESS, self._facts, weights)

    def _of_dice(self) -> Judgement:
        ratios = dice.fit(self.data, self.policy, self.discount, self.visits, self.seed)
        numbers = fqe.interval(ratios.members)
        facts = {"mass": ratios.mass, "unbalanced": ratios.unbalanced, "near": self.near}
        facts |= {"effective_steps": importance.effective(ratios.zeta)}
        moving = diagnostics.of_fit(ratios.history, *numbers[1:], self.spread)
        return self._made(
            "dice",
            numbers,
            ENDLESS,
            facts,
            moving,
            diagnostics.of_support(self.near),
            diagnostics.of_visits(ratios.mass, ratios.unbalanced),
        )
