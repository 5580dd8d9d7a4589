"""Who is told of a run besides its own files: TensorBoard always, W&B and MLflow where ``--track`` says so.

A tracker is told the resolved plan once, a row at each evaluation, and how the run ended. Where it keeps
that is said in its own words (WANDB_MODE, WANDB_PROJECT, MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME …).
Whatever becomes of it, the run goes on.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from datasets_io.storage.redaction import redact
from off2on.errors import UnknownName, UserError

Row = Mapping[str, Any]
PROJECT = "off2on"
PAUSE_S = 300
"""Seconds for which a tracker that failed is left alone."""

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # to MLflow's makers, of whom nobody spoke
    "MLFLOW_ALLOW_FILE_STORE": "true",  # else it refuses a folder, for which somebody has asked
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # it is asked again later, and minutes of patience are minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "WANDB_ERROR_REPORTING": "false",  # to W&B's makers
}


class Tracker(Protocol):
    """One that is told.

    Args:
        folder: The run's.
        facts: What the run is: options, hyperparameters and their values.
        known: By what name it knew the run before, if the run goes on.
    """

    id: str
    """By what name it knows the run."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], known: str | None) -> None: ...

    def tell(self, row: Row) -> None:
        """An evaluation."""

    def end(self, status: str) -> None:
        """The run is finished, interrupted or failed."""


class TensorBoard:
    """Event files in the run's folder."""

    id = ""

    def __init__(self, folder: Path, facts: Mapping[str, Any], known: str | None) -> None:
        from tensorboardX import SummaryWriter

        self.events = SummaryWriter(str(folder))

    def tell(self, row: Row) -> None:
        """Every number by the updates so far."""
        for name, value in row.items():
            if isinstance(value, float):
                self.events.add_scalar(name, value, row["updates"])
        self.events.flush()

    def end(self, status: str) -> None:
        """Close the file."""
        self.events.close()


