"""Run a search: Ray Tune runs the trials that have not ended."""

import os
import shutil
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, TextIO

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler

from datasets_io import storage
from datasets_io.storage.documents import dump_yaml, read_yaml
from datasets_io.storage.locks import exclusive_lock
from off2on.errors import Exists, UserError
from off2on.runs.folder import write
from off2on.runs.lock import where_possible
from off2on.runs.numbers import duration, points
from off2on.search.checks import count_evaluations
from off2on.search.resources import trial_bundles
from off2on.search.searcher import SCORE, TrialSearcher, domain
from off2on.search.spec import Search
from off2on.search.trial import MARK, RUNS, TrialTrainable
from off2on.search.trial_store import COUNTED, FAILED, FINISHED, SEARCH, STOPPED, Trial, TrialStore
from off2on.training.cluster.placement import cluster_nodes
from off2on.training.process import ray_started, redirect_output

MAY_CHANGE = ("file", "trials")
"""Keys that may differ when a search is resumed in its folder."""

DEATHS = 3
"""Number of process failures after which a trial has failed."""

SILENCE = 30
"""Seconds without output after which the progress of a trial is printed."""

SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths are relative to the folder of the command
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # runs write their own
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # the files of Tune are not read: see `store`
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run(search: Search, jobs: int, resume: bool) -> list[Trial]:
    """Run every trial that has not ended.

    Args:
        search: The search, checked.
        jobs: Trials at a time.
        resume: True to continue the search in its folder.

    Returns:
        All trials.

    Raises:
        UserError: The folder contains a search and `resume` is False, another search, or a running one.
        KeyboardInterrupt: Ctrl-C.
    """
    _check_folder(search, resume)
    folder = search.folder
    folder.mkdir(parents=True, exist_ok=True)
    elsewhere = UserError(
        f"another search is under way in {search.place}.",
        "Wait until it has ended, or choose another folder with out=.",
    )
    with where_possible(exclusive_lock(folder / ".lock", elsewhere)):
        store = TrialStore(search.place, search.names)
        searcher = TrialSearcher(search, store)
        if searcher.left:
            with redirect_output(folder / "log.txt") as terminal:
                _tune(search, searcher, jobs, terminal)
        store.tabulate()
    if len(store.trials) < search.trials or not all(trial.outcome for trial in store.trials):
        raise KeyboardInterrupt
    return store.trials


