"""What a command costs before it does something: its imports, and its help."""

import resource
from pathlib import Path

import pytest
from command import HEAVY, run_process, succeeds, with_its_imports


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with toy data."""
    lab = tmp_path_factory.mktemp("lab")
    succeeds(lab, "data", "add", "toy-pendulum", "episodes=4")
    return lab


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        ("--help", set()),
        ("train -h", set()),
        ("data add -h", set()),
        ("algos", set()),
        ("data list --catalogue", HEAVY - {"torch", "ray", "matplotlib"}),
        ("data show toy-pendulum", HEAVY - {"torch", "ray", "matplotlib"}),
    ],
)
def test_a_verb_imports_only_what_it_needs(lab: Path, words: str, allowed: set[str]) -> None:
    _, packages = with_its_imports(lab, words.split())
    assert not packages & (HEAVY - allowed)


def test_help_is_quick_and_short(tmp_path: Path) -> None:
    def seconds() -> tuple[float, str]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = run_process(tmp_path, "--help").stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, said

    # Processor time, and the best of three: the clock would measure what else the machine does.
    (best, said), *_ = sorted(seconds() for _ in range(3))
    assert best <= 0.3
    assert len(said.splitlines()) <= 24
    assert run_process(tmp_path, "-h").stdout == said


def test_the_help_states_the_defaults_of_the_plan(tmp_path: Path) -> None:
    from off2on.online.settings import OnlineSettings
    from off2on.training.plan import Plan

    said = run_process(tmp_path, "train", "-h").stdout
    plan = Plan("iql", "toy")
    written = {
        "updates": "1M",
        "online": "0",
        "strategy": "symmetric",
        "seed": "0",
        "learners": "0",
        "workers": "0",
    }
    written |= {"envs": "1", "utd": "1.0", "eval-episodes": "10", "out": "runs"}
    scale = {"1M": "1000000"}
    for option, default in written.items():
        about = said.partition(f"  --{option} ")[2].partition("\n  --")[0]
        assert f"[{default}]" in about
        name = option.replace("-", "_")
        kept = plan if hasattr(plan, name) else OnlineSettings()
        assert str(getattr(kept, name)) == scale.get(default, default)
