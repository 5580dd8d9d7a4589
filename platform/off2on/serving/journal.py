"""The journal of served actions and their outcomes; complete episodes become shards.

Every line is on disk before the answer is sent. Complete episodes are written into a batch file; the batch
becomes a generation of the data set; then the journal is rewritten without them. After a kill at any moment
the files show how to continue: a batch that the data set already has is recognised by its hash. Several
threads may call a journal at the same time, and steps are recorded while a generation is being written.
"""

import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from datasets_io.errors import Exists, NoSpace, UnknownName, Unreachable, UserError
from datasets_io.ingestion.appending import append
from datasets_io.ingestion.ingest import ingest
from datasets_io.shards.reading import data_root, open_shards
from datasets_io.storage.locks import exclusive_lock
from off2on.runs.folder import write
from off2on.serving.line_file import LineFile, json_line
from off2on.serving.requests import BadRequestError, Outcome
from off2on.serving.served_episodes import (
    RecordedOutcome,
    ServedEpisodes,
    ServedStep,
    read_batch,
    read_journal,
)

LINES = "journal.jsonl"
"""Name of the file with the steps."""
BATCH = "batch.jsonl"
"""Name of the file with the episodes that are being added to the data set."""
NOT_NOW = (Exists, NoSpace, Unreachable)
"""Errors after which the same attempt may succeed later."""
LOCK_PATIENCE_S = 60.0
"""Seconds to wait for the process of a killed service, which may live for a moment."""


class RefusedEpisodesError(UserError):
    """Episodes do not fit the data set; they are kept in a separate file."""


