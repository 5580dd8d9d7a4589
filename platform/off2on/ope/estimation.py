"""One function for all estimators: value, interval and warnings of each, and why a method was skipped."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from datasets_io import Shards
from off2on.errors import UnknownName, UserError
from off2on.ope import diagnostics, dice, doubly_robust, fqe, importance
from off2on.ope.diagnostics import EstimateWarning
from off2on.ope.evaluated_policy import EvaluatedPolicy, as_evaluated_policy, log_probs
from off2on.ope.recorded_data import LOG_PROB, Array, RecordedData

METHODS = ("fqe", *importance.KINDS, "dr", "dice")
RESAMPLES = 1_000
INFINITE_HORIZON, RECORDED_STEPS = "infinite horizon", "recorded steps"


@dataclass(frozen=True)
class PolicyEstimate:
    """An estimate of a policy's return by one estimator.

    Attributes:
        method: Name of the estimator.
        value: Expected discounted return from the start of an episode, in raw units of the reward.
        low, high: Ends of its 95 % interval.
        horizon: `INFINITE_HORIZON` if a time limit does not end the return, `RECORDED_STEPS` if it does.
        diagnostics: Numbers that the warnings rest on.
        warnings: Reasons to distrust the estimate.
    """

    method: str
    value: float
    low: float
    high: float
    horizon: str
    diagnostics: dict[str, float]
    warnings: tuple[EstimateWarning, ...]

    @property
    def trust(self) -> str:
        """Summary of the warnings in words."""
        if any(warning.severe for warning in self.warnings):
            return "do not use"
        return "use with care" if self.warnings else "no warnings"


@dataclass(frozen=True)
class OPEReport:
    """Estimates of one policy's return by several estimators.

    Attributes:
        discount: Gamma of every return in the report.
        recorded: Mean discounted return over the recorded steps of the data, and its 95 % interval.
        estimates: Estimates, in the order of the requested methods.
        skipped: Reason for each method that could not be used.
    """

    discount: float
    recorded: tuple[float, float, float]
    estimates: list[PolicyEstimate] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def estimate(
    policy: EvaluatedPolicy | Callable[[Array], Array],
    shards: Shards | RecordedData,
    *,
    methods: Sequence[str] = METHODS,
    discount: float = 0.99,
    clip: float | None = None,
    fqe_settings: fqe.FQESettings | None = None,
    dice_settings: dice.DICESettings | None = None,
    seed: int = 0,
) -> OPEReport:
    """Estimate the return of a policy from the data alone.

    Args:
        policy: An `EvaluatedPolicy`, or a function from observations [B, D] to actions.
        shards: The data.
        methods: Names of the estimators.
        discount: Gamma, in (0, 1].
        clip: Largest weight of importance sampling; None: no bound.
        fqe_settings: Settings of FQE's fit.
        dice_settings: Settings of DICE's fit.
        seed: Seed of all random draws.

    Raises:
        UnknownName: There is no such method.
        UserError: The data have only one episode, or an `action_logp` that is not finite.
    """
    for method in methods:
        if method not in METHODS:
            raise UnknownName(
                f"there is no method '{method}'.", f"All: {' '.join(METHODS)}", given=method, known=METHODS
            )
    if not 0 < discount <= 1:
        raise UserError(f"discount {discount} is out of range.", "Expected a number in (0, 1].")
    data = shards if isinstance(shards, RecordedData) else RecordedData.from_shards(shards)
    evaluated = as_evaluated_policy(policy, data)
    if data.episodes < 2:
        raise UserError("the data have only one episode.", "An interval needs at least two.")
    if data.log_prob is not None and not np.isfinite(data.log_prob).all():
        raise UserError(
            f"{LOG_PROB} is not finite in {(~np.isfinite(data.log_prob)).sum():,} rows.",
            "Expected the behaviour policy's log probability of each recorded action.",
        )
    estimators = _Estimators(
        data,
        evaluated,
        discount,
        clip,
        fqe_settings or fqe.FQESettings(),
        dice_settings or dice.DICESettings(),
        seed,
    )
    report = OPEReport(discount, estimators.recorded_return())
    for method in methods:
        reason = estimators.missing_requirement(method)
        if reason:
            report.skipped[method] = reason
        else:
            report.estimates.append(estimators.estimate(method))
    return report


@dataclass
class _Estimators:
    """The estimators for one policy and data set; results that several of them need are cached."""

    data: RecordedData
    policy: EvaluatedPolicy
    discount: float
    clip: float | None
    fqe_settings: fqe.FQESettings
    dice_settings: dice.DICESettings
    seed: int

    @cached_property
    def counts(self) -> Array:
        """Number of times that each episode is in each bootstrap resample [RESAMPLES, E]."""
        return importance.resample_counts(self.data.episodes, RESAMPLES, self.seed)

    @cached_property
    def fitted(self) -> fqe.FittedValues:
        """FQE's action values, shared by `fqe` and `dr`."""
        return fqe.fit(self.data, self.policy, self.discount, self.fqe_settings, self.seed)

    @cached_property
    def weight(self) -> Array:
        """Importance weights [E, T]."""
        log_ratio = log_probs(self.policy, self.data) - self.data.log_prob
        return importance.weights(log_ratio, self.data, self.clip)

    @cached_property
    def support(self) -> float:
        """Share of recorded states at which the policy acts as the data do nearby."""
        return diagnostics.support_share(self.data, self.policy, self.seed)

    @cached_property
    def spread(self) -> float:
        """Standard deviation of the recorded returns."""
        return float(self.data.returns(self.discount).std())

    @cached_property
    def weight_diagnostics(self) -> dict[str, float]:
        """Statistics of the importance weights of whole episodes."""
        last = self.weight[:, -1]
        return {
            "effective_episodes": importance.effective_sample_size(last),
            "mean_weight": float(last.mean()),
            "largest_weight": float(last.max()),
            "zero_weight_share": float((last == 0).mean()),
        }

    def recorded_return(self) -> tuple[float, float, float]:
        """Return the mean return of the recorded episodes, and its interval."""
        returns = self.data.returns(self.discount)
        return float(returns.mean()), *importance.percentile_interval(self.counts @ returns / len(returns))

    def missing_requirement(self, method: str) -> str:
        """Return the reason why a method cannot be used; an empty string if it can."""
        if method in (*importance.KINDS, "dr"):
            if self.data.log_prob is None:
                return (
                    f"the data have no action probabilities (column {LOG_PROB});"
                    " `off2on serve --explore --log` records them"
                )
            if not self.policy.has_density:
                return "the deterministic policy has no action density; --explore uses the stochastic one"
        if self.discount == 1 and method == "dice":
            return "DICE needs a --discount below 1"
        if self.discount == 1 and method in ("fqe", "dr") and self.data.cut_off.any():
            return "some episodes were truncated: the values after that need a --discount below 1"
        return ""

    def estimate(self, method: str) -> PolicyEstimate:
        """Estimate the return by one method."""
        if method == "fqe":
            return self._fqe()
        if method == "dr":
            return self._doubly_robust()
        return self._dice() if method == "dice" else self._importance(method)

    def _policy_estimate(
        self,
        method: str,
        value_interval: tuple[float, float, float],
        horizon: str,
        facts: dict[str, float],
        *checks: Iterable[EstimateWarning],
    ) -> PolicyEstimate:
        value, low, high = value_interval
        warnings = [warning for check in checks for warning in check]
        recorded_only = horizon == RECORDED_STEPS
        warnings += diagnostics.check_value(value, low, high, self.data, self.discount, recorded_only)
        warnings += diagnostics.check_cut_episodes(self.data, self.discount, recorded_only)
        warnings += diagnostics.check_episode_count(self.data)
        return PolicyEstimate(method, value, low, high, horizon, facts, tuple(warnings))

    def _fqe(self) -> PolicyEstimate:
        interval = fqe.interval(self.fitted.members)
        return self._policy_estimate(
            "fqe",
            interval,
            INFINITE_HORIZON,
            {"support": self.support},
            diagnostics.check_convergence(self.fitted.history, *interval[1:], self.spread),
            diagnostics.check_target_updates(
                self.fqe_settings.updates // self.fqe_settings.sync, self.discount
            ),
            diagnostics.check_support(self.support),
        )

    def _importance(self, method: Any) -> PolicyEstimate:
        reward = importance.rewards(self.data, self.discount)
        value = float(importance.estimate(method, self.weight, reward)[0])
        resampled = importance.estimate(method, self.weight, reward, self.counts)
        return self._policy_estimate(
            method,
            (value, *importance.percentile_interval(resampled)),
            RECORDED_STEPS,
            self.weight_diagnostics,
            self._weight_warnings(),
        )

    def _doubly_robust(self) -> PolicyEstimate:
        rows, model = np.arange(len(self.data.reward)), self.fitted
        values = model.value(rows), model.next_value(rows), model.action_value(rows)
        per_episode = doubly_robust.per_episode(self.data, self.weight, *values, self.discount)
        resampled = self.counts @ per_episode / len(per_episode)
        return self._policy_estimate(
            "dr",
            (float(per_episode.mean()), *importance.percentile_interval(resampled)),
            INFINITE_HORIZON,
            self.weight_diagnostics,
            self._weight_warnings(),
        )

    def _weight_warnings(self) -> Iterable[EstimateWarning]:
        return diagnostics.check_weights(self.weight[:, -1], self.weight_diagnostics["effective_episodes"])

    def _dice(self) -> PolicyEstimate:
        ratios = dice.fit(self.data, self.policy, self.discount, self.dice_settings, self.seed)
        interval = fqe.interval(ratios.members)
        return self._policy_estimate(
            "dice",
            interval,
            INFINITE_HORIZON,
            {
                "mass": ratios.mass,
                "imbalance": ratios.imbalance,
                "support": self.support,
                "effective_steps": importance.effective_sample_size(ratios.zeta),
            },
            diagnostics.check_convergence(ratios.history, *interval[1:], self.spread),
            diagnostics.check_support(self.support),
            diagnostics.check_visits(ratios.mass, ratios.imbalance),
        )
