"""Train the algorithm of a run from one evaluation point to the next; record each and save a checkpoint."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from ray.exceptions import RayActorError

from datasets_io.scores import key_of, mean_normalised
from off2on.errors import Diverged, LearnerDied, UserError
from off2on.rllib.divergence import check_weights
from off2on.runs.folder import HANDOVER, Row, Run, write, write_policy
from off2on.runs.metadata import read_metadata
from off2on.runs.tables import read_metrics
from off2on.training.callbacks import Callbacks
from off2on.training.cluster.placement import format_placement
from off2on.training.cluster.preflight import available_gpus_per_learner, placement_of
from off2on.training.evaluate import EvaluationEpisode, evaluate, numpy_policy, success_rate
from off2on.training.guard import Guard, decide_and_apply, resume_guard, start_guard
from off2on.training.handover_report import make_report
from off2on.training.plan import Plan, ResolvedPlan
from off2on.training.process import StopRequest
from off2on.training.resume import restore, untrusted_reason
from off2on.training.trackers import Trackers


class Session:
    """The training of a run, from its start or its last checkpoint to its end.

    Attributes:
        algo: RLlib's algorithm.
        guard: The guard; None without one.
        clock: Function that returns seconds, from which speeds are computed.
        speeds: Updates and environment steps per second since the previous evaluation point.
    """

    def __init__(
        self,
        plan: Plan,
        resolved: ResolvedPlan,
        run: Run,
        progress: Any,
        stop: StopRequest,
        trackers: Trackers,
        callbacks: Callbacks,
    ) -> None:
        self.plan, self.resolved, self.run = plan, resolved, run
        self.progress, self.stop, self.trackers = progress, stop, trackers
        self.callbacks = callbacks
        self.guard: Guard | None = None
        self.env = resolved.env
        self.env_options = resolved.env_options
        self.algo = plan.config(resolved, available_gpus_per_learner(plan, progress.note)).build_algo()
        self.score_key = key_of(resolved.shards.manifest, self.env, self.env_options)
        self.largest_return = run.metadata["data"]["return_to_go_max"]
        self.warned = False
        self.speeds: dict[str, float] = {}
        self.clock: Callable[[], float] = time.perf_counter
        self.started = time.monotonic() - float(run.metadata.get("wall_s", 0.0))

    def __enter__(self) -> "Session":
        try:
            self._continue()
        except BaseException:
            self.algo.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.algo.stop()

    def _continue(self) -> None:
        """Continue from the last checkpoint of the run, or from the handover that it starts from."""
        plan, run, algo = self.plan, self.run, self.algo
        self.guard = resume_guard(run, algo)
        start = run.last_checkpoint or self.resolved.start
        if start is not None:
            if (why := untrusted_reason(start, plan.folder.parents[1])) is not None:
                self.progress.note(f"warning: {start} is a pickle, which can run code when read, and {why}")
            restore(algo.restore_from_path, start)
            if algo.is_offline and start == self.resolved.start:
                raise UserError(
                    f"the handover of {plan.source} has {algo.updates:,} updates, not {plan.updates:,}.",
                    "That run is being extended: wait until it has finished.",
                )
            if algo.is_offline and (run.checkpoints / HANDOVER).is_dir():  # this run is extended
                self._save(self._checkpoint_name)
                shutil.rmtree(run.checkpoints / HANDOVER)
        if run.metrics or run.episodes:  # also without a checkpoint: a run may be killed before its first one
            run.forget_after(algo.updates, algo.env_steps, algo.is_online)
            self.progress.recall(run.metrics)
        self._record_placement()

    def training(self) -> Iterator[Run]:
        """Train to the end; yield the run before the start and after each evaluation."""
        offline, online = self.plan.evaluations()
        algo, run = self.algo, self.run
        yield run
        if not algo.is_fitted:
            self._fit()
        for point in offline:
            if algo.updates < point:
                self._advance(point)
                self._evaluate("offline")
                self._save(HANDOVER if point == self.plan.updates else self._checkpoint_name)
                yield run
        if self.plan.online:
            if not algo.is_online:
                if not (run.checkpoints / HANDOVER).exists():
                    self._save(HANDOVER)
                algo.go_online()
                self._record_placement()
                self.callbacks.on_handover(algo)
                played = self._evaluate("handover")
                self._report_handover(played)
                if self.resolved.guard is not None:
                    self.guard = start_guard(self.resolved.guard, run, algo, played)
                yield run
            for point in online:
                if algo.env_steps < point and not (self.guard and self.guard.has_stopped):
                    self._advance(point)
                    played = self._evaluate("online")
                    if self.guard is not None:
                        self.progress.note(
                            decide_and_apply(self.guard, run, algo, self._checkpoint_name, played)
                        )
                    self._save(self._checkpoint_name)
                    yield run
        if not self.plan.online:
            run.save_handover_policy()
        elif self.guard is None:
            run.save_policy(algo.policy())

    def _record_placement(self) -> None:
        """Record the nodes of the learners and the environment runners of a cluster."""
        if self.plan.address is not None and (placement := placement_of(self.algo)):
            self.run.describe({"placement": placement})
            self.progress.note(format_placement(placement))

    def _fit(self) -> None:
        """Run the algorithm's first stage, and write its networks to files for use by other runs."""
        algo, run = self.algo, self.run
        names = " and ".join(algo.config.resolved.recipe.fitted_networks)
        self.progress.note(f"first stage: fitting the {names}")
        algo.train()
        self.progress.note(", ".join(f"{name} {value:.4g}" for name, value in algo.latest_metrics.items()))
        run.describe({"first_stage": algo.latest_metrics})
        for name in algo.config.resolved.recipe.fitted_networks:
            write(run.folder / f"{name}.pt", algo.network(name))
        self._save(self._checkpoint_name)

    def _advance(self, point: int) -> None:
        """Train to a number of updates in the offline phase, or of environment steps in the online phase.

        Raises:
            KeyboardInterrupt: The user stops the run before; a checkpoint is saved.
        """
        algo = self.algo
        algo.pause_at = point
        started, updates, steps = self.clock(), algo.updates, algo.env_steps

        def position() -> int:
            return int(algo.updates if algo.is_offline or not algo.is_online else algo.env_steps)

        while position() < point and not self.stop.is_requested:
            self._make_updates(algo.train)
            took = self.clock() - started
            self.speeds = {
                "updates_per_s": (algo.updates - updates) / took,
                "steps_per_s": (algo.env_steps - steps) / took,
            }
            phase = "online" if algo.is_online else "offline"
            self.progress.advance(phase, algo.updates, algo.env_steps, self.speeds)
            self.callbacks.on_update_block(algo)
        # Not when saving: the checkpoint holds the networks that are evaluated.
        self._make_updates(algo.finish_rollouts)
        if position() < point:
            self._save(self._checkpoint_name)
            self.run.describe({"wall_s": round(time.monotonic() - self.started, 1)})
            raise KeyboardInterrupt
        algo.call_learners(check_weights)  # a loss shows them only at the next update

    def _make_updates(self, make: Callable[[], object]) -> None:
        """Call a function that makes updates; any error that NaN weights lead to becomes `Diverged`.

        Raises:
            Diverged: A loss or a weight is NaN or infinite.
        """
        try:
            make()
        except (Diverged, LearnerDied, RayActorError):
            raise
        except Exception:  # such as that of an environment that got NaN as an action
            with suppress(LearnerDied):  # one whose loss raised an error does not answer any more
                self.algo.call_learners(check_weights)
            raise

    def _report_handover(self, played: list[EvaluationEpisode]) -> None:
        """Show the handover report and write it to the run."""
        report = make_report(self.plan, self.resolved, self.algo, self._offline_score(), played)
        for line in report.lines():
            self.progress.note(line)
        write(self.run.folder / "handover.yaml", report.to_yaml())

    def _offline_score(self) -> float | None:
        """Return the last offline score of this run or its source run, if its episodes had the same seeds."""
        rows, source = self.run.metrics, self.plan.source
        if source is not None:
            metadata = read_metadata(Path(source))
            settings = [metadata.option(name).value for name in ("seed", "eval_episodes")]
            same = settings == [str(self.plan.seed), str(self.plan.eval_episodes)]
            rows = [*read_metrics(Path(source))] if same else []
        scores = [float(row["score"]) for row in rows if row["side"] == "offline" and row["score"] != ""]
        return scores[-1] if scores else None

    def _evaluate(self, phase: str) -> list[EvaluationEpisode]:
        """Evaluate and record the policy; return the episodes, at the handover with transitions."""
        algo = self.algo
        where = {"side": phase, "updates": algo.updates, "env_steps": algo.env_steps}
        row: Row = where | dict.fromkeys(("score", "score_std", "episodes", "normalised"), "")
        episodes: list[Row] = []
        played: list[EvaluationEpisode] = []
        if self.env is not None:
            seed = 1_000_000 * (1 + self.plan.seed)
            played = evaluate(
                numpy_policy(algo.policy()),
                self.env,
                episodes=self.plan.eval_episodes,
                seed=seed,
                keep=phase == "handover" or self.callbacks.needs_transitions,
                options=self.env_options,
            )
            scores = np.array([episode.ret for episode in played])
            scaled = mean_normalised(self.score_key, scores)
            row |= {
                "score": scores.mean(),
                "score_std": scores.std(),
                "episodes": len(played),
                "normalised": "" if scaled is None else scaled,
            }
            episodes = [
                {**where, "episode": number, "seed": one.seed, "return": one.ret, "length": one.length}
                | ({} if one.success is None else {"success": int(one.success)})
                for number, one in enumerate(played)
            ]
            if (rate := success_rate(played)) is not None:
                row["success"] = rate
        latest = dict(algo.latest_metrics)
        row |= {"q": latest.pop("q", ""), "ret": self.run.metadata["data"]["return_to_go_mean"]}
        row |= {"offline_share": latest.pop("offline_share", "")}
        row |= {name: self.speeds.get(name, "") for name in ("updates_per_s", "steps_per_s")}
        row |= {"wall_s": round(time.monotonic() - self.started, 1)} | latest
        row |= self.callbacks.own_metrics(algo, phase, played, taken=row)
        self.run.record(row, episodes)
        self.run.describe({"wall_s": row["wall_s"], **algo.device_and_threads()})
        self.trackers.log(row)
        self.progress.evaluated(row)
        self._warn_of_extrapolation(row["q"])
        if self.plan.keep_policies and phase != "handover":
            self.run.keep_policy(self._checkpoint_name, algo.policy())
        return played

    def _warn_of_extrapolation(self, q: Any) -> None:
        """Warn once if the critic's mean value exceeds every return to go of the data."""
        if isinstance(q, float) and q > self.largest_return and not self.warned and not self.algo.is_online:
            self.warned = True
            self.progress.note(
                f"warning: q exceeds the largest return of the data ({q:.4g} > {self.largest_return:.4g}"
                f") at update {self.algo.updates:,}: the critic extrapolates. Training continues."
            )

    @property
    def _checkpoint_name(self) -> str:
        """Name of a checkpoint now: the number of updates and, online, of environment steps."""
        steps = f"-{self.algo.env_steps:09d}" if self.algo.is_online else ""
        return f"{self.algo.updates:09d}{steps}"

    def _save(self, name: str) -> None:
        """Write a checkpoint; the handover checkpoint also contains the policy, for later evaluation.

        Raises:
            Diverged: A weight is NaN or infinite; the last checkpoint stays.
        """
        self.algo.call_learners(check_weights)

        def save(folder: str) -> None:
            self.algo.save_to_path(folder)
            if name == HANDOVER:
                write_policy(Path(folder), self.algo.policy())

        self.run.checkpoint(name, save)
