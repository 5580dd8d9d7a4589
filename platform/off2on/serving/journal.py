"""The journal of served actions and their outcomes; complete episodes become shards.

Every line is on disk before the answer is sent. Complete episodes are written into a batch file; the batch
becomes a generation of the data set; then the journal is rewritten without them. After a kill at any moment
the files show how to continue: a batch that the data set already has is recognised by its hash.
"""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from datasets_io import Episode, Source
from datasets_io.errors import Exists, NoSpace, UnknownName, Unreachable, UserError
from datasets_io.ingestion.appending import append
from datasets_io.ingestion.ingest import ingest
from datasets_io.shards.reading import data_root, open_shards
from off2on.runs.folder import write
from off2on.serving.requests import BadRequestError, Outcome

Step = dict[str, Any]

EXTRAS: dict[str, tuple[Callable[[Step], Any], Any]] = {
    "action_logp": (lambda step: step["log_prob"], np.float32),
    "policy_version": (lambda step: int(step["version"], 16), np.int64),
    "served_at": (lambda step: step["at"], np.int64),
}
"""Additional columns of served episodes: how each is read from a step, and its dtype. They are the log
probability of the action, the version of the policy (the hexadecimal number of /version), and the time of the
request in milliseconds since 1970."""


class RefusedEpisodesError(UserError):
    """Episodes do not fit the data set; they are kept in a separate file."""


class ServedEpisodes(Source):
    """Source of the episodes that a served policy played.

    Args:
        env: Id of their environment, if it is known.
        observation_space: Observation space of the run.
        action_space: Action space of the run.
        extras: Names of the additional columns, see `EXTRAS`.
    """

    def __init__(
        self, env: str | None, observation_space: Any, action_space: Any, extras: Sequence[str] = ()
    ) -> None:
        self.env, self.observation_space, self.action_space = env, observation_space, action_space
        self.extras = tuple(extras)

    def episodes(self, part: Any) -> Iterator[Episode]:
        """Yield one episode per line of the batch file."""
        for line in Path(part).read_text(encoding="utf-8").splitlines():
            steps = json.loads(line)
            last = steps[-1]
            yield Episode(
                obs=np.array([*(step["obs"] for step in steps), last["next_obs"]], np.float32),
                actions=np.array([step["action"] for step in steps]),
                rewards=np.array([step["reward"] for step in steps], np.float32),
                terminated=last["terminated"],
                truncated=last["truncated"],
                extras={
                    name: np.array([read(step) for step in steps], kind)
                    for name, (read, kind) in EXTRAS.items()
                    if name in self.extras
                },
            )


class Journal:
    """Records served steps and writes complete episodes into a data set.

    Args:
        folder: Folder of the journal.
        name: Name of the data set.
        source: Reads the episodes of a batch file.
    """

    def __init__(self, folder: Path, name: str, source: ServedEpisodes) -> None:
        self.folder, self.name, self.source = folder, name, source
        folder.mkdir(parents=True, exist_ok=True)
        self.lines, self.batch = folder / "journal.jsonl", folder / "batch.jsonl"
        self.steps: dict[str, Step] = {}
        """Steps by id, in the order in which they were served."""
        self._read()
        # Rewritten, because a killed process may have left half a line, and the next line would continue it.
        self._file = self._rewrite()
        if self.batch.is_file():
            with suppress(
                Exists, RefusedEpisodesError
            ):  # written with the next flush, or kept in a separate file
                self._commit_batch()

    def _read(self) -> None:
        text = self.lines.read_text(encoding="utf-8") if self.lines.is_file() else ""
        for line in text.splitlines():
            try:
                given = json.loads(line)
            except ValueError:  # the last line of a process that was killed
                continue
            self.steps.setdefault(given["id"], {}).update(given)

    def _rewrite(self) -> TextIO:
        write(self.lines, "".join(json.dumps(step) + "\n" for step in self.steps.values()))
        return self.lines.open("a", encoding="utf-8")

    def _append(self, given: Step) -> None:
        self._file.write(json.dumps(given) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.steps.setdefault(given["id"], {}).update(given)

    def add_step(self, given: Step) -> str:
        """Record a served action and return its id.

        Args:
            given: ``episode``, ``obs``, ``action``, ``log_prob`` and ``version``.
        """
        name = uuid.uuid4().hex
        self._append({"id": name, "at": time.time_ns() // 1_000_000, **given})
        return name

    def add_outcomes(self, outcomes: list[Outcome]) -> int:
        """Record the outcomes of actions and return the number of complete episodes.

        Raises:
            BadRequestError: An id is unknown, or its outcome is already known and differs.
        """
        for outcome in outcomes:
            if outcome.id not in self.steps:
                raise BadRequestError(
                    f"no action has the id '{outcome.id}'.",
                    "Expected an id from /act whose episode is not in the data set yet.",
                    404,
                )
            if self._other_outcome(outcome):
                raise BadRequestError(
                    f"a different outcome of '{outcome.id}' was recorded.",
                    "Each id has one outcome; the same outcome may be sent again.",
                    409,
                )
        for outcome in outcomes:
            self._append(outcome._asdict())
        return len(self.complete_episodes())

    def _other_outcome(self, outcome: Outcome) -> bool:
        known = self.steps[outcome.id]
        return "reward" in known and any(known[name] != value for name, value in outcome._asdict().items())

    def complete_episodes(self) -> list[list[Step]]:
        """Return the episodes that have ended and whose every action has an outcome.

        A step that is served under the name of an episode that has ended begins a new one.
        """
        found: list[list[Step]] = []
        open_: dict[str, list[Step]] = {}
        for step in self.steps.values():
            open_.setdefault(step["episode"], []).append(step)
            if step.get("terminated") or step.get("truncated"):
                found.append(open_.pop(step["episode"]))
        return [steps for steps in found if all("reward" in step for step in steps)]

    def flush(self) -> int:
        """Add the complete episodes to the data set, as a generation, and return their number.

        Raises:
            Exists: Another process is adding to the data set; the next flush tries again.
            RefusedEpisodesError: They do not fit the data set and were moved to a separate file.
        """
        episodes = self.complete_episodes()
        if episodes:
            write(self.batch, "".join(json.dumps(steps) + "\n" for steps in episodes))
            self._commit_batch()
        return len(episodes)

    def _commit_batch(self) -> None:
        """Add the batch as a generation, then remove its steps from the journal."""
        try:
            self._add()
        except (Exists, NoSpace, Unreachable):  # the next flush may succeed
            raise
        except UserError as fault:
            kept = self.folder / f"refused-{time.time_ns()}.jsonl"
            kept.hardlink_to(self.batch)
            self._forget_batch()
            raise RefusedEpisodesError(
                f"{fault.what} The episodes are kept in {kept}.", fault.hint
            ) from fault
        self._forget_batch()

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

    def _forget_batch(self) -> None:
        done = [json.loads(line) for line in self.batch.read_text(encoding="utf-8").splitlines()]
        for steps in done:
            for step in steps:
                self.steps.pop(step["id"], None)
        self._file.close()
        self._file = self._rewrite()
        self.batch.unlink()

    def close(self) -> None:
        """Flush the complete episodes and close the file."""
        with suppress(Exists, RefusedEpisodesError):  # the journal keeps them until the next start
            self.flush()
        self._file.close()