def _tune(search: Search, searcher: TrialSearcher, jobs: int, terminal: TextIO) -> None:
    """Run Ray Tune until every trial has ended."""
    actors = search.processes("learners") + search.processes("workers")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    kept = (search.folder / ".tune").absolute()
    shutil.rmtree(kept, ignore_errors=True)
    with ray_started(search.address, jobs * (1 + actors)):
        write(search.place / SEARCH, dump_yaml(search.as_dict()))
        trainable = tune.with_parameters(TrialTrainable, search=search, home=os.getcwd())
        population = search.by == "pbt"
        taken = trial_bundles(search, jobs, cluster_nodes())
        tuner = tune.Tuner(
            tune.with_resources(trainable, tune.PlacementGroupFactory(taken)),
            param_space={"drawn": tune.grid_search(searcher.draw_population())} if population else {},
            tune_config=tune.TuneConfig(
                num_samples=1 if population else searcher.left,
                search_alg=None if population else searcher,
                scheduler=_scheduler(search, searcher.store),
                max_concurrent_trials=None if population else jobs,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=search.folder.name,
                storage_path=str(kept),
                verbose=0,
                callbacks=[ProgressCallback(search, searcher.store, terminal)],
                failure_config=tune.FailureConfig(max_failures=DEATHS),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        tuner.fit()
    shutil.rmtree(kept, ignore_errors=True)


def _scheduler(search: Search, store: TrialStore) -> TrialScheduler:
    """Return the scheduler that stops or copies trials."""
    every, unscored = count_evaluations(search)
    scored = every - unscored
    if search.by == "pbt":
        return PopulationBasedTraining(
            time_attr=MARK,
            metric=SCORE,
            mode="max",
            perturbation_interval=max(1, scored // 10),
            hyperparam_mutations={"drawn": {d.name: _mutation(d) for d in search.dimensions}},
            custom_explore_fn=lambda config: _within(search, config),
        )
    if search.stop_early == "none":
        return FIFOScheduler()
    return SuccessiveHalving(store, scored)


class SuccessiveHalving(ASHAScheduler):
    """Stop trials early, compared also with the scores that trials had in earlier commands.

    Args:
        store: The trials.
        scored: Number of planned evaluations with a score.
    """

    def __init__(self, store: TrialStore, scored: int) -> None:
        super().__init__(
            time_attr=MARK,
            metric=SCORE,
            mode="max",
            max_t=scored,
            grace_period=max(1, scored // 9),
            reduction_factor=3,
        )
        self.store = store
        for trial in store.trials:
            if trial.is_done:
                self._add(SimpleNamespace(trial_id=trial.name), trial.scores)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Add a trial; one that goes on counts once, with the scores that it has."""
        self._add(trial, self.store[trial.trial_id].scores)

    def _add(self, trial: Any, scores: list[list[float]]) -> None:
        super().on_trial_add(None, trial)
        for mark, value in scores:
            self.on_trial_result(None, trial, {MARK: mark, SCORE: value})


def _mutation(dimension: Any) -> Any:
    return list(dimension.values) if dimension.kind == "one_of" else domain(dimension)


def _within(search: Search, config: dict[str, Any]) -> dict[str, Any]:
    """Return the next values of a member of the population, clipped to the ranges."""
    for d in search.dimensions:
        if d.kind != "one_of":
            low, high = d.bounds
            config["drawn"][d.name] = min(max(config["drawn"][d.name], low), high)
    return config


class ProgressCallback(tune.Callback):
    """Record and print the progress and the end of trials."""

    def __init__(self, search: Search, store: TrialStore, terminal: TextIO) -> None:
        self.search, self.store, self.terminal = search, store, terminal
        every, unscored = count_evaluations(search)
        self.count_evaluations = every - unscored
        self.begun = {t.name: t.scores[-1][0] / self.count_evaluations for t in store.trials if t.scores}
        """Fraction of each running trial that is done."""
        self.began, self.before = time.monotonic(), self._done
        self.spoke = self.began

    def __getstate__(self) -> dict[str, Any]:
        """Return no state: the trial store has all that is needed to resume."""
        return {}

    @property
    def _done(self) -> float:
        """Return the number of trials that have ended, plus the fractions of the others that are done."""
        return sum(1 if trial.outcome else self.begun.get(trial.name, 0.0) for trial in self.store.trials)

    def on_trial_result(self, *, trial: Any, result: Mapping[str, Any], **_: Any) -> None:
        """Record an intermediate score."""
        ours = self.store[trial.trial_id]
        if RUNS in result:
            runs = self.search.seeds * len(self.search.data)
            self.begun[ours.name] = result[RUNS] / runs
            self._on_the_way(f"{ours.name}  {result[RUNS]} of {runs} runs")
        elif "failed" not in result:
            before = [
                kept for kept in ours.scores if kept[0] < result[MARK]
            ]  # a result may be reported twice
            ours.scores = [*before, [result[MARK], result[SCORE]]]
            ours.drawn = dict(trial.config["drawn"])
            ours.values = self.search.as_text(ours.drawn)
            self.store.keep(ours)
            self.begun[ours.name] = result[MARK] / self.count_evaluations
            at = f"{result[MARK]} of {self.count_evaluations} evaluations"
            self._on_the_way(f"{ours.name}  score {points(result[SCORE])} at {at}")

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        """Record the end of a trial, finished or stopped early."""
        last, ours = trial.last_result, self.store[trial.trial_id]
        counted = {name: last[name] for name in COUNTED}
        if "failed" in last:
            self._end(ours, {"status": FAILED, SCORE: "", **counted}, last["failed"])
            return
        status = FINISHED if last.get("finished") else STOPPED
        measured = {name: last[name] for name in (SCORE, "low", "high")}
        self._end(ours, {"status": status, **measured, **counted}, f"score {_score_text(measured)}")

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:
        """Record a failed trial: its process failed too often."""
        outcome = {"status": FAILED, SCORE: "", "seeds": self.search.seeds}
        self._end(self.store[trial.trial_id], outcome, "its process died")

    def _end(self, trial: Trial, outcome: dict[str, Any], text: str) -> None:
        self.store.end(trial, outcome)
        values = " ".join(f"{name}={value}" for name, value in trial.values.items())
        self._print(f"{outcome['status']:<8}  {trial.name}  {text}  {values}{self._left()}")

    def _on_the_way(self, text: str) -> None:
        """Print the progress of a trial if nothing was printed for a while."""
        if time.monotonic() - self.spoke > SILENCE:
            self._print(f"running   {text}")

    def _print(self, text: str) -> None:
        self.spoke = time.monotonic()
        self.terminal.write(f"{text}\n")

    def _left(self) -> str:
        """Return the estimated remaining time, at the rate of this command so far."""
        done = self._done
        ahead, made = self.search.trials - done, done - self.before
        seconds = (time.monotonic() - self.began) * ahead / made if made > 0 else 0.0
        return f"  about {duration(seconds)} left" if seconds > 0 else ""


def _score_text(measured: Mapping[str, Any]) -> str:
    """Format a score with its interval."""
    within = f" [{points(measured['low'])}, {points(measured['high'])}]" if measured["low"] != "" else ""
    return f"{points(measured[SCORE])}{within}"


def _check_folder(search: Search, resume: bool) -> None:
    """Check that the folder is free, or contains this search and is to be resumed."""
    place = search.place
    if not storage.is_file(place / SEARCH):
        return
    if not resume:
        raise Exists(
            f"{place} holds a search already.",
            f"Use --resume to continue it, or out={place}-again to keep both.",
            "--resume",
        )
    then, now = read_yaml(place / SEARCH, dict[str, Any]), search.as_dict()
    for name in [name for name in {**then, **now} if name not in MAY_CHANGE]:
        before, after = _value(then.get(name)), _value(now.get(name))
        if before != after:
            raise UserError(
                f"the search in {place} has {name} {before}, not {after}.",
                "The results there belong to other settings: give the same settings, or use another folder.",
                f"off2on tune {search.path} out={place}-again",
            )


def _value(text: Any) -> Any:
    """Return a value without its origin."""
    if isinstance(text, dict):
        return _value(text["value"]) if "value" in text else {name: _value(text[name]) for name in text}
    return text
