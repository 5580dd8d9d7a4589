"""What was served and what came of it, until an episode is whole: then it becomes shards.

Every line is on the disk before the answer goes out. Whole episodes are put into a batch, a file of its own;
the batch becomes a generation of the data set; then the journal is written anew without them. Killed at any
moment, what is there says how to go on: a batch that is in the data set already is refused by its hash.
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
from off2on.serving.requests import BadRequest, Outcome

Step = dict[str, Any]

EXTRAS: dict[str, tuple[Callable[[Step], Any], Any]] = {
    "action_logp": (lambda step: step["log_prob"], np.float32),
    "policy_version": (lambda step: int(step["version"], 16), np.int64),
    "served_at": (lambda step: step["at"], np.int64),
}
"""Columns that served episodes have besides the common ones: how likely the action was, the version of the
policy as a number (of /version the hexadecimal one), and when it was asked, in milliseconds since 1970."""


class Refused(UserError):
    """Episodes that cannot go into the data set; they are kept in a file of their own."""


class ServedEpisodes(Source):
    """Episodes that a served policy played.

    Args:
        env: Their environment, if it is known.
        observation_space: Of the run that is served.
        action_space: Likewise.
        extras: Those of `EXTRAS` that they are to have.
    """

    def __init__(
        self, env: str | None, observation_space: Any, action_space: Any, extras: Sequence[str] = ()
    ) -> None:
        self.env, self.observation_space, self.action_space = env, observation_space, action_space
        self.extras = tuple(extras)

    def episodes(self, part: Any) -> Iterator[Episode]:
        """One a line of the batch."""
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
    """Remembers, and writes whole episodes into a data set.

    Args:
        folder: Its own.
        name: Of the data set.
        source: How its episodes are read.
    """

    def __init__(self, folder: Path, name: str, source: ServedEpisodes) -> None:
        self.folder, self.name, self.source = folder, name, source
        folder.mkdir(parents=True, exist_ok=True)
        self.lines, self.batch = folder / "journal.jsonl", folder / "batch.jsonl"
        self.steps: dict[str, Step] = {}
        """By id, in the order in which they were served; those of one episode in its order."""
        self._read()
        # Anew: what is written after half a line, which a killed process left, would be lost with it.
        self._file = self._written_anew()
        if self.batch.is_file():
            with suppress(Exists, Refused):  # another process is adding: with the next flush; or set aside
                self._into_shards()

    def _read(self) -> None:
        text = self.lines.read_text(encoding="utf-8") if self.lines.is_file() else ""
        for line in text.splitlines():
            try:
                said = json.loads(line)
            except ValueError:  # the last line of a process that was killed
                continue
            self.steps.setdefault(said["id"], {}).update(said)

    def _written_anew(self) -> TextIO:
        write(self.lines, "".join(json.dumps(step) + "\n" for step in self.steps.values()))
        return self.lines.open("a", encoding="utf-8")

    def _say(self, said: Step) -> None:
        self._file.write(json.dumps(said) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.steps.setdefault(said["id"], {}).update(said)

    def served(self, said: Step) -> str:
        """An action was given: ``episode``, ``obs``, ``action``, ``log_prob``, ``version``; its id."""
        name = uuid.uuid4().hex
        self._say({"id": name, "at": time.time_ns() // 1_000_000, **said})
        return name

    def came(self, outcomes: list[Outcome]) -> int:
        """What came of some actions; how many episodes are whole now.

        Raises:
            BadRequest: An id is not known, or not any more.
        """
        for outcome in outcomes:
            if outcome.id not in self.steps:
                raise BadRequest(
                    f"no action has the id '{outcome.id}'.",
                    "One that /act gave, and is not in shards yet.",
                    404,
                )
            if self._other_outcome(outcome):
                raise BadRequest(
                    f"another outcome of '{outcome.id}' is known.",
                    "One for each id; the same again does no harm.",
                    409,
                )
        for outcome in outcomes:
            self._say(outcome._asdict())
        return len(self.whole())

    def _other_outcome(self, outcome: Outcome) -> bool:
        known = self.steps[outcome.id]
        return "reward" in known and any(known[name] != value for name, value in outcome._asdict().items())

    def whole(self) -> list[list[Step]]:
        """The episodes whose every action has an outcome, and the last one an end.

        What is served under the name of an episode that has ended begins another one.
        """
        found: list[list[Step]] = []
        going: dict[str, list[Step]] = {}
        for step in self.steps.values():
            going.setdefault(step["episode"], []).append(step)
            if step.get("terminated") or step.get("truncated"):
                found.append(going.pop(step["episode"]))
        return [steps for steps in found if all("reward" in step for step in steps)]

    def flush(self) -> int:
        """Put whole episodes into the data set, as a generation; how many.

        Raises:
            Exists: Another process is adding to the data set; nothing is lost, the next flush tries again.
            Refused: They cannot go into it, and lie in a file of their own now.
        """
        whole = self.whole()
        if whole:
            write(self.batch, "".join(json.dumps(steps) + "\n" for steps in whole))
            self._into_shards()
        return len(whole)

    def _into_shards(self) -> None:
        """Make the batch a generation, then forget its steps."""
        try:
            self._add()
        except (Exists, NoSpace, Unreachable):  # may go better another time
            raise
        except UserError as fault:
            kept = self.folder / f"refused-{time.time_ns()}.jsonl"
            kept.hardlink_to(self.batch)
            self._forget_batch()
            raise Refused(f"{fault.what} The episodes are kept in {kept}.", fault.expected) from fault
        self._forget_batch()

    def _add(self) -> None:
        try:
            there = open_shards(self.name)
        except UnknownName:
            ingest(self.source, self.batch, data_root(), name=self.name)
            return
        added = [part.source["sha256"] for part in there.manifest.generations]
        if self.source.fingerprint(self.batch) not in added:  # it is, if we were killed just after
            append(self.source, self.batch, there)

    def _forget_batch(self) -> None:
        done = [json.loads(line) for line in self.batch.read_text(encoding="utf-8").splitlines()]
        for steps in done:
            for step in steps:
                self.steps.pop(step["id"], None)
        self._file.close()
        self._file = self._written_anew()
        self.batch.unlink()

    def close(self) -> None:
        """Flush what is whole."""
        with suppress(Exists, Refused):  # the journal keeps it until serving starts again
            self.flush()
        self._file.close()
