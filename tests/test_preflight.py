"""Before a run starts on a cluster: who fits where, what is refused at once. Real ones: test_cluster.py."""

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from searches import OFFLINE

from off2on.errors import UserError
from off2on.search.reading import read
from off2on.search.resources import trial_bundles
from off2on.training.cluster import preflight
from off2on.training.cluster.placement import Node, Role, format_placement, place_processes, this_machine
from off2on.training.located_yaml import COMMAND_LINE, LocatedValue
from off2on.training.plan import Plan
from off2on.training.process import cluster_address, ray_started


def node(name: str, cpus: float, gpus: float = 0, free: float | None = None) -> Node:
    return Node(name, name, cpus, gpus, 2.0**34, 2.0**30, cpus if free is None else free, gpus)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=5),
    st.integers(0, 8),
    st.booleans(),
    st.integers(0, 8),
)
def test_everybody_has_a_place_exactly_if_there_is_room(
    sizes: list[tuple[int, int]], learners: int, graphics: bool, runners: int
):
    nodes = [node(str(number), *size) for number, size in enumerate(sizes)]
    roles = [Role("learner", learners, 0 if graphics else 1, int(graphics)), Role("runner", runners, 1, 0)]
    layout = place_processes(roles, nodes)
    cpus, gpus = (sum(size[index] for size in sizes) for index in (0, 1))
    fits = (gpus >= learners and cpus >= runners) if graphics else cpus >= learners + runners
    assert (layout is not None) == fits
    if layout is not None:
        assert [len(layout["learner"]), len(layout["runner"])] == [learners, runners]
        on, beside = Counter(layout["learner"]), Counter(layout["runner"])
        for one in nodes:
            assert beside[one.name] + (0 if graphics else on[one.name]) <= one.cpus
            assert not graphics or on[one.name] <= one.gpus


@pytest.mark.parametrize(
    ("said", "sizes", "expected"),
    [
        ({}, [(4, 0)], [{"CPU": 1}]),
        ({}, [(4, 1)], [{"CPU": 1, "GPU": 0.5}]),
        ({}, [(4, 4), (4, 4)], [{"CPU": 1, "GPU": 1}]),
        ({"learners": "2", "workers": "1"}, [(4, 3)], [{"CPU": 1}, *[{"CPU": 1}] * 2, {"CPU": 1}]),
        ({"learners": "2", "workers": "1"}, [(4, 4)], [{"CPU": 1}, *[{"GPU": 1}] * 2, {"CPU": 1}]),
        ({"learners": "1", "stop_early": "asha"}, [(4, 0)], [{"CPU": 1}, *[{"CPU": 1}] * 3]),
        ({"by": "pbt", "trials": "8"}, [(8, 0)], [{"CPU": 4}]),
        ({"by": "pbt", "trials": "8"}, [(3, 0), (6, 0), (1, 0)], [{"CPU": 5}]),
        ({"by": "pbt", "trials": "8"}, [(2, 0)] * 4, [{"CPU": 2}]),
    ],
    ids=[
        "cpu",
        "shares",
        "a-gpu-each",
        "too-few-gpus",
        "learners-gpus",
        "abreast",
        "pbt",
        "pbt-share",
        "pbt-node",
    ],
)
def test_what_a_trial_takes(
    tmp_path: Path,
    said: dict[str, str],
    sizes: list[tuple[float, float]],
    expected: list[dict[str, float]],
):
    """Two at a time, of three seeds each."""
    (tmp_path / "search.yaml").write_text(OFFLINE)
    given = {key: LocatedValue(value, COMMAND_LINE) for key, value in ({"seeds": "3"} | said).items()}
    search = read(tmp_path / "search.yaml", given)
    assert (
        trial_bundles(search, 2, [node(str(number), *size) for number, size in enumerate(sizes)]) == expected
    )


def test_a_role_takes_as_few_nodes_as_it_can_and_only_what_is_free_if_asked():
    nodes = [node("a", 2), node("b", 4, free=1), node("c", 3)]
    roles = [Role("learner", 3, 1, 0), Role("runner", 2, 1, 0)]
    assert place_processes(roles, nodes) == {"learner": ["b"] * 3, "runner": ["c"] * 2}
    layout = place_processes(roles, nodes, free=True)
    assert layout == {"learner": ["c"] * 3, "runner": ["a"] * 2}
    assert format_placement(layout) == "learners on c (3); runners on a (2)"
    assert place_processes([replace(roles[0], count=7)], nodes, free=True) is None


@pytest.mark.parametrize(
    ("sizes", "learners", "expected"),
    [([(4, 0)], 2, 0), ([(4, 1), (4, 1)], 2, 1), ([(4, 1)], 2, 0), ([(4, 8)], 0, None)],
    ids=["none", "on two nodes", "one too few", "learning here"],
)
def test_every_learner_has_a_gpu_or_none_has(
    sizes: list[tuple[int, int]], learners: int, expected: int | None
):
    plan = Plan("iql", "toy-pendulum", learners=learners)
    nodes = [node(str(number), *size) for number, size in enumerate(sizes)]
    assert preflight.gpus_per_learner(plan, nodes) == expected
    assert [role.resources for role in preflight.required_roles(plan, nodes)] == (
        [{"GPU": 1} if expected else {"CPU": 1}] if learners else []
    )


def test_what_is_needed_is_said_for_this_machine_too(data_root: Path, tmp_path: Path):
    size = {"updates": 10, "online": 10, "workers": 2, "learners": 1, "memory": 2**20}
    plan = Plan("iql", "toy-pendulum", out=str(tmp_path), **size)
    there, needed, fits = preflight.describe_capacity(plan, plan.check(), [replace(this_machine(), cpus=4.0)])
    assert there.startswith("available  this machine: 4 CPUs, ")
    # 4,000 rows of 3 + 1 + 1 + 3 + 1 numbers of 4 bytes.
    assert needed == (
        "needs      1 learner of 1 CPU, 2 runners of 1 CPU each, 0.137 MiB of data in each learner; "
        "in this process evaluation and checkpoints"
    )
    assert fits == "fits       for example learners on this machine (1); runners on this machine (2)"


def test_a_cluster_is_the_one_that_was_said_or_the_job_s(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_address(None) is None
    assert cluster_address("a:1") == Plan("iql", "x", address="a:1").address == "a:1"
    monkeypatch.setenv("RAY_ADDRESS", "b:2")
    assert cluster_address("a:1") == "a:1"
    assert cluster_address(None) == Plan("iql", "x", learners=99).address == "b:2"
    assert cluster_address("local") is None  # a Ray of one's own, in a job too
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    with pytest.raises(UserError, match=r"\$RAY_ADDRESS is http://head:8265.*\n.*\n.*ray job submit"):
        cluster_address(None)
    with pytest.raises(UserError, match="--address is ray://head:10001"):
        cluster_address("ray://head:10001")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "nowhere.invalid:6379"])
def test_an_address_where_nobody_answers_is_said_soon(address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests may have one
    began = time.monotonic()
    with pytest.raises(UserError, match=f"no Ray cluster answers at {address}"), ray_started(address, 0):
        pass
    assert time.monotonic() - began < 30
