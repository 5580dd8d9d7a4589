"""Ranking of policies, some of them barely trained, by estimates from recorded data.

The true return is the mean undiscounted return of 20 episodes, as in a run's own evaluations.
"""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from datasets_io.ingestion.ingest import ingest
from datasets_io.shards.reading import open_shards
from datasets_io.sources.toy import ToyCartPole, ToyPendulum
from off2on.algorithms import find_algorithm
from off2on.ope import dice, estimate, rank
from off2on.ope.quick import QUICK_FQE
from off2on.training.evaluate import evaluate, numpy_policy

pytestmark = [pytest.mark.learning, pytest.mark.timeout(7200)]

POLICIES = {
    "toy-pendulum": {"td3_bc": (50, 300, 1500), "bc": (50, 300), "iql": (300, 1500), "ddpg": (1500,)},
    "toy-cartpole": {"discrete_bc": (30, 500), "dqn": (100, 500, 1500), "discrete_cql": (30, 300, 1500)},
}
SOURCES = {"toy-pendulum": ToyPendulum(), "toy-cartpole": ToyCartPole()}
SHORT_DICE = dice.DICESettings(updates=4_000, members=3, batch_size=256, lr=1e-3)


@pytest.mark.parametrize("name", POLICIES)
def test_fitted_values_rank_policies(
    name: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, build_learner: Any
):
    root = tmp_path_factory.mktemp("ope")
    monkeypatch.setenv("OFF2ON_DATA", str(root))
    ingest(SOURCES[name], None, root, name=name)
    shards = open_shards(name)
    scores, estimates = [], {"fqe": [], "dice": []}
    for algorithm, stops in POLICIES[name].items():
        learner = build_learner(find_algorithm(algorithm), name, updates=stops[-1], hidden=(64, 64))
        done = 0
        for stop in stops:
            learner.advance(stop - done)
            done = stop
            act = numpy_policy(deepcopy(learner.module["default_policy"].policy).eval())
            episodes = evaluate(act, str(shards.env_id), episodes=20, seed=1000)
            scores.append(float(np.mean([episode.ret for episode in episodes])))
            report = estimate(
                act, shards, methods=tuple(estimates), fqe_settings=QUICK_FQE, dice_settings=SHORT_DICE
            )
            for one in report.estimates:
                estimates[one.method].append(one.value)
            line = " · ".join(f"{one.method} {one.value:.1f} ({one.trust})" for one in report.estimates)
            print(f"{algorithm} after {stop}: {scores[-1]:.1f} · {line}", flush=True)  # noqa: T201
    found = {method: rank(values, scores) for method, values in estimates.items()}
    print(f"{name}: {found}", flush=True)  # noqa: T201
    assert found["fqe"].correlation > 0.5
    assert found["fqe"].regret[3] < 0.2