class Journal:
    """Records served steps and writes complete episodes into a data set.

    Args:
        folder: Folder of the journal.
        name: Name of the data set.
        source: Reads the episodes of a batch file.

    Lines of the journal that cannot be read, as a kill leaves them, are moved to a file ``damaged-….jsonl``.

    Raises:
        Exists: Another process uses the folder.
        UserError: A line of the journal is not a step.
    """

    def __init__(self, folder: Path, name: str, source: ServedEpisodes) -> None:
        self.folder, self.name, self.source = folder, name, source
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_held = ExitStack()
        self._lock_held.enter_context(_wait_for_lock(folder / "lock"))
        self.lines, self.batch = folder / LINES, folder / BATCH
        self.session = uuid.uuid4().hex
        self.steps: dict[str, ServedStep] = {}
        """Steps by id, in the order in which they were served."""
        read, damaged = read_journal(self.lines)
        self._merge(read)
        if damaged:
            write(folder / f"damaged-{time.time_ns()}.jsonl", b"\n".join([*damaged, b""]))
        self._file = LineFile(self.lines, map(json_line, self.steps.values()))
        self._count: int | None = None
        """Number of complete episodes, if no step has changed it since."""
        self._late: set[str] = set()
        """Steps without an outcome of episodes that have ended."""
        self._flushing = threading.Lock()
        if self.batch.is_file():
            with suppress(*NOT_NOW, RefusedEpisodesError):  # the next flush tries again, or they are kept
                self._commit_batch()

    def _merge(self, read: Iterable[ServedStep | RecordedOutcome]) -> None:
        for part in read:
            if "obs" in part:
                self.steps[part["id"]] = part  # type: ignore[assignment]
            elif part["id"] in self.steps:  # else its own line is damaged
                self.steps[part["id"]].update(part)  # type: ignore[typeddict-item]

    def add_step(self, given: dict[str, Any]) -> str:
        """Record a served action and return its id.

        Args:
            given: ``episode``, ``obs``, ``action``, ``log_prob`` and ``version``.

        Raises:
            NoSpace, Unreachable: The disk is full, or fails; nothing is recorded.
        """
        name = uuid.uuid4().hex
        step: Any = {"id": name, "at": time.time_ns() // 1_000_000, "session": self.session, **given}
        with self._file.lock:
            number = self._append([json_line(step)])
            self.steps[name] = step
        try:
            self._file.sync(number)
        except UserError:  # the client learns no id: nothing may wait for its outcome
            with self._file.lock:
                del self.steps[name]
                self._file.is_stale = True
            raise
        return name

    def _append(self, lines: list[str]) -> int:
        """Append lines, see `LineFile.append`; a step that was given up leaves the file first."""
        if self._file.is_stale:
            self._file.replace(map(json_line, self.steps.values()))
        return self._file.append(lines)

    def add_outcomes(self, outcomes: list[Outcome]) -> int:
        """Record the outcomes of actions, all or none, and return the number of complete episodes.

        Raises:
            BadRequestError: An id is unknown, or its outcome is already known and differs.
            NoSpace, Unreachable: The disk is full, or fails; the same outcomes may be sent again.
        """
        with self._file.lock:
            first: dict[str, Outcome] = {}
            for outcome in outcomes:
                self._check(outcome, first.setdefault(outcome.id, outcome))
            number = self._append([json_line(outcome._asdict()) for outcome in outcomes])
            for outcome in outcomes:
                self.steps[outcome.id].update(outcome._asdict())  # type: ignore[typeddict-item]
                if outcome.terminated or outcome.truncated or outcome.id in self._late:
                    self._count = None
        self._file.sync(number)
        return self.count_complete()

    def _check(self, outcome: Outcome, first: Outcome) -> None:
        """Check that the outcome is that of a step, and the same as its recorded one and its first one."""
        known = self.steps.get(outcome.id)
        if known is None:
            raise BadRequestError(
                f"no action has the id '{outcome.id}'.",
                "Expected an id from /act whose episode is not in the data set yet.",
                404,
            )
        recorded = first._asdict() | known
        if any(recorded[name] != value for name, value in outcome._asdict().items()):
            raise BadRequestError(
                f"there is a different outcome of '{outcome.id}'.",
                "Each id has one outcome; the same outcome may be sent again.",
                409,
            )

    def count_complete(self) -> int:
        """Return the number of `complete_episodes`."""
        with self._file.lock:
            if self._count is None:
                self._count = len(self.complete_episodes())
                self._late = {step["id"] for steps in self._ended() for step in steps if "reward" not in step}
            return self._count

    def complete_episodes(self) -> list[list[ServedStep]]:
        """Return the episodes that have ended and whose every action has an outcome.

        A step that is served under the name of an episode that has ended begins a new one. A step without an
        outcome is left out if the episode went on in a later process: its answer was lost with the earlier
        process, and the client has asked again.
        """
        with self._file.lock:
            known = [[step for step in steps if not _is_lost(step, steps[-1])] for steps in self._ended()]
            return [steps for steps in known if all("reward" in step for step in steps)]

    def _ended(self) -> list[list[ServedStep]]:
        found: list[list[ServedStep]] = []
        open_: dict[str, list[ServedStep]] = {}
        for step in self.steps.values():
            open_.setdefault(step["episode"], []).append(step)
            if step.get("terminated") or step.get("truncated"):
                found.append(open_.pop(step["episode"]))
        return found

    def flush(self) -> int:
        """Add the complete episodes to the data set, as a generation, and return their number.

        Returns 0 while another thread does so.

        Raises:
            Exists: Another process is adding to the data set; the next flush tries again.
            NoSpace, Unreachable: The data set cannot be written now.
            RefusedEpisodesError: They do not fit the data set and were moved to a separate file.
        """
        if not self._flushing.acquire(blocking=False):
            return 0
        try:
            if self.batch.is_file():  # of a flush that failed
                self._commit_batch()
            episodes = self.complete_episodes()
            if episodes:
                write(self.batch, "".join(f"{json_line(steps)}\n" for steps in episodes))
                self._commit_batch()
            return len(episodes)
        finally:
            self._flushing.release()

    def _commit_batch(self) -> None:
        """Add the batch as a generation, then remove its steps from the journal."""
        done: set[str] = set()
        try:
            done |= {step["id"] for steps in read_batch(self.batch) for step in steps}
            self._add()
        except NOT_NOW:
            raise
        except UserError as fault:
            kept = self.folder / f"refused-{time.time_ns()}.jsonl"
            kept.hardlink_to(self.batch)
            self._forget_batch(done)
            raise RefusedEpisodesError(
                f"{fault.what} The episodes are kept in {kept}.", fault.hint
            ) from fault
        self._forget_batch(done)

    def _add(self) -> None:
        try:
            there = open_shards(self.name)
        except UnknownName:
            ingest(self.source, self.batch, data_root(), name=self.name)
            return
        added = [part.source["sha256"] for part in there.manifest.generations]
        if (
            self.source.fingerprint(self.batch) not in added
        ):  # it is there if the process was killed just after
            append(self.source, self.batch, there)

    def _forget_batch(self, done: set[str]) -> None:
        """Remove the steps of the batch from the journal, with those their episodes lost, then the batch."""
        with self._file.lock:
            done |= {step["id"] for steps in self._ended() if steps[-1]["id"] in done for step in steps}
            self.steps = {name: step for name, step in self.steps.items() if name not in done}
            self._count = None
            self._file.replace(map(json_line, self.steps.values()))
        self.batch.unlink()

    def close(self) -> None:
        """Flush the complete episodes and close the file."""
        with suppress(*NOT_NOW, RefusedEpisodesError):  # the journal keeps them until the next start
            self.flush()
        self._file.close()
        self._lock_held.close()


def _is_lost(step: ServedStep, last: ServedStep) -> bool:
    return "reward" not in step and step.get("session") != last.get("session")


@contextmanager
def _wait_for_lock(path: Path) -> Iterator[None]:
    deadline = time.monotonic() + LOCK_PATIENCE_S
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(exclusive_lock(path))
                break
            except Exists:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield
