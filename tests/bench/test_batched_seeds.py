"""Seeds updated as one program, against the same learners, traced, one after the other in this process."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import in_turns, report

from datasets_io.ingestion.ingest import ingest
from datasets_io.sources.toy import ToyPendulum
from off2on.algorithms import find_algorithm
from off2on.rllib.batched.learners import BatchedLearners

pytestmark = pytest.mark.bench
WORK = {32: 50, 256: 5}
"""Updates of each learner per turn, by the width of the networks."""
OWN_UPDATES = 5
"""Updates of a kind by the recipe's own code before they are traced: few, to measure soon."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("together")
    ingest(ToyPendulum(episodes=50), None, root, name="toy-pendulum")
    return root / "toy-pendulum"


def learners(recipe: Any, data: Path, width: int, count: int) -> list[Any]:
    built = []
    for seed in range(count):
        config = recipe.configure(data).offline(1_000_000).debugging(seed=seed)
        config.training(hidden=(width, width), batch_size=256, threads=1)
        learner = config.get_default_learner_class()(config=config, module_spec=config.get_rl_module_spec())
        learner.build()
        built.append(learner)
    return built


def timed(every: list[Any], advance: Callable[[Any, int], object]) -> Callable[[int], float]:
    def work(updates: int) -> float:
        started = time.perf_counter()
        for one in every:
            advance(one, updates)
        return time.perf_counter() - started

    return work


@pytest.mark.parametrize("seeds", [1, 2, 4, 8])
@pytest.mark.parametrize("width", WORK)
@pytest.mark.parametrize("name", ["iql", "td3_bc", "cql"])
def test_seeds_together_against_one_after_the_other(data: Path, name: str, width: int, seeds: int):
    recipe, updates = find_algorithm(name), WORK[width] // (5 if name == "cql" else 1)
    alone, abreast = (learners(recipe, data, width, seeds) for _ in range(2))
    for learner in alone:  # a run of a user is traced after its first hundred updates
        learner.traced.after = OWN_UPDATES
        learner.advance(8 * OWN_UPDATES)
    together = BatchedLearners(abreast)
    ours = timed(abreast, together.advance)
    peer = timed(alone, lambda one, updates: one.advance(updates))
    found = in_turns(ours, peer, updates)
    report(f"{name} {width}x{width}, {seeds} seeds together / alone", found)
