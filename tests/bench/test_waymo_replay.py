"""Steps and episodes per second of driving, on one core."""

import time
from pathlib import Path

import numpy as np
import pytest
from toy_scene import toy_scene

from datasets_io.driving.episodes import episodes
from datasets_io.driving.simulator import WaymoReplay

pytestmark = pytest.mark.bench

FILE = Path(__file__).parents[3] / "shared" / "data" / "waymo-motion-scenario.tfrecord"
ROUNDS = 7


@pytest.fixture(scope="module", params=["toy", "real"])
def scenes(request):
    if request.param == "toy":
        return [toy_scene()]
    from datasets_io.waymo.records import read_scenes

    if not FILE.exists():
        pytest.skip(f"no {FILE.name} beside the project")
    return list(read_scenes(FILE))


def fastest(work) -> float:
    """Seconds of the fastest of several rounds, after one that warms up: others use the machine too."""
    took = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return min(took[1:])


@pytest.mark.parametrize("others", ["log", "idm"])
def test_steps_per_second(scenes, others):
    env = WaymoReplay(scenes, others=others, vehicles="moving")
    actions = np.random.default_rng(0).normal(size=(80, 2)) * [1.0, 0.01]

    def drive() -> None:
        env.reset(seed=0)
        for action in actions:
            if env.step(action)[3]:
                break
        drive.steps = int(env.now.steps[0]) - env.car.first

    seconds = fastest(drive)
    objects = scenes[0].valid.shape[0]
    print(f"steps {others:<4} {objects:>4} objects {drive.steps / seconds:>34,.0f}/s  with the reset")


@pytest.mark.parametrize("vehicles", ["ego", "moving"])
def test_episodes_per_second(scenes, vehicles):
    count = len(list(episodes(scenes[0], vehicles=vehicles)))
    seconds = fastest(lambda: list(episodes(scenes[0], vehicles=vehicles)))
    rates = f"{1 / seconds:>12,.1f} scenes/s  {count / seconds:>12,.1f} episodes/s"
    print(f"scenes → episodes, {vehicles:<6} {rates}")
