"""A trial of a search: runs of several seeds, and their mean score.

Where somebody acts on scores on the way, all seeds go forward together, from evaluation to evaluation. Where
nobody does, they come one after the other, and need the memory of one.
"""

import math
import os
import shutil
import sys
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ray import tune

from datasets_io.storage.buckets import Location
from datasets_io.storage.documents import dump_yaml, read_yaml
from datasets_io.storage.replacing import end_replacement, partial_of, replace_folder
from off2on.runs import checkpoints
from off2on.runs.bucket_mirror import copy, fetch
from off2on.runs.folder import Run, write
from off2on.search.checks import count_evaluations
from off2on.search.scoring import score
from off2on.search.searcher import SCORE
from off2on.search.spec import TRIALS, Search
from off2on.search.trial_store import COUNTED, TrialStore, find
from off2on.training.metadata import run_metadata
from off2on.training.plan import Plan
from off2on.training.process import redirect_output
from off2on.training.train import evaluations

LOG, DONOR = "log.txt", "donor.yaml"
NOT_MADE = "not_made"
"""Key in run.yaml: counts that a copied run had, less those of the run that it replaced."""
MADE = ("updates", "env_steps", "episodes")
MARK = "mark"
"""Key of the number of evaluations so far that have a score."""

RUNS = "runs"
"""Key of the number of finished runs."""


@dataclass(frozen=True)
class Donor:
    """The trial of a checkpoint, and the names of the newest checkpoints of its runs, "" without one."""

    name: str
    last: list[checkpoints.Name | Literal[""]]


