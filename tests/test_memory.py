"""Check the default memory budget of the data."""

import resource
from pathlib import Path

import pytest

from off2on.replay import memory_budget
from off2on.replay.memory_budget import default_budget, total_memory
from off2on.training.plan import Plan


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(bytes, cgroup text, {file: limit}): what the system says."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY,) * 2)
    monkeypatch.setattr(memory_budget, "_CGROUP_ROOT", tmp_path)
    true = Path.read_text

    def make(pages, groups="", limits=()):
        monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": pages}.__getitem__)

        def read(path):
            return groups if str(path) == "/proc/self/cgroup" else true(path)

        monkeypatch.setattr(Path, "read_text", read)
        for name, limit in dict(limits).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(limit)

    return make


def test_a_quarter_of_the_machine_is_shared_by_its_learners(machine):
    machine(64 * 2**30)
    assert default_budget() == 16 * 2**30
    assert default_budget(4) == 4 * 2**30
    machine(64 * 2**30 + 4096 * 1000)
    assert default_budget() == 16 * 2**30  # nearly the same machine


@pytest.mark.parametrize(
    ("groups", "limits", "found"),
    [
        ("0::/\n", {"memory.max": "max\n"}, 64),
        ("0::/\n", {"memory.max": f"{8 * 2**30}\n"}, 8),
        (
            "0::/job/step\n",
            {"job/memory.max": f"{6 * 2**30}\n", "job/step/memory.max": "max\n"},
            6,
        ),
        ("4:memory:/job\n3:cpu:/\n", {"memory/job/memory.limit_in_bytes": f"{5 * 2**30}\n"}, 5),
        ("4:memory:/host/path\n", {"memory/memory.limit_in_bytes": f"{7 * 2**30}\n"}, 7),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 64),
    ],
)
def test_a_container_has_what_its_control_group_leaves(machine, groups, limits, found):
    machine(64 * 2**30, groups, limits)
    assert total_memory() == found * 2**30


def test_a_limit_of_the_user_counts(machine, monkeypatch):
    machine(64 * 2**30)
    monkeypatch.setattr(
        resource, "getrlimit", {resource.RLIMIT_AS: (2**33, -1), resource.RLIMIT_DATA: (-1, -1)}.get
    )
    assert total_memory() == 2**33


def test_a_plan_takes_it_unless_it_is_told():
    assert Plan("iql", "toy").memory == default_budget()
    assert Plan("iql", "toy", learners=2).memory == default_budget(2)
    assert Plan("iql", "toy", memory=2**25).memory == 2**25
