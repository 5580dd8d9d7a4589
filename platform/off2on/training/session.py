"""A run under way: its algorithm, trained from evaluation to evaluation, each written down and kept."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from datasets_io.scores import key_of, mean_normalised
from off2on.runs.folder import HANDOVER, Row, Run, write, write_policy
from off2on.training import guarded_run
from off2on.training.cluster.placement import format_layout
from off2on.training.cluster.preflight import available_gpus_per_learner, placement_of
from off2on.training.evaluate import Episode, acting, evaluate
from off2on.training.handover_report import report
from off2on.training.plan import Plan, ResolvedPlan
from off2on.training.process import Stop
from off2on.training.resume import untrusted_reason
from off2on.training.trackers import Trackers


class Session:
    """A run under way."""

    def __init__(
        self, plan: Plan, resolved: ResolvedPlan, run: Run, progress: Any, stop: Stop, trackers: Trackers
    ) -> None:
        self.plan, self.resolved, self.run = plan, resolved, run
        self.progress, self.stop, self.trackers = progress, stop, trackers
        self.env = resolved.env
        self.env_options = resolved.env_options
        self.algo = plan.config(resolved, available_gpus_per_learner(plan, progress.note)).build_algo()
        self.key = key_of(resolved.shards.manifest, self.env, self.env_options)
        self.ceiling = run.about["data"]["return_to_go_max"]
        self.warned = False
        self.speeds: dict[str, float] = {}
        self.clock: Callable[[], float] = time.perf_counter
        """By which speeds are taken."""
        self.began = time.monotonic() - float(run.about.get("wall_s", 0.0))
        self.guard = guarded_run.take_up(run, self.algo)
        start = run.last_checkpoint or resolved.start
        if start is not None:
            if (why := untrusted_reason(start, plan.folder.parents[1])) is not None:
                progress.note(f"warning: {start} is pickled: reading it runs what is in it, and {why}")
            self.algo.restore_from_path(str(start))
        if run.metrics:  # even without a checkpoint: a run may be killed between its first record and that
            run.forget_after(self.algo.updates, self.algo.env_steps, self.algo.is_online)
            progress.recall(run.metrics)
        self._say_where()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.algo.stop()

    def go(self) -> Iterator[Run]:
        """Everything that is still to do; yields before it and after each evaluation."""
        offline, online = self.plan.evaluations()
        algo, run = self.algo, self.run
        yield run
        if not algo.is_fitted:
            self._fit()
        for mark in offline:
            if algo.updates < mark:
                self._advance(mark)
                self._evaluate("offline")
                self._keep(HANDOVER if mark == self.plan.updates else self._place)
                yield run
        if self.plan.online:
            if not algo.is_online:
                if not (run.checkpoints / HANDOVER).exists():
                    self._keep(HANDOVER)
                algo.go_online()
                self._say_where()
                played = self._evaluate("handover")
                self._hand_over(played)
                if self.resolved.guard is not None:
                    self.guard = guarded_run.stand(self.resolved.guard, run, algo, played)
                yield run
            for mark in online:
                if algo.env_steps < mark and not (self.guard and self.guard.has_stopped):
                    self._advance(mark)
                    played = self._evaluate("online")
                    if self.guard is not None:
                        self.progress.note(guarded_run.try_out(self.guard, run, algo, self._place, played))
                    self._keep(self._place)
                    yield run
        if self.guard is None:
            run.save_policy(algo.policy())

    def _say_where(self) -> None:
        """Write down on which nodes of a cluster learners and runners are."""
        if self.plan.address is not None and (layout := placement_of(self.algo)):
            self.run.describe({"placement": layout})
            self.progress.note(format_layout(layout))

    def _fit(self) -> None:
        """The recipe's first stage; what it trained is kept in files of its own, for other runs to use."""
        algo, run = self.algo, self.run
        names = " and ".join(algo.config.resolved.recipe.fitted_networks)
        self.progress.note(f"first stage: fitting the {names}")
        algo.train()
        self.progress.note(", ".join(f"{name} {value:.4g}" for name, value in algo.latest.items()))
        run.describe({"first_stage": algo.latest})
        for name in algo.config.resolved.recipe.fitted_networks:
            write(run.folder / f"{name}.pt", algo.network(name))
        self._keep(self._place)

    def _advance(self, mark: int) -> None:
        """Train up to a mark, in updates or in environment steps."""
        algo = self.algo
        algo.pause_at = mark
        started, updates, steps = self.clock(), algo.updates, algo.env_steps

        def position() -> int:
            return int(algo.updates if algo.is_offline or not algo.is_online else algo.env_steps)

        while position() < mark:
            if self.stop.asked:  # asked before a block, because one that reaches its mark is evaluated first
                self._keep(self._place)
                self.run.describe({"wall_s": round(time.monotonic() - self.began, 1)})
                raise KeyboardInterrupt
            algo.train()
            took = self.clock() - started
            self.speeds = {
                "updates_per_s": (algo.updates - updates) / took,
                "steps_per_s": (algo.env_steps - steps) / took,
            }
            side = "online" if algo.is_online else "offline"
            self.progress.advance(side, algo.updates, algo.env_steps, self.speeds)

    def _hand_over(self, played: list[Episode]) -> None:
        """Say what changes now, and whether what must not change has not."""
        told = report(self.plan, self.resolved, self.algo, self._score_before(), played)
        for line in told.lines():
            self.progress.note(line)
        write(self.run.folder / "handover.yaml", told.dump())

    def _score_before(self) -> float | None:
        """The last offline score, of this run or of the one it starts from, if it met the same episodes."""
        rows, source = self.run.metrics, self.plan.source
        if source is not None:
            there = Run.resume(Path(source))
            asked = [there.about["plan"][name]["value"] for name in ("seed", "eval_episodes")]
            rows = there.metrics if asked == [str(self.plan.seed), str(self.plan.eval_episodes)] else []
        scores = [float(row["score"]) for row in rows if row["side"] == "offline" and row["score"] != ""]
        return scores[-1] if scores else None

    def _evaluate(self, side: str) -> list[Episode]:
        """Score the policy as it is, and write everything down; the episodes, at the handover whole ones."""
        algo = self.algo
        where = {"side": side, "updates": algo.updates, "env_steps": algo.env_steps}
        row: Row = where | dict.fromkeys(("score", "score_std", "episodes", "normalised"), "")
        episodes: list[Row] = []
        played: list[Episode] = []
        if self.env is not None:
            seed = 1_000_000 * (1 + self.plan.seed)
            played = evaluate(
                acting(algo.policy()),
                self.env,
                episodes=self.plan.eval_episodes,
                seed=seed,
                keep=side == "handover",
                options=self.env_options,
            )
            scores = np.array([episode.ret for episode in played])
            scaled = mean_normalised(self.key, scores)
            row |= {
                "score": scores.mean(),
                "score_std": scores.std(),
                "episodes": len(played),
                "normalised": "" if scaled is None else scaled,
            }
            episodes = [
                {**where, "episode": number, "seed": one.seed, "return": one.ret, "length": one.length}
                for number, one in enumerate(played)
            ]
        latest = dict(algo.latest)
        row |= {"q": latest.pop("q", ""), "ret": self.run.about["data"]["return_to_go_mean"]}
        row |= {"offline_share": latest.pop("offline_share", "")}
        row |= {name: self.speeds.get(name, "") for name in ("updates_per_s", "steps_per_s")}
        row |= {"wall_s": round(time.monotonic() - self.began, 1)} | latest
        self.run.record(row, episodes)
        self.run.describe({"wall_s": row["wall_s"], **algo.device_and_threads()})
        self.trackers.tell(row)
        self.progress.evaluated(row)
        self._warn_of_extrapolation(row["q"])
        return played

    def _warn_of_extrapolation(self, q: Any) -> None:
        """Say once that the critic's values have left what the data can explain."""
        if isinstance(q, float) and q > self.ceiling and not self.warned and not self.algo.is_online:
            self.warned = True
            self.progress.note(
                f"warning: q has passed the largest return to go of the data ({q:.4g} > {self.ceiling:.4g}) "
                f"at update {self.algo.updates:,}: the critic is extrapolating. Training goes on."
            )

    @property
    def _place(self) -> str:
        """Where the run is, as a checkpoint's name: updates and, online, environment steps."""
        steps = f"-{self.algo.env_steps:09d}" if self.algo.is_online else ""
        return f"{self.algo.updates:09d}{steps}"

    def _keep(self, name: str) -> None:
        """A checkpoint; the handover's has its policy beside it, to be evaluated for ever."""

        def save(folder: str) -> None:
            self.algo.save_to_path(folder)
            if name == HANDOVER:
                write_policy(Path(folder), self.algo.policy())

        self.run.checkpoint(name, save)
