"""What each stage costs with more ingest workers, learners, runners: what a model of scaling is fitted to.

Every measurement is a line of JSON, printed, and written as one list to the path in $OFF2ON_SCALING:

    stage         workers   seconds                               bytes                 rows
    ingest        ingest    of a whole ingest, Ray being up       of the source         transitions
    read          learners  for a learner to read its share       of its rows           of its share
    compute       learners  of an update without averaging        0                     of a learner's batch
    all_reduce    learners  to average an update's gradients      of the gradients      0
    update        learners  of an update, all of it               averaged              of the whole batch
    broadcast     runners   to give the policy to all runners     of the policy         0
    collect       runners   of a rollout of all runners           of its columns        environment steps
    object_store  learners  for every learner to get its steps    of a rollout          environment steps
    checkpoint    learners  to save one                           of its files          0

Seconds are medians of a few turns, bytes and rows those of one turn. Processes beyond the cores of this
machine share them.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import pytest
import ray
import torch

from datasets_io import storage
from datasets_io.ingestion import parallel
from datasets_io.ingestion.ingest import ingest
from datasets_io.waymo import Waymo
from datasets_io.waymo.schema import message
from datasets_io.waymo.tfrecord import frame
from off2on.algorithms.iql import IQL

pytestmark = pytest.mark.bench
TURNS = 5
UPDATES = 100
STEPS = 1000
SCENARIOS = 20
"""Per file; those of the training set have about 500."""

Report = Callable[..., None]


@pytest.fixture(scope="module")
def told() -> Iterator[Report]:
    """told(stage, workers, seconds, bytes, rows): keeps a measurement, for a file when all are there."""
    kept: list[dict[str, Any]] = []

    def tell(stage: str, workers: int, seconds: float, moved: int = 0, rows: int = 0) -> None:
        kept.append({"stage": stage, "workers": workers, "seconds": seconds, "bytes": moved, "rows": rows})
        print(json.dumps(kept[-1]), flush=True)

    yield tell
    if path := os.environ.get("OFF2ON_SCALING"):
        storage.write_text(path, json.dumps(kept, indent=1))


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    """A Ray with as many CPUs as the test asks for."""
    ray.init(
        address="local",
        num_cpus=request.param,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
    )
    yield
    ray.shutdown()


def seconds(work: Callable[[], Any]) -> float:
    """Of one turn, the median of a few, after one that is not counted."""
    taken = []
    for _ in range(TURNS + 1):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return median(taken[1:])


@pytest.mark.parametrize("files", [4, 8])
@pytest.mark.parametrize(
    ("cluster", "workers"), [(1, 1), (2, 2), (4, 4)], indirect=["cluster"], ids=["1", "2", "4"]
)
def test_ingest(cluster, workers, files, told, tmp_path, monkeypatch):
    """Waymo scenarios, a file a part, through Ray Data."""
    from waymo_records import real_record  # here: Ray's workers import this module, and find no other there

    monkeypatch.setattr(parallel, "PATIENCE_S", 0)
    record = message("Scenario").FromString(real_record("scenario"))
    source = tmp_path / "source"
    source.mkdir()
    for number in range(files):
        with (source / f"{number}.tfrecord").open("wb") as file:
            for scenario in range(SCENARIOS):
                record.scenario_id = f"{number}-{scenario}"
                file.write(frame(record.SerializeToString()))
    ingest(Waymo(), source, tmp_path, name="first")  # workers have to start, once in the life of a cluster
    started = time.perf_counter()
    shards = ingest(Waymo(), source, tmp_path, name="second")
    taken = time.perf_counter() - started
    told("ingest", workers, taken, sum(storage.sizes(source).values()), shards.rows)


def learning(halfcheetah: Any, learners: int, runners: int = 0) -> Any:
    """IQL as it comes, with a thread per learner."""
    config = IQL.configure(halfcheetah.path).training(threads=1).offline(10**6)
    config.learners(num_learners=learners).env_runners(num_env_runners=runners)
    return config.online(10**6, strategy="append", rollout=STEPS)


def sizes(learner: Any) -> tuple[int, int, int, int]:
    """Of a learner: bytes of its gradients, its rows, their bytes, rows of its batch."""
    rows, names = learner.rows, [objective.name for objective in learner.recipe.objectives_in_order()]
    gradients = sum(4 * learner.flat[name].vector.numel() for name in names)
    return gradients, rows.offline, 4 * rows.data[: rows.offline].numel(), learner.replay.size


def compute(learner: Any) -> float:
    """Seconds of an update of one learner for itself."""
    world, learner.world = learner.world, 1
    taken = seconds(lambda: learner.advance(UPDATES)) / UPDATES
    learner.world = world
    return taken


def all_reduce(learner: Any) -> float:
    """Seconds for the gradients of an update to be averaged."""
    gradients = [
        torch.zeros_like(learner.flat[objective.name].vector)
        for objective in learner.recipe.objectives_in_order()
    ]

    def average() -> None:
        for _ in range(UPDATES):
            for gradient in gradients:
                torch.distributed.all_reduce(gradient.detach())

    return seconds(average) / UPDATES


@pytest.mark.parametrize(
    ("cluster", "learners"), [(2, 1), (3, 2)], indirect=["cluster"], ids=["1 learner", "2 learners"]
)
def test_learners(cluster, learners, halfcheetah, told, tmp_path):
    with learning(halfcheetah, learners).build_algo() as algo:
        gradients, rows, held, batch = algo.ask(sizes)[0]
        told("read", learners, max(algo.ask(lambda one: seconds(one._replay))), held, rows)
        told("compute", learners, max(algo.ask(compute)), 0, batch)
        if learners > 1:
            told("all_reduce", learners, max(algo.ask(all_reduce)), gradients, 0)
        update = seconds(lambda: algo._learn(UPDATES)) / UPDATES
        told("update", learners, update, gradients if learners > 1 else 0, batch * learners)
        turns = iter(range(100))
        saved = seconds(lambda: algo.save_to_path(str(tmp_path / f"{next(turns)}")))
        files = (file for file in (tmp_path / "0").rglob("*") if file.is_file())
        told("checkpoint", learners, saved, sum(file.stat().st_size for file in files))


@pytest.mark.parametrize(
    ("cluster", "learners", "runners"),
    [(2, 1, 1), (3, 1, 2), (3, 2, 1)],
    indirect=["cluster"],
    ids=["1 learner, 1 runner", "1 learner, 2 runners", "2 learners, 1 runner"],
)
def test_runners(cluster, learners, runners, halfcheetah, told):
    with learning(halfcheetah, learners, runners).build_algo() as algo:
        algo.go_online()
        rollouts: list[dict[str, Any]] = []

        def collect() -> None:
            got = algo.runners.collect(STEPS, 10**6, 0, algo.updates)
            rollouts[:] = [rollout.columns for rollout, _ in got]

        taken = seconds(collect)
        moved = sum(column.nbytes for columns in rollouts for column in columns.values())
        steps = sum(len(columns["rewards"]) for columns in rollouts)
        if learners == 1:
            algo.runners.serve(algo.updates)
            weights = ray.get(algo.runners.weights)["rl_module"]
            count = sum(value.nbytes for value in weights["default_policy"].values())
            told("broadcast", runners, seconds(lambda: algo.runners.serve(algo.updates)), count)
            told("collect", runners, taken, moved, steps)
        if runners == 1:

            def enter() -> None:
                for columns in rollouts:
                    algo._enter(columns)

            told("object_store", learners, seconds(enter), moved, steps)
