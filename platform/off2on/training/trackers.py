"""Log a run to experiment trackers: TensorBoard always, W&B and MLflow with ``--track``.

A tracker gets the resolved plan once, a row at each evaluation, and the final status. Its own environment
variables configure it (WANDB_MODE, WANDB_PROJECT, MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME …).
The run continues if a tracker fails.
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
"""Seconds until the next attempt to log to a tracker that failed."""

DEFAULT_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # data for MLflow's developers
    "MLFLOW_ALLOW_FILE_STORE": "true",  # otherwise it refuses a folder
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a later attempt follows, and retries would delay the run
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "WANDB_ERROR_REPORTING": "false",  # data for W&B's developers
}


class Tracker(Protocol):
    """An experiment tracker.

    Args:
        folder: Folder of the run.
        parameters: Options and hyperparameters of the run, by name.
        known_id: The tracker's id of the run, if the run is resumed.
    """

    id: str
    """The tracker's id of the run."""

    def __init__(self, folder: Path, parameters: Mapping[str, Any], known_id: str | None) -> None: ...

    def log(self, row: Row) -> None:
        """Log the row of an evaluation."""

    def end(self, status: str) -> None:
        """Record the final status: finished, interrupted or failed."""


class TensorBoard:
    """Event files in the run's folder."""

    id = ""

    def __init__(self, folder: Path, parameters: Mapping[str, Any], known_id: str | None) -> None:
        from tensorboardX import SummaryWriter

        self.events = SummaryWriter(str(folder))

    def log(self, row: Row) -> None:
        """Log every number, by the number of updates."""
        for name, value in row.items():
            if isinstance(value, float):
                self.events.add_scalar(name, value, row["updates"])
        self.events.flush()

    def end(self, status: str) -> None:
        """Close the file."""
        self.events.close()


class WandB:
    """Weights & Biases; with WANDB_MODE=offline a folder for ``wandb sync``."""

    def __init__(self, folder: Path, parameters: Mapping[str, Any], known_id: str | None) -> None:
        import wandb

        self.id = known_id or uuid.uuid4().hex[:16]
        settings = wandb.Settings(
            console="off",
            silent=True,
            # Log only the rows: not the command line, the machine or the user.
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
            config=dict(parameters),
            resume="allow",
            reinit="create_new",  # one process may train several runs
            settings=settings,
        )
        self.run.define_metric("*", step_metric="updates")  # not a unique step: two rows at the handover

    def log(self, row: Row) -> None:
        """Log every number."""
        self.run.log(_numbers(row))

    def end(self, status: str) -> None:
        """Send the rest, for a minute at most."""
        self.run.finish(exit_code=0 if status == "finished" else 1)


