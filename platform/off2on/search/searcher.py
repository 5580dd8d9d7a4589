"""Draw the values of trials, as a searcher of Ray Tune."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search import Searcher

from off2on.search.spec import Dimension, Search
from off2on.search.trial_store import Trial, TrialStore

SCORE = "score"


class TrialSearcher(Searcher):
    """Suggest the trials that were begun and have not ended first, then new ones.

    New values depend on the trial's number alone; Optuna's also on what earlier trials were worth.

    Args:
        search: The search.
        book: Its trials.
    """

    def __init__(self, search: Search, store: TrialStore) -> None:
        super().__init__(metric=SCORE, mode="max")
        self.search, self.store = search, store
        self.waiting = [trial for trial in store.trials if not trial.is_done]
        self.optuna = _optuna(search, store.trials) if search.by == "optuna" else None

    @property
    def left(self) -> int:
        """Number of trials that are still to be run."""
        return len(self.waiting) + max(0, self.search.trials - len(self.store.trials))

    def suggest(self, trial_id: str) -> Any:
        """Return the values that are drawn for a trial, and its name."""
        if not self.left:
            return Searcher.FINISHED
        if self.waiting:
            trial = self.waiting.pop(0)
            trial.tune, trial.outcome = trial_id, {}
            if self.optuna is not None:
                self.optuna.suggest(trial_id)  # the same values again: it was initialised with them
            self.store.keep(trial)
        else:
            drawn = self._draw(trial_id)
            trial = self.store.add(trial_id, drawn, self.search.as_text(drawn))
        return {"drawn": trial.drawn, "name": trial.name}

    def draw_population(self) -> list[dict[str, Any]]:
        """Return the values of all members of a population, which exist from the start.

        With this scheduler, Ray Tune accepts no searcher and numbers the trials itself.
        """
        return [self.suggest(f"{number:05d}")["drawn"] for number in range(self.left)]

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Pass an intermediate score on."""
        if self.optuna is not None and result[SCORE] == result[SCORE]:
            self.optuna.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Pass the end of a trial on."""
        if self.optuna is not None:
            self.optuna.on_trial_complete(trial_id, result, error)

    def _draw(self, trial_id: str) -> dict[str, Any]:
        number = len(self.store.trials)
        if self.search.by == "grid":
            return dict(self.search.grid[number])
        if self.optuna is not None:
            return dict(self.optuna.suggest(trial_id))
        rng = np.random.default_rng(number)
        return {d.name: _plain(domain(d).sample(random_state=rng)) for d in self.search.dimensions}

    # Ray Tune saves its searchers; this one is rebuilt from the trial store instead.

    def save(self, checkpoint_path: str) -> None:
        """Do nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing."""


def domain(dimension: Dimension) -> Any:
    """Return the dimension as a search domain of Ray Tune."""
    if dimension.kind == "one_of":
        return tune.choice(list(dimension.values))
    low, high = dimension.bounds
    log = dimension.kind == "log_between"
    if dimension.whole:
        return (tune.lograndint if log else tune.randint)(int(low), int(high) + 1)
    return (tune.loguniform if log else tune.uniform)(low, high)


def _plain(value: Any) -> Any:
    """Return a value that YAML can represent."""
    return value.item() if isinstance(value, np.generic) else value


def _optuna(search: Search, known: list[Trial]) -> Any:
    """Return a tree-structured Parzen estimator of Optuna that has the results of earlier trials."""
    try:
        import optuna
    except ImportError:
        raise search.located["by"].wrong(
            "optuna is not installed.", "It is a package of its own.", "pip install 'off2on[tune]'"
        ) from None
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    startup = max(2, min(10, search.trials // 3))
    sampler = optuna.samplers.TPESampler(n_startup_trials=startup, seed=len(known))
    space = OptunaSearch.convert_search_space({d.name: domain(d) for d in search.dimensions})
    points = [trial.drawn for trial in known if not trial.is_done]
    found = OptunaSearch(space, metric=SCORE, mode="max", sampler=sampler, points_to_evaluate=points)
    for trial in known:
        if trial.is_done and trial.outcome[SCORE] != "":
            found.add_evaluated_point(trial.drawn, trial.outcome[SCORE])
    return found


def require_packages(search: Search) -> None:
    """Check that the packages of the search method are installed.

    Raises:
        UserError: One is not.
    """
    if search.by == "optuna":
        _optuna(search, [])
