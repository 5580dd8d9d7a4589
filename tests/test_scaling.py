"""What a plan is estimated to cost: numbers by hand, laws, and what is refused."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets_io import Shards
from off2on.algorithms import CATALOGUE, find_algorithm
from off2on.cli import main
from off2on.training.cluster.costs import ASSUMED, MEASURED, MODELLED, Estimate, Fit, Job, Work
from off2on.training.cluster.scaling import FILE, Model
from off2on.training.cluster.workload import Program, networks, step_bytes

OFF2ON = Path(sys.executable).with_name("off2on")


def row(stage: str, workers: int, seconds: float, **more: object) -> dict[str, object]:
    return {"stage": stage, "workers": workers, "seconds": seconds, "low": seconds, "high": seconds, **more}


@pytest.fixture
def made() -> Model:
    """Made so that each law can be solved by hand."""
    rows = [
        # 3 s, and 100 bytes a second of each of at most two readers.
        row("ingest", 1, 3 + 4.0, bytes=400, files=4),
        row("ingest", 2, 3 + 2.0, bytes=400, files=4),
        row("ingest", 4, 3 + 2.0, bytes=400, files=4),
        # 1 ms an operator, 1 µs a FLOP, 10 µs an element.
        row("compute", 1, 0.002 + 0.001 + 0.001, operators=2, flop=1000, elements=100),
        row("compute", 1, 0.004 + 0.001 + 0.001, operators=4, flop=1000, elements=100),
        row("compute", 1, 0.002 + 0.003 + 0.001, operators=2, flop=3000, elements=100),
        row("compute", 1, 0.002 + 0.001 + 0.004, operators=2, flop=1000, elements=400),
        # 1 ms a call, 1 MB a second.
        row("all_reduce", 2, 0.001 + 0.004, calls=1, bytes=4000),
        row("all_reduce", 2, 0.001 + 0.040, calls=1, bytes=40_000),
        # 10 ms, and 1 ms for each runner.
        row("broadcast", 1, 0.011, bytes=100),
        row("broadcast", 2, 0.012, bytes=100),
        row("step", 1, 1.0, name="HalfCheetah-v5", envs=1, rows=1000),
        row("step", 1, 0.25, name="Pendulum-v1", envs=1, rows=1000),
        # 5 ms beside the 1 ms of each step.
        row("collect", 1, 0.005 + 0.1, rows=100, bytes=0),
        row("collect", 2, 0.005 + 0.05, rows=100, bytes=0),
        row("object_store", 1, 0.01, bytes=1000),
        row("object_store", 2, 0.02, bytes=1000),
        row("read", 1, 2.0, bytes=1000),
        row("read", 2, 1.0, bytes=500),
    ]
    assumed = {
        "gpu_operator_s": 1e-5,
        "gpu_flop_s": 1e-13,
        "gpu_element_s": 1e-11,
        "gpu_call_s": 1e-4,
        "gpu_bandwidth": 1e6,
        "network_step_s": 1e-3,
        "factor": 3.0,
    }
    return Model({"cores": 2}, rows, assumed)


JOB = Job(
    updates=1000,
    online=1000,
    due=500,
    whole=Work(10, 10_000, 1000),
    half=Work(10, 5000, 600),
    gradients=((1000, 1.0), (500, 0.5)),
    held=8000,
    policy=200,
    step=10,
    env="HalfCheetah-v5",
    evaluated=5000,
    learners=4,
    workers=8,
    rollout=100,
)


@pytest.fixture(scope="module")
def real() -> Model:
    return Model.load()


# Numbers by hand.


def test_a_learner_has_its_share_of_the_batch():
    assert JOB.work == Work(10, 2500, 400)  # 200 elements whatever the batch, 800 of the whole
    assert replace(JOB, learners=0).work == JOB.whole
    assert replace(JOB, learners=2).work == JOB.half


def test_an_update_by_hand(made: Model):
    assert made.compute(JOB).value == pytest.approx(10 * 0.001 + 2500e-6 + 400e-5)
    # (1000 + 250) parameters of 4 bytes, 2 · 3/4 times; 1.5 calls of 3 steps of 1 ms; a megabyte a second.
    assert made.all_reduce_bytes(JOB) == 1250 * 4 * 1.5
    assert made.all_reduce(JOB).value == pytest.approx(1.5 * 3 * 0.001 + 7500e-6)
    # Perhaps in log2(4) steps; two measurements have no spread, so half of that.
    assert made.all_reduce(JOB).low == pytest.approx((1.5 * 2 * 0.001 + 7500e-6) / 2)
    assert made.all_reduce(replace(JOB, learners=1)).value == 0


def test_the_phases_by_hand(made: Model):
    update = 0.0165 + 0.012
    assert made.read(JOB).value == pytest.approx(8000 / 4 / 500)
    assert made.offline(JOB).value == pytest.approx(4 + 1000 * update)
    collect = 0.005 + 13 * 0.001  # 100 steps of 8 runners
    assert made.collect(JOB).value == pytest.approx(collect)
    learn = 50 * update + 0.018 + 100 * 10 * 4 / 100_000
    assert made.learning(JOB).value == pytest.approx(learn)
    assert made.online(JOB).value == pytest.approx(10 * (collect + learn))
    assert made.online(replace(JOB, asynchronous=True)).value == pytest.approx(10 * max(collect, learn))
    assert made.evaluation(JOB).value == pytest.approx(5.0)
    assert made.store_bytes(JOB) == 100 * 10 * 5


def test_an_ingest_by_hand(made: Model):
    job = Job(files=10, file_bytes=50, workers=4)
    assert made.ingest(job).value == pytest.approx(3 + 3 * 0.5)  # the busiest of four has three files
    assert made.ingest(replace(job, workers=10)).value == pytest.approx(3.5)
    assert made.ingest(replace(job, workers=99)).value == pytest.approx(3.5)


def test_gpus_and_networks_are_assumed_and_the_rest_is_told_apart(made: Model):
    gpu, apart = replace(JOB, gpu=True), replace(JOB, network=8.0)
    assert made.compute(gpu).value == pytest.approx(10 * 1e-5 + 2500e-13 + 400e-11)
    assert made.all_reduce(gpu).value == pytest.approx(1.5e-4 + 7500e-6)
    assert made.all_reduce(apart).value == pytest.approx(1.5 * 3 * 1e-3 + 7500 * 8 / 8e9)
    for job in (gpu, apart):
        estimate = made.all_reduce(job)
        assert (estimate.basis, estimate.high / estimate.value) == (ASSUMED, pytest.approx(3))
    assert made.compute(replace(JOB, learners=0, whole=Work(2, 1000, 100))).basis == MEASURED
    assert made.compute(JOB).basis == MODELLED
    assert made.broadcast(replace(JOB, workers=2, policy=100)).basis == MEASURED
    assert made.broadcast(JOB).basis == MODELLED
    assert made.simulator(replace(JOB, env="Unknown-v0")) == Estimate(
        pytest.approx(0.0005), 0.00025, 0.001, ASSUMED
    )


def test_a_sum_is_as_sure_as_its_weakest_part():
    measured, assumed = Estimate(1, 0.5, 2, MEASURED), Estimate(3, 1, 9, ASSUMED)
    assert measured + assumed == Estimate(4, 1.5, 11, ASSUMED)
    assert measured * 2 == Estimate(2, 1, 4, MODELLED)
    assert measured.or_longer(assumed) == Estimate(3, 1, 9, ASSUMED)


def test_an_interval_is_that_of_a_new_measurement():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        terms = rng.uniform(1, 10, (8, 2))
        taken = terms @ [1.0, 2.0] * np.exp(rng.normal(0, 0.1, 8))
        fit = Fit.of(terms[:7], taken[:7])
        estimate = fit.at(*terms[7])
        held += estimate.low <= taken[7] <= estimate.high
    assert 0.9 <= held / 300 <= 0.99
    assert Fit.of([[1.0, 1], [1, 2]], [2.0, 3]).factor == 2.0, "two points have no spread"


def test_measurements_of_the_same_become_one():
    from fold import fold

    def taken(seconds: float, **more: object) -> dict[str, object]:
        return {"stage": "read", "workers": 1, "seconds": seconds, "bytes": 8} | more

    one, other = fold([[taken(1.0), taken(7.0, bytes=16)], [taken(3.0)], [taken(2.0, low=0.5, high=9.0)]])
    expected = {"seconds": 2.0, "low": 0.5, "high": 9.0, "turns": 3}
    assert one == {"stage": "read", "workers": 1, "bytes": 8} | expected
    assert (other["bytes"], other["seconds"], other["turns"]) == (16, 7.0, 1)


# Laws.


@given(st.integers(1, 64), st.integers(1, 10**7))
def test_a_ring_sends_all_but_its_own_part_twice(learners: int, parameters: int):
    job = Job(learners=learners, gradients=((parameters, 1.0),))
    assert Model({}, []).all_reduce_bytes(job) == pytest.approx(
        2 * (learners - 1) / learners * parameters * 4
    )


@given(st.integers(1, 4096), st.integers(1, 3000))
def test_twice_the_readers_are_never_slower(workers: int, files: int):
    model = Model.load()
    job = Job(files=files, file_bytes=10**8, workers=workers)
    assert model.ingest(replace(job, workers=2 * workers)).value <= model.ingest(job).value


@given(st.integers(0, 5), st.integers(3, 13), st.booleans())
def test_twice_the_workers_are_never_slower_until_the_bottleneck_that_is_stated(
    power: int, size: int, asynchronous: bool
):
    model, job = Model.load(), replace(JOB, rollout=2**size, online=10**6, asynchronous=asynchronous)
    best = model.best(job, "workers")
    if 2 * 2**power <= best:
        one, two = (replace(job, workers=number) for number in (2**power, 2 * 2**power))
        assert model.online(two).value <= model.online(one).value


def test_more_learners_share_the_compute_and_not_the_average(real: Model):
    jobs = [replace(JOB, learners=2**power) for power in range(7)]
    compute = [real.compute(job).value for job in jobs]
    assert compute == sorted(compute, reverse=True)
    average = [real.all_reduce(job).value for job in jobs]
    assert average == sorted(average)
    best = real.best(JOB, "learners")
    assert all(real.update(replace(JOB, learners=best)).value <= real.update(job).value for job in jobs)


def test_bounds_hold_the_estimate(real: Model):
    for stage in ("compute", "all_reduce", "broadcast", "collect", "store", "read", "offline", "online"):
        for job in (JOB, replace(JOB, gpu=True), replace(JOB, network=10.0), replace(JOB, asynchronous=True)):
            estimate = getattr(real, stage)(job)
            assert 0 < estimate.low <= estimate.value <= estimate.high, stage


def test_the_model_holds_its_own_measurements(real: Model):
    rows = [each for each in real.of("compute") if "flop" in each]
    fit = real._compute
    within = [
        1 / fit.factor <= each["seconds"] / fit.at(*(each[name] for name in Work._fields)).value <= fit.factor
        for each in rows
    ]
    assert len(rows) >= 15
    assert np.mean(within) >= 0.8
    assert fit.factor < 2
    assert {"cpu", "cores", "versions", "measured", "load", "command"} <= real.machine.keys()


# Counting.


def test_operators_and_flop_are_those_of_the_products():
    obs, actions, size, width = gym.spaces.Box(-9, 9, (5,)), gym.spaces.Box(-1, 1, (2,)), 8, 16
    recipe = find_algorithm("bc")
    hp = recipe.Hyperparameters.parse({"hidden": str(width), "batch_size": str(size)}, "bc")
    program = Program(recipe, hp, obs, actions)
    outputs = program.nets.actor.state_dict()
    layers = [tuple(value.shape) for value in outputs.values() if value.dim() == 2]
    forward = sum(2 * size * rows * columns for rows, columns in layers)
    first = 2 * size * layers[0][0] * layers[0][1]
    # Backwards, each product costs two, but nobody asks for the gradient of the observations.
    assert program.work(size).flop == 3 * forward - first


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_algorithm_is_counted(name: str, small):
    recipe = find_algorithm(name)
    actions = gym.spaces.Discrete(4) if recipe.actions == "discrete" else gym.spaces.Box(-1, 1, (3,))
    hp = recipe.Hyperparameters.parse(small(recipe) | {"batch_size": 16}, name)
    before = torch.get_rng_state()
    counted = networks(recipe, hp, gym.spaces.Box(-9, 9, (5,)), actions)
    assert torch.equal(before, torch.get_rng_state())
    assert counted["whole"].flop > counted["half"].flop > 0
    assert counted["policy"] > 0
    assert all(count > 0 and 0 < share <= 1 for count, share in counted["gradients"])


def test_a_delayed_actor_is_averaged_at_every_other_update():
    recipe = find_algorithm("td3")
    spaces = gym.spaces.Box(-9, 9, (5,)), gym.spaces.Box(-1, 1, (2,))
    hp = recipe.Hyperparameters.parse({"hidden": "8", "batch_size": "8"}, "td3")
    assert [share for _, share in networks(recipe, hp, *spaces)["gradients"]] == [1.0, 0.5]


def test_a_step_is_as_large_as_a_runner_hands_it_in(toy):
    from off2on.algorithms.iql import IQL
    from off2on.rllib.env_runner import RecipeEnvRunner

    runner = RecipeEnvRunner(config=IQL.configure(toy.path), worker_index=0)
    columns = runner.sample(num_timesteps=10).columns
    runner.stop()
    size = sum(column.nbytes for column in columns.values())
    assert size == 10 * step_bytes(toy.observation_space, toy.action_space)


# The command.

Answer = tuple[int, str, str]


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """plan(words …): the exit code of `off2on plan`, what it said on stdout and on stderr."""

    def run(*words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["off2on", "plan", *words])
        code = main()
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_plan_is_told_stage_by_stage(toy: Shards, plan: Callable[..., Answer]):
    words = ["iql", str(toy.path), "--updates", "10k", "--online", "1k", "--learners", "2", "--workers", "2"]
    ((_, rows),) = json.loads(plan(*words, "--json", "hidden=16,16")[1]).items()
    found = {(each["phase"], each["stage"]): each for each in rows}
    assert found["learner", "update: average"]["bytes"] > 0
    assert found["online", "all"]["low"] < found["online", "all"]["value"] < found["online", "all"]["high"]
    update = found["learner", "update: compute"]["value"] + found["learner", "update: average"]["value"]
    read = found["learner", "data read"]["value"]
    assert found["offline", "all"]["value"] == pytest.approx(read + 10_000 * update)
    _, page, _ = plan(*words, "hidden=16,16")
    assert [line.split()[:2] for line in page.splitlines() if line.startswith("bound")] == [
        ["bound", "offline:"],
        ["bound", "online:"],
    ]


def test_the_examples_say_what_was_measured_and_what_was_not():
    page = subprocess.run([OFF2ON, "plan"], capture_output=True, text=True, check=True).stdout
    for part in ("8 GPUs", "64 workers", "1,000 Waymo files", "assumed", "modelled", "measured", "left out"):
        assert part in page
    assert max(map(len, page.splitlines())) <= 140


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("iqll toy-pendulum", ["'iqll'", "nearest: iql"]),
        ("iql toy-pendulom --learners 2", ["'toy-pendulom'", "nearest: toy-pendulum"]),
        ("iql toy-pendulum --learners 3", ["batch_size 256", "3 learners"]),
        ("iql toy-pendulum --learners -1", ["--learners", "at least 0"]),
        ("iql toy-pendulum --network 0", ["--network", "0"]),
        ("iql toy-pendulum --file-size 1G", ["--file-size", "--files 1000"]),
        ("iql toy-pendulum --measurements nowhere.json", ["'nowhere.json'"]),
        ("iql toy-pendulum --online 10 --asynchronous", ["workers is 0", "--workers 1"]),
    ],
)
def test_what_cannot_be_planned_is_refused(
    toy: Shards, plan: Callable[..., Answer], words: str, parts: list[str]
):
    code, out, err = plan(*words.split())
    assert (code, out) == (2, "")
    for part in parts:
        assert part in err


def test_measurements_that_lack_a_stage_are_refused(tmp_path: Path, plan: Callable[..., Answer]):
    content = json.loads(FILE.read_text())
    content["rows"] = [each for each in content["rows"] if each["stage"] != "broadcast"]
    (tmp_path / "mine.json").write_text(json.dumps(content))
    code, _, err = plan("--measurements", str(tmp_path / "mine.json"))
    assert code == 2
    assert "of broadcast there is no measurement" in err