class MLflow:
    """A run of the experiment ``off2on``, at $MLFLOW_TRACKING_URI."""

    def __init__(self, folder: Path, parameters: Mapping[str, Any], known_id: str | None) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient()
        if known_id is not None:
            self.id = known_id
            self.client.update_run(known_id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        existing = self.client.get_experiment_by_name(name)
        experiment = self.client.create_experiment(name) if existing is None else existing.experiment_id
        self.id = str(self.client.create_run(experiment, run_name=_name(folder)).info.run_id)
        params = [Param(key, str(value)) for key, value in parameters.items()]
        for first in range(0, len(params), 100):  # MLflow's limit
            self.client.log_batch(self.id, params=params[first : first + 100])

    def log(self, row: Row) -> None:
        """Log every number, by the number of updates."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        numbers = _numbers(row).items()
        self.client.log_batch(self.id, [Metric(name, value, now, row["updates"]) for name, value in numbers])

    def end(self, status: str) -> None:
        """Record the final status."""
        mapped = {"finished": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED")
        self.client.set_terminated(self.id, mapped)


TRACKERS: Mapping[str, tuple[type[Tracker], str]] = {"wandb": (WandB, "wandb"), "mlflow": (MLflow, "mlflow")}
"""Names for ``--track``: tracker and the module that it needs."""


def check_trackers(names: Sequence[str]) -> None:
    """Check that the trackers can be used, before anything starts.

    Raises:
        UserError: One is unknown, not installed, or has no login.
    """
    for name, value in DEFAULT_ENVIRONMENT.items():
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
    if "wandb" in names and not _has_wandb_login():
        raise UserError(
            "there is no login for Weights & Biases.",
            "Looked for WANDB_API_KEY and in ~/.netrc. Runs can be logged offline and sent later.",
            "wandb login · or WANDB_MODE=offline off2on train …",
        )


def _has_wandb_login() -> bool:
    """Return True if W&B needs no prompt for a key; sends nothing."""
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
    """The trackers of a run.

    Args:
        names: Names of the trackers besides TensorBoard.
        folder: Folder of the run.
        metadata: Contents of its run.yaml.
        note: Function that shows a line.
    """

    def __init__(
        self, names: Sequence[str], folder: Path, metadata: Mapping[str, Any], note: Callable[[str], None]
    ) -> None:
        kinds: dict[str, type[Tracker]] = {"TensorBoard": TensorBoard}
        kinds |= {name: TRACKERS[name][0] for name in names}
        known_ids, parameters = metadata.get("tracked", {}), redact(_parameters(metadata))
        self.note = note
        self.active: dict[str, Tracker] = {}
        self.pending: dict[str, list[Row]] = {}
        """Rows that are not logged yet, by tracker."""
        self.retry_at: dict[str, float] = {}
        for name, kind in kinds.items():
            try:
                self.active[name] = kind(folder, parameters, known_ids.get(name))
                self.pending[name] = []
            except Exception as error:
                self._warn(name, error, "this run is not logged to it")

    @property
    def ids(self) -> dict[str, str]:
        """The trackers' ids of the run, for resuming."""
        return {name: tracker.id for name, tracker in self.active.items() if tracker.id}

    def log(self, row: Row) -> None:
        """Log the row of an evaluation to all trackers."""
        for name in self.active:
            self.pending[name].append(dict(row))
            if time.monotonic() >= self.retry_at.get(name, 0.0):
                self._log(name)

    def end(self, status: str) -> None:
        """Record the final status in all trackers."""
        for name, tracker in self.active.items():
            self._log(name)
            try:
                tracker.end(status)
            except Exception as error:
                self._warn(name, error, "it may lack the final status")

    def _log(self, name: str) -> None:
        try:
            while rows := self.pending[name]:
                self.active[name].log(rows[0])
                del rows[0]
        except Exception as error:
            if name not in self.retry_at:
                self._warn(name, error, "another attempt follows later")
            self.retry_at[name] = time.monotonic() + PAUSE_S

    def _warn(self, name: str, error: Exception, consequence: str) -> None:
        why = " ".join(redact(str(error)).split())[:160]
        self.note(f"warning: {name} failed, {consequence}; the run continues ({type(error).__name__}: {why})")


@contextmanager
def tracking(
    names: Sequence[str], folder: Path, metadata: Mapping[str, Any], note: Callable[[str], None]
) -> Iterator[Trackers]:
    """Yield the trackers of a run; at the end, record the status that `metadata` has then."""
    trackers = Trackers(names, folder, metadata, note)
    try:
        yield trackers
    finally:
        trackers.end(metadata["status"])


def _parameters(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a run by name."""
    groups = [
        metadata["plan"],
        metadata["hyperparameters"],
        metadata["online_side"] if metadata["online"] else {},
    ]
    parameters = {name: known["value"] for group in groups for name, known in group.items()}
    return parameters | {
        "command": metadata["command"],
        "commit": metadata["commit"],
        "content_hash": metadata["data"]["content_hash"],
        "env": metadata["env"],
    }


def _name(folder: Path) -> str:
    """Return the name of a run: its path from the working directory, without a leading ``runs/``."""
    path, base = folder.absolute(), Path.cwd()
    name = path.relative_to(base) if path.is_relative_to(base) else Path(path.parent.name, path.name)
    return name.as_posix().removeprefix("runs/")


def _numbers(row: Row) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