class TrialTrainable(tune.Trainable):
    """A trial of a search; a step ends with a score of all seeds, or with the end of one of them."""

    def setup(self, config: dict[str, Any], search: Search, home: str) -> None:
        """Identify the trial; its runs begin with the first step.

        Args:
            config: What was drawn, and the name of the trial.
            search: The search.
            home: Working directory of the command; messages show paths relative to it.
        """
        if os.path.isdir(home):  # not on every machine, if what a trial needs is in buckets
            os.chdir(home)
        self.search = search
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Reuse the process for another trial."""
        self.cleanup()
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        # The members of a population copy each other's config, so that it has no name.
        self.name = config.get("name") or find(self.search.place, self.trial_id).name
        self.log = self.search.folder / TRIALS / self.name / LOG
        self.values = self.search.as_text(config["drawn"])
        self.plans = self.search.plans(self.values, self.name)
        _, self.unscored = count_evaluations(self.search)
        self.runs: list[Run] = []
        self.going: list[Iterator[Run] | None] = []
        """The rest of each run; None at its end."""
        self.scoring = 0.0
        """Seconds spent on the score: an offline estimate takes as long as a run."""
        self.stack = ExitStack()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.stack.enter_context(redirect_output(self.log))

    def step(self) -> dict[str, Any]:
        """Advance the runs and return the result so far."""
        result = self._step()
        if isinstance(self.search.place, Location):
            copy(self.log, self.search.place / TRIALS / self.name / LOG)
        return result

    def _step(self) -> dict[str, Any]:
        try:
            done = self._all_further() if self.search.synchronised else self._next_run()
            if not done and not self.search.synchronised:
                return {SCORE: math.nan, MARK: 0, RUNS: len(self.runs), **self._spent()}
            began = time.monotonic()
            found = score(self.search.maximise, self._tasks)
            self.scoring += time.monotonic() - began
        except Exception as error:  # of a setting, not of the search: others go on
            traceback.print_exc(file=sys.stderr)
            why = f"{type(error).__name__}: {error}".partition("\n")[0]  # the log has the rest
            return {SCORE: math.nan, MARK: 0, "done": True, "failed": why, **self._spent()}
        low, high = found.interval or ("", "")
        result = {SCORE: found.value, "low": low, "high": high, MARK: self._mark - self.unscored}
        return {**result, "done": done, "finished": done, **self._spent()}

    def _all_further(self) -> bool:
        """Advance all runs to their next evaluation with a score; return True if it is the last."""
        for plan in self.plans[len(self.runs) :]:
            self._take_up(plan)
        self._next_mark()
        while any(self.going) and not self._is_scored:
            self._next_mark()
        return not any(self.going)

    def _next_run(self) -> bool:
        """Finish the next run; return True if it is the last."""
        self._take_up(self.plans[len(self.runs)])
        for _ in self.going[-1] or ():
            pass
        return len(self.runs) == len(self.plans)

    def _take_up(self, plan: Plan) -> None:
        """Start or resume a run; a finished run is left unchanged."""
        if isinstance(plan.place, Location):
            fetch(plan.place)  # perhaps begun on another machine
        else:
            end_replacement(plan.folder)
        if plan.is_finished:
            self.runs.append(Run.resume(plan.folder))
            self.going.append(None)
        else:
            going = evaluations(plan, resume=plan.has_begun)
            self.runs.append(next(going))
            self.going.append(going)

    def _next_mark(self) -> None:
        """Advance the runs that are behind by one evaluation; end those that have made their last."""
        mark = self._mark + 1
        for index, (plan, run) in enumerate(zip(self.plans, self.runs, strict=True)):
            going = self.going[index]
            if going is None:
                continue
            if (len(run.metrics) < mark and next(going, None) is None) or _is_at_end(plan, run):
                for _ in going:
                    pass
                self.going[index] = None

    @property
    def _mark(self) -> int:
        """Number of evaluations that all runs have, except those that ended with fewer."""
        made = [len(run.metrics) for run in self.runs]
        going = [count for count, rest in zip(made, self.going, strict=True) if rest is not None]
        return min(going, default=max(made))

    @property
    def _is_scored(self) -> bool:
        """True if no run is ahead of the others and their evaluation has a score."""
        return self._mark > self.unscored and all(len(run.metrics) <= self._mark for run in self.runs)

    @property
    def _tasks(self) -> list[list[Path]]:
        """Folders of the seeds, for each data set."""
        seeds = self.search.seeds
        folders = [run.folder for run in self.runs]
        return [folders[start : start + seeds] for start in range(0, len(folders), seeds)]

    def _spent(self) -> dict[str, Any]:
        """Return the total cost of all seeds."""
        made = [_made(run) for run in self.runs]
        updates, env_steps, episodes = (sum(each[name] for each in made) for name in MADE)
        walls = [float(run.metrics[-1]["wall_s"]) for run in self.runs if run.metrics]
        # Those that go forward together are on the clock together.
        seconds = max(walls, default=0.0) if self.search.synchronised else sum(walls)
        found = (len(self.plans), updates, env_steps, episodes, round(seconds + self.scoring, 1))
        return dict(zip(COUNTED, found, strict=True))

    def cleanup(self) -> None:
        """Interrupt the unfinished runs; their checkpoints stay."""
        for going in self.going:
            if isinstance(going, Generator):
                going.close()
        self.stack.close()

    # For a population: a trial with a low score continues from a checkpoint of one with a high score.

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save the checkpoints of the runs."""
        last = []
        for index, run in enumerate(self.runs):
            kept = run.last_checkpoint
            last.append(kept.name if kept else "")
            # Tune copies the folder elsewhere, without links.
            ignored = shutil.ignore_patterns("last", "events.*")
            shutil.copytree(run.folder, Path(checkpoint_dir) / str(index), ignore=ignored)
        write(Path(checkpoint_dir) / DONOR, dump_yaml({"name": self.name, "last": last}))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Continue from the runs of another trial with the values of this one."""
        donor = read_yaml(Path(checkpoint_dir) / DONOR, Donor)
        if donor.name == self.name:
            return
        store = TrialStore(self.search.place, self.search.names)
        trial = store[self.trial_id]
        trial.values, trial.drawn = self.values, dict(self.config["drawn"])
        for going in self.going:
            if isinstance(going, Generator):
                going.close()
        self.runs, self.going = [], []
        for index, plan in enumerate(self.plans):
            _take_over(plan, Path(checkpoint_dir) / str(index), donor.name, donor.last[index])
        store.keep(trial)


def _made(run: Run) -> dict[str, int]:
    """Return the cost of a run, without that of the run from which it was copied."""
    last = run.metrics[-1] if run.metrics else {}
    found = {name: int(last.get(name, 0)) for name in MADE[:2]} | {MADE[2]: len(run.episodes)}
    return {name: count - run.metadata.get(NOT_MADE, {}).get(name, 0) for name, count in found.items()}


def _take_over(plan: Plan, donor: Path, name: str, last: str) -> None:
    """Replace a run by a copy of another, with its own hyperparameters from here on."""
    end_replacement(plan.folder)
    partial = partial_of(plan.folder)
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(donor, partial)
    if last:
        (partial / checkpoints.CHECKPOINTS / checkpoints.LAST).symlink_to(last, target_is_directory=True)
    run = Run.resume(partial)
    elsewhere = replace(plan, out=str(Path(plan.out) / "elsewhere"))
    taken = [*run.metadata.get("taken_over", []), {"from": f"trial {name}", "evaluations": len(run.metrics)}]
    own = Run.resume(plan.folder) if plan.has_begun else None
    run.metadata[NOT_MADE] = {}
    mine = _made(own) if own else dict.fromkeys(MADE, 0)
    facts = {
        "status": "interrupted",
        "taken_over": taken,
        NOT_MADE: {name: count - mine[name] for name, count in _made(run).items()},
        "tracked": own.metadata.get("tracked", {})
        if own
        else {},  # trackers go on with the run of this place
    }
    run.describe(run_metadata(plan, elsewhere.check()) | facts)
    replace_folder(plan.folder)


def _is_at_end(plan: Plan, run: Run) -> bool:
    """Return True if a run has made its last evaluation; rollouts may have passed several points at once."""
    offline, online = plan.evaluations()
    last = run.metrics[-1] if run.metrics else {"updates": 0, "env_steps": 0}
    position, points = ("env_steps", online) if online else ("updates", offline)
    return int(last[position]) >= points[-1]