class WandB:
    """Weights & Biases; with WANDB_MODE=offline a folder, to be sent by ``wandb sync``."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], known: str | None) -> None:
        import wandb

        self.id = known or uuid.uuid4().hex[:16]
        settings = wandb.Settings(
            console="off",
            silent=True,
            # Only what it is told: not the command line, the machine, or who is logged in.
            disable_git=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            x_save_requirements=False,
            finish_timeout=60,
            login_timeout=1,
        )
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=self.id,
            name=_name(folder),
            config=dict(facts),
            resume="allow",
            reinit="create_new",  # several runs of one process go forward together
            settings=settings,
        )
        self.run.define_metric("*", step_metric="updates")  # the handover's row has those of the one before

    def tell(self, row: Row) -> None:
        """Every number."""
        self.run.log(_numbers(row))

    def end(self, status: str) -> None:
        """Send the rest, for a minute at most."""
        self.run.finish(exit_code=0 if status == "finished" else 1)


class MLflow:
    """A run of the experiment ``off2on``, at $MLFLOW_TRACKING_URI."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], known: str | None) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient()
        if known is not None:
            self.id = known
            self.client.update_run(known, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        there = self.client.get_experiment_by_name(name)
        experiment = self.client.create_experiment(name) if there is None else there.experiment_id
        self.id = str(self.client.create_run(experiment, run_name=_name(folder)).info.run_id)
        said = [Param(key, str(value)) for key, value in facts.items()]
        for first in range(0, len(said), 100):  # what it takes at once
            self.client.log_batch(self.id, params=said[first : first + 100])

    def tell(self, row: Row) -> None:
        """Every number by the updates so far."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        numbers = _numbers(row).items()
        self.client.log_batch(self.id, [Metric(name, value, now, row["updates"]) for name, value in numbers])

    def end(self, status: str) -> None:
        """Say how it ended."""
        told = {"finished": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED")
        self.client.set_terminated(self.id, told)


TRACKERS: Mapping[str, tuple[type[Tracker], str]] = {"wandb": (WandB, "wandb"), "mlflow": (MLflow, "mlflow")}
"""Those that can be named, with the module they need."""


def check_trackers(names: Sequence[str]) -> None:
    """That they are there, before anything starts.

    Raises:
        UserError: One is unknown, not installed, or nobody is logged in to it.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in names:
        if name not in TRACKERS:
            raise UnknownName(
                f"no tracker is called {name!r}.",
                f"There are {', '.join(TRACKERS)}; TensorBoard is always written.",
                given=name,
                known=TRACKERS,
            )
        if find_spec(TRACKERS[name][1]) is None:
            raise UserError(f"{name} is not installed.", "", "pip install 'off2on[track]'")
    if "wandb" in names and not _is_known_to_wandb():
        raise UserError(
            "nobody is logged in to Weights & Biases.",
            "Looked for WANDB_API_KEY and in ~/.netrc. Without, it can be told offline, and sent later.",
            "wandb login · or WANDB_MODE=offline off2on train …",
        )


def _is_known_to_wandb() -> bool:
    """Whether it would not ask for a key; nothing is sent."""
    import wandb
    from wandb.sdk.lib.wbauth import authenticate_session

    settings = wandb.Settings()
    settings.update_from_system_settings()
    settings.update_from_env_vars(dict(os.environ))
    if settings.mode in ("offline", "dryrun", "disabled"):
        return True
    found = authenticate_session(host=settings.base_url, source=PROJECT, prompt=False, update_session=False)
    return found is not None


class Trackers:
    """All that are told of a run.

    Args:
        names: Those besides TensorBoard.
        folder: The run's.
        about: What its run.yaml says.
        note: Shows a line.
    """

    def __init__(
        self, names: Sequence[str], folder: Path, about: Mapping[str, Any], note: Callable[[str], None]
    ) -> None:
        kinds: dict[str, type[Tracker]] = {"TensorBoard": TensorBoard}
        kinds |= {name: TRACKERS[name][0] for name in names}
        known, facts = about.get("tracked", {}), redact(_facts(about))
        self.note = note
        self.told: dict[str, Tracker] = {}
        self.ahead: dict[str, list[Row]] = {}
        """Rows that each has not been told yet."""
        self.rests: dict[str, float] = {}
        for name, kind in kinds.items():
            try:
                self.told[name] = kind(folder, facts, known.get(name))
                self.ahead[name] = []
            except Exception as error:
                self._warn(name, error, "it is not told of this run")

    @property
    def ids(self) -> dict[str, str]:
        """By what name each knows the run, for when it goes on."""
        return {name: tracker.id for name, tracker in self.told.items() if tracker.id}

    def tell(self, row: Row) -> None:
        """An evaluation, to all of them."""
        for name in self.told:
            self.ahead[name].append(dict(row))
            if time.monotonic() >= self.rests.get(name, 0.0):
                self._tell(name)

    def end(self, status: str) -> None:
        """How the run ended, to all of them."""
        for name, tracker in self.told.items():
            self._tell(name)
            try:
                tracker.end(status)
            except Exception as error:
                self._warn(name, error, "it may not know how the run ended")

    def _tell(self, name: str) -> None:
        try:
            while rows := self.ahead[name]:
                self.told[name].tell(rows[0])
                del rows[0]
        except Exception as error:
            if name not in self.rests:
                self._warn(name, error, "it is told again later")
            self.rests[name] = time.monotonic() + PAUSE_S

    def _warn(self, name: str, error: Exception, sequel: str) -> None:
        why = " ".join(redact(str(error)).split())[:160]
        self.note(f"warning: {name} failed, {sequel}; training goes on ({type(error).__name__}: {why})")


@contextmanager
def tracked(
    names: Sequence[str], folder: Path, about: Mapping[str, Any], note: Callable[[str], None]
) -> Iterator[Trackers]:
    """Trackers while a run lasts; in the end they are told the status that `about` has then."""
    trackers = Trackers(names, folder, about, note)
    try:
        yield trackers
    finally:
        trackers.end(about["status"])


def _facts(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is, as names and values."""
    groups = [about["plan"], about["hyperparameters"], about["online_side"] if about["online"] else {}]
    facts = {name: known["value"] for group in groups for name, known in group.items()}
    return facts | {
        "command": about["command"],
        "commit": about["commit"],
        "content_hash": about["data"]["content_hash"],
        "env": about["env"],
    }


def _name(folder: Path) -> str:
    """A run as its user says it: from where the command was given, below ./runs without saying so."""
    path, here = folder.absolute(), Path.cwd()
    told = path.relative_to(here) if path.is_relative_to(here) else Path(path.parent.name, path.name)
    return told.as_posix().removeprefix("runs/")


def _numbers(row: Row) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
