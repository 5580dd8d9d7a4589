"""What an update, an average over two learners and a step of a simulator cost: the rest of what a model of
scaling is fitted to (see test_scaling.py), as JSON lines and as one list at the path in $OFF2ON_COSTS.

    stage       also has
    compute     operators, flop, elements of an update; seconds of the processor, with one thread
    all_reduce  calls (1), bytes that each of two processes sends
    step        name and envs of a simulator, rows steps
"""

import json
import os
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import gymnasium as gym
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from datasets_io import storage
from off2on.algorithms import find_algorithm
from off2on.algorithms.iql import IQL
from off2on.rllib.env_runner import RecipeEnvRunner
from off2on.rllib.threads import ready_memory
from off2on.training.cluster.workload import Program

pytestmark = pytest.mark.bench
ALGORITHMS = (
    "bc",
    "td3_bc",
    "iql",
    "awac",
    "sac",
    "rebrac",
    "edac",
    "sac_n",
    "redq",
    "cql",
    "cal_ql",
    "plas",
    "dqn",
)
BATCHES = (64, 128, 256, 1024)
PARAMETERS = (10**3, 10**4, 10**5, 10**6, 10**7)
SIMULATORS = {"toy": "Pendulum-v1", "halfcheetah": "HalfCheetah-v5"}
TURNS = 5


@pytest.fixture(scope="module")
def told() -> Iterator[Any]:
    """told(stage, workers, turns, …): keeps a measurement, for a file when all are there."""
    kept: list[dict[str, Any]] = []

    def tell(stage: str, workers: int, turns: list[float], **more: Any) -> None:
        bounds = {"seconds": median(turns), "low": min(turns), "high": max(turns)}
        kept.append({"stage": stage, "workers": workers, **bounds, **more})
        print(json.dumps(kept[-1]), flush=True)

    yield tell
    if path := os.environ.get("OFF2ON_COSTS"):
        storage.write_text(path, json.dumps(kept, indent=1))


@pytest.mark.parametrize("size", BATCHES)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_update(name, size, told):
    if size != 256 and name not in ("bc", "td3_bc", "iql"):
        pytest.skip("batches of other sizes are of three algorithms")
    torch.set_num_threads(1)
    ready_memory()
    recipe = find_algorithm(name)
    actions = gym.spaces.Discrete(6) if recipe.actions == "discrete" else gym.spaces.Box(-1, 1, (6,))
    hp = recipe.Hyperparameters.parse({"batch_size": size}, name)
    program = Program(recipe, hp, gym.spaces.Box(-9, 9, (17,)), actions)
    work, number = program.work(size), 100
    count = max(4, int(2e9 / work.flop) // 4 * 4)
    turns = []
    for _ in range(TURNS + 1):
        started = time.process_time()
        for _ in range(count):
            number += 1
            program.update(number, size)
        turns.append((time.process_time() - started) / count)
    told("compute", 1, turns[1:], name=name, rows=size, **work._asdict())


def _average(rank: int, address: str, queue: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    for count in PARAMETERS:
        held, calls, turns = torch.zeros(count), max(3, min(300, 10**7 // count)), []
        for _ in range(TURNS + 1):
            dist.barrier()
            started = time.perf_counter()
            for _ in range(calls):
                dist.all_reduce(held)
            turns.append((time.perf_counter() - started) / calls)
        if rank == 0:
            queue.put((count, turns[1:]))
    dist.destroy_process_group()


def test_an_average_of_gradients(told, tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    both = multiprocessing.spawn(_average, (f"file://{tmp_path}/meet", queue), 2, join=False)
    for _ in PARAMETERS:
        count, turns = queue.get()
        told("all_reduce", 2, turns, calls=1, bytes=4 * count)
    both.join()


@pytest.mark.parametrize("envs", [1, 8])
@pytest.mark.parametrize("data", SIMULATORS)
def test_a_step(data, envs, told, request):
    torch.set_num_threads(1)
    shards = request.getfixturevalue(data)
    runner = RecipeEnvRunner(
        config=IQL.configure(shards.path).env_runners(num_envs_per_env_runner=envs), worker_index=0
    )
    turns = []
    for _ in range(TURNS + 1):
        started = time.process_time()
        runner.sample(num_timesteps=1000)
        turns.append(time.process_time() - started)
    runner.stop()
    told("step", 1, turns[1:], name=SIMULATORS[data], envs=envs, rows=1000)
