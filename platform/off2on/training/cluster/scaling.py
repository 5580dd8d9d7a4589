"""What a plan costs with more learners, runners and readers: a model of each stage, fitted to measurements.

    ingest      t = start + bytes of a file · ⌈files / readers⌉ / rate
    compute     t = c · operators + f · FLOP + e · elements written       a learner's share of the batch
    all-reduce  bytes = 2 (n-1)/n · 4 · parameters                        a ring of n learners
                t = calls · (n-1) · step + bytes / bandwidth              a call per objective that is due
    broadcast   t = a + b · runners                                       per visit to the learner
    collect     t = o + ⌈steps / runners⌉ · step of the simulator         per visit
    store       t = bytes · learners / rate                               of what was collected

The measurements are those of scaling.json, made on one small machine. What is beyond it is modelled: an
estimate says which it is, and between which bounds. Laws of GPUs and networks are assumed, not fitted.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from off2on.training.cluster.costs import ASSUMED, MEASURED, MODELLED, NOTHING, Estimate, Fit, Job, Work

FILE = Path(__file__).with_name("scaling.json")
STAGES = {"all_reduce", "broadcast", "collect", "compute", "ingest", "object_store", "read", "step"}
"""That must have been measured."""


@dataclass
class Model:
    """The measurements, and what follows from them.

    Attributes:
        machine: On which they were made: `cores`, `cpu`, `measured`, `versions`, `load`.
        rows: Measurements: `stage`, `workers`, `seconds`, and what else the stage has.
        assumed: Of GPUs and networks.
    """

    machine: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    assumed: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path = FILE) -> Self:
        """From a file as tests/bench/fold.py writes it.

        Raises:
            ValueError: A stage was not measured.
            KeyError: It is another file.
        """
        content = json.loads(path.read_text())
        missing = STAGES - {row["stage"] for row in content["rows"]}
        if missing:
            raise ValueError(f"of {', '.join(sorted(missing))} there is no measurement")
        return cls(content["machine"], content["rows"], content["assumed"])

    def of(self, stage: str, **like: Any) -> list[Mapping[str, Any]]:
        """The measurements of a stage, with such values."""
        wanted = {"stage": stage, **like}.items()
        return [row for row in self.rows if all(row.get(name) == value for name, value in wanted)]

    # The stages.

    @cached_property
    def _ingest(self) -> Fit:
        rows = self.of("ingest")
        terms = [[1.0, self._part(row["bytes"], row["files"], row["workers"])] for row in rows]
        return Fit.of(terms, _seconds(rows))

    def _part(self, size: float, files: int, workers: int) -> float:
        """Bytes that the busiest of so many readers has, on the measured machine's cores."""
        readers = min(workers, int(self.machine["cores"]))
        return size / files * math.ceil(files / readers)

    def ingest(self, job: Job) -> Estimate:
        """Seconds of an ingest, its readers being up."""
        return self._ingest.at(1.0, job.file_bytes * math.ceil(job.files / max(1, job.workers)))

    @cached_property
    def _compute(self) -> Fit:
        rows = [row for row in self.of("compute") if "flop" in row]
        return Fit.of([[row["operators"], row["flop"], row["elements"]] for row in rows], _seconds(rows))

    def compute(self, job: Job) -> Estimate:
        """Seconds of an update of a learner for itself."""
        work = job.work
        if job.gpu:
            terms = (self.assumed[name] for name in ("gpu_operator_s", "gpu_flop_s", "gpu_element_s"))
            value = sum(one * other for one, other in zip(terms, work, strict=True))
            return self._assume(value)
        for row in self.of("compute"):
            if Work(*(row.get(name, -1) for name in Work._fields)) == work:
                return _measured(row)
        return self._compute.at(*work)

    def all_reduce_bytes(self, job: Job) -> float:
        """Bytes that each learner sends in an update; it receives as many."""
        learners = max(1, job.learners)
        return sum(share * 2 * (learners - 1) / learners * 4 * count for count, share in job.gradients)

    @cached_property
    def _all_reduce(self) -> Fit:
        rows = [row for row in self.of("all_reduce", workers=2) if "calls" in row]
        return Fit.of([[row["calls"], row["bytes"]] for row in rows], _seconds(rows))

    def all_reduce(self, job: Job) -> Estimate:
        """Seconds of an update in which learners average gradients."""
        others, moved = job.learners - 1, self.all_reduce_bytes(job)
        if others < 1:
            return NOTHING
        calls = sum(share for _, share in job.gradients)
        if not job.gpu and job.network is None:
            for row in self.of("all_reduce", workers=job.learners, calls=calls, bytes=moved):
                return _measured(row)
        if job.gpu:
            seconds = calls * self.assumed["gpu_call_s"] + moved / self.assumed["gpu_bandwidth"]
        elif job.network is not None:
            seconds = 0.0
        else:
            # Gloo may take log n steps instead of n - 1.
            ring, tree = (
                self._all_reduce.at(calls * steps, moved) for steps in (others, math.log2(job.learners))
            )
            return Estimate(ring.value, tree.low, ring.high)
        if job.network is not None:
            seconds += calls * others * self.assumed["network_step_s"] + moved * 8 / (job.network * 1e9)
        return self._assume(seconds)

    def update(self, job: Job) -> Estimate:
        """Seconds of an update of all learners together."""
        return self.compute(job) + self.all_reduce(job)

    @cached_property
    def _broadcast(self) -> Fit:
        rows = self.of("broadcast")
        return Fit.of([[1.0, row["workers"]] for row in rows], _seconds(rows))

    def broadcast(self, job: Job) -> Estimate:
        """Seconds to give the policy to all runners; nothing where the learner itself collects."""
        if job.workers == 0:
            return NOTHING
        for row in self.of("broadcast", workers=job.workers, bytes=job.policy):
            return _measured(row)
        return self._broadcast.at(1.0, job.workers)

    def simulator(self, job: Job) -> Estimate:
        """Seconds of a step of one simulator, among so many that a process steps together."""
        rows = self.of("step")
        known = [row for row in rows if row["name"] == job.env]
        if known:
            nearest = min(known, key=lambda row: abs(math.log(row["envs"] / job.envs)))
            value, low, high = (nearest[name] / nearest["rows"] for name in ("seconds", "low", "high"))
            return Estimate(value, low, high, MEASURED if nearest["envs"] == job.envs else MODELLED)
        each = [row["seconds"] / row["rows"] for row in rows]
        return Estimate(math.exp(float(np.mean(np.log(each)))), min(each), max(each), ASSUMED)

    @cached_property
    def _visit(self) -> float:
        """Seconds of a rollout that are none of the simulator's."""
        step = self.simulator(Job(env="HalfCheetah-v5")).value
        cores = self.machine["cores"]
        rows = self.of("collect")
        rest = [row["seconds"] - step * row["rows"] / min(row["workers"], cores) for row in rows]
        return max(0.0, float(np.median(rest)))

    def collect(self, job: Job) -> Estimate:
        """Seconds of a rollout of all runners."""
        each = math.ceil(job.rollout / max(1, job.workers))
        steps = math.ceil(each / job.envs) * job.envs
        asked = Estimate(self._visit, self._visit / 2, self._visit * 2) if job.workers else NOTHING
        return asked + self.simulator(job) * steps

    def store_bytes(self, job: Job) -> int:
        """Bytes of a rollout that Ray's store moves: put once, got by every learner."""
        return job.rollout * job.step * (1 + job.learners) if job.learners else 0

    @cached_property
    def _store(self) -> Fit:
        rows = self.of("object_store")
        return Fit.of([[row["bytes"] * row["workers"]] for row in rows], _seconds(rows))

    def store(self, job: Job) -> Estimate:
        """Seconds for a rollout to reach the rows of all learners."""
        return self._store.at(job.rollout * job.step * job.learners) if job.learners else NOTHING

    @cached_property
    def _read(self) -> Fit:
        rows = self.of("read")
        return Fit.of([[row["bytes"]] for row in rows], _seconds(rows))

    def read(self, job: Job) -> Estimate:
        """Seconds for a learner to read its share of the data."""
        return self._read.at(job.held / max(1, job.learners))

    # The phases.

    def offline(self, job: Job) -> Estimate:
        """Seconds until the handover, evaluations apart."""
        return self.read(job) + self.update(job) * job.updates

    def online(self, job: Job) -> Estimate:
        """Seconds after it."""
        learn, collect = self.learning(job), self.collect(job)
        visit = learn.or_longer(collect) if job.asynchronous else learn + collect
        return visit * (job.online / job.rollout)

    def learning(self, job: Job) -> Estimate:
        """Seconds of a visit in which the learner is busy: updates, and what goes to and fro."""
        updates = self.update(job) * (job.due * job.rollout / job.online)
        return updates + self.broadcast(job) + self.store(job)

    def evaluation(self, job: Job) -> Estimate:
        """Seconds in which the policy is evaluated, by the run itself and one episode after the other."""
        return self.simulator(job) * job.evaluated

    def best(self, job: Job, what: str) -> int:
        """With how many learners an update, or workers a visit, is shortest: a power of 2.

        Args:
            job: The plan otherwise.
            what: `learners` or `workers`.
        """
        cost, most = (self.update, job.batch) if what == "learners" else (self.online, job.rollout)

        def taken(number: int) -> float:
            changed: Any = {what: number}
            return cost(replace(job, **changed)).value

        return min((1 << power for power in range(most.bit_length())), key=taken)

    def _assume(self, value: float) -> Estimate:
        factor = self.assumed["factor"]
        return Estimate(value, value / factor, value * factor, ASSUMED)


def _seconds(rows: Iterable[Mapping[str, Any]]) -> list[float]:
    return [row["seconds"] for row in rows]


def _measured(row: Mapping[str, Any]) -> Estimate:
    return Estimate(row["seconds"], row["low"], row["high"], MEASURED)
