"""What was served and what came of it, until an episode is whole: then it becomes shards.

Every line is on the disk before the answer goes out. Whole episodes are put into a batch, a file of its own;
the batch becomes a generation of the data set; then the journal is written anew without them. Killed at any
moment, what is there says how to go on: a batch that is in the data set already is refused by its hash.
"""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from datasets_io import Episode, Source
from datasets_io.appending import append
from datasets_io.errors import Exists, UnknownName
from datasets_io.ingest import ingest
from datasets_io.shards import data_root, open_shards
from off2on.runs import write
from off2on.serving.requests import BadRequest, Outcome

Step = dict[str, Any]


class ServedEpisodes(Source):
    """Episodes that a served policy played."""

    def __init__(self, env: str | None, observation_space: Any, action_space: Any) -> None:
        self.env, self.observation_space, self.action_space = env, observation_space, action_space

    def episodes(self, part: Any) -> Iterator[Episode]:
        """One a line of the batch."""
        for line in Path(part).read_text(encoding="utf-8").splitlines():
            steps = json.loads(line)
            last = steps[-1]
            probabilities = [np.nan if step["log_prob"] is None else step["log_prob"] for step in steps]
            extras = {"action_logp": np.array(probabilities, np.float32)}
            yield Episode(
                obs=np.array([*(step["obs"] for step in steps), last["next_obs"]], np.float32),
                actions=np.array([step["action"] for step in steps]),
                rewards=np.array([step["reward"] for step in steps], np.float32),
                terminated=last["terminated"],
                truncated=last["truncated"],
                extras={} if np.isnan(extras["action_logp"]).any() else extras,
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
            with suppress(Exists):  # another process is adding to the data set: with the next flush
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
        self._say({"id": name, **said})
        return name

    def came(self, outcomes: list[Outcome]) -> int:
        """What came of some actions; how many episodes are whole now.

        Raises:
            BadRequest: An id is not known, or not any more.
        """
        unknown = [outcome.id for outcome in outcomes if outcome.id not in self.steps]
        if unknown:
            raise BadRequest(f"no action has the id '{unknown[0]}'.", "An id that /act gave, once.", 404)
        for outcome in outcomes:
            self._say(outcome._asdict())
        return len(self.whole())

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
        """
        whole = self.whole()
        if whole:
            write(self.batch, "".join(json.dumps(steps) + "\n" for steps in whole))
            self._into_shards()
        return len(whole)

    def _into_shards(self) -> None:
        """Make the batch a generation, then forget its steps."""
        try:
            there = open_shards(self.name)
        except UnknownName:
            ingest(self.source, self.batch, data_root(), name=self.name)
        else:
            added = [part.source["sha256"] for part in there.manifest.generations]
            if self.source.fingerprint(self.batch) not in added:  # it is, if we were killed just after
                append(self.source, self.batch, there)
        done = [json.loads(line) for line in self.batch.read_text(encoding="utf-8").splitlines()]
        for steps in done:
            for step in steps:
                self.steps.pop(step["id"], None)
        self._file.close()
        self._file = self._written_anew()
        self.batch.unlink()

    def close(self) -> None:
        """Flush what is whole."""
        with suppress(Exists):  # the journal keeps it until serving starts again
            self.flush()
        self._file.close()
