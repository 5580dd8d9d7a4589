"""On the toy data every algorithm earns more than the controller that recorded them.

Three seeds each; the interval is the report's own (95 %, stratified bootstrap of the interquartile
mean). `make learn` prints the table, and writes it to the file that OFF2ON_LEARNING_CSV names.
"""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from datasets_io.ingest import ingest
from datasets_io.toy import ToyPendulum
from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.evaluate import acting, evaluate
from off2on.stats import estimate

pytestmark = [pytest.mark.learning, pytest.mark.usefixtures("ray_session")]

SEEDS = (0, 1, 2)
UPDATES = 5000
SMALLER = {"hidden": (64, 64)}  # the paper's widths change little here and cost minutes
FEWER_SAMPLES = {"cql": {"samples": 4}}


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory):
    return ingest(ToyPendulum(), None, tmp_path_factory.mktemp("data"), name="toy-pendulum")


def score(name: str, shards, seed: int) -> float:
    """Mean return of ten episodes after learning offline only."""
    settings = SMALLER | FEWER_SAMPLES.get(name, {})
    config = find_algorithm(name).configure(shards.path).training(**settings).debugging(seed=seed)
    with config.offline(UPDATES).build_algo() as algo:
        while not algo.finished:
            algo.train()
        played = evaluate(acting(algo.policy()), shards.env_id, episodes=10, seed=1_000_000 + seed)
    return float(np.mean([episode.ret for episode in played]))


@pytest.mark.parametrize("name", CATALOGUE)
def test_beats_its_datas_mean_return(name, pendulum):
    scores = [score(name, pendulum, seed) for seed in SEEDS]
    found = estimate(scores)
    assert found.interval is not None
    data = pendulum.returns.mean()
    numbers = (data, found.value, *found.interval, *scores)
    row = [name, UPDATES, len(SEEDS), *(round(float(number), 1) for number in numbers)]
    print(dict(zip(HEADER, row, strict=True)))  # noqa: T201
    write(row)
    assert min(scores) > data


HEADER = ["algorithm", "updates", "seeds", "data_return", "iqm", "low", "high", "seed_0", "seed_1", "seed_2"]


def write(row: list) -> None:
    """Add the row to the table asked for, if any."""
    if target := os.environ.get("OFF2ON_LEARNING_CSV"):
        fresh = not Path(target).exists()
        with open(target, "a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([HEADER, row] if fresh else [row])
