"""Compiled updates: the numbers of traced ones up to rounding, and exactly the same after a resume."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from real_learners import ask, configured, everything, same

from off2on.algorithms.awac import AWAC
from off2on.algorithms.bc import BC
from off2on.algorithms.iql import IQL
from off2on.algorithms.td3_bc import TD3BC
from off2on.errors import HyperparameterError
from off2on.rllib.traced.compilation import Compilation, check_difference, cpp_compiler
from off2on.rllib.traced.compiled import adam_

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
needs_compiler = pytest.mark.skipif(cpp_compiler() is None, reason="no C++ compiler on this machine")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile into a folder of the session."""
    monkeypatch.setenv("OFF2ON_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def advance(learner: Any, updates: int) -> dict[str, Any]:
    learner.traced.after = 1
    learner.advance(updates)
    return everything(learner)


def apart(found: dict[str, Any], expected: dict[str, Any], start: dict[str, Any]) -> float:
    """Largest norm of a difference of weights, relative to the norm of their change."""
    return max(
        float((found["nets"][name] - value).norm() / (value - start["nets"][name]).norm())
        for name, value in expected["nets"].items()
        if not torch.equal(value, start["nets"][name])
    )


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("recipe", [BC, TD3BC, IQL, AWAC])
def test_a_compiled_run_differs_by_rounding(build_learner: Any, recipe: Any):
    start, found = (build_learner(recipe, "wide") for _ in range(2))
    found.traced.compilation = Compilation("on", 100, found.device)
    before = {"nets": {name: value.clone() for name, value in start.nets.state_dict().items()}}
    expected = advance(start, 30)
    compiled = advance(found, 30)
    assert found.traced.compilation.since is not None
    assert list((Path(os.environ["OFF2ON_CACHE"]) / "compiled").rglob("*.so"))
    assert found.traced.repeated > 20
    assert 0 < apart(compiled, expected, before) < 1e-3


@needs_compiler
@pytest.mark.slow
def test_a_resumed_run_is_bit_equal(data_root: Path, tmp_path: Path):
    config = configured(TD3BC, offline=60, compile="on", updates_per_call=30)
    with config.build_algo() as whole:
        ask(whole, advance, updates=30)
        whole.updates = 30
        whole.save_to_path(str(tmp_path / "half"))
        ask(whole, advance, updates=30)
        (expected,) = ask(whole)
    with config.build_algo() as resumed:
        resumed.restore_from_path(str(tmp_path / "half"))
        ask(resumed, advance, updates=30)
        (found,) = ask(resumed)
        (since,) = ask(resumed, lambda learner: learner.traced.compilation.since)
    assert since is not None
    assert since <= 30
    assert same(found, expected)


def test_no_compiler_means_no_compiling(
    build_learner: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    learner = build_learner(TD3BC)
    learner.traced.compilation = Compilation("on", 100, learner.device)
    advance(learner, 20)
    assert learner.traced.compilation.mode == "off"
    assert learner.traced.repeated > 10
    assert "no C++ compiler" in caplog.text


def test_a_program_that_computes_something_else_is_refused_for_every_kind_of_update(
    build_learner: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """TD3+BC has two kinds, with and without its policy; the program of the second is wrong."""
    kinds: list[Any] = []

    def compiled(self: Compilation, trace: Any) -> Any:
        kinds.append(trace)
        is_wrong = len(kinds) > 1

        def run(*inputs: torch.Tensor) -> Any:
            outputs = trace.plain(*inputs)
            if is_wrong:
                inputs[0].add_(1)
            return outputs

        return run

    monkeypatch.setattr(Compilation, "compile", compiled)
    expected, found = build_learner(TD3BC), build_learner(TD3BC)
    found.traced.compilation = Compilation("on", 100, found.device)
    assert same(advance(found, 30), advance(expected, 30))
    assert len(kinds) > 1
    assert "differs by" in caplog.text


def test_nan_is_a_difference():
    before, after = ({"vector/a": torch.full((3,), value)} for value in (0.0, 1.0))
    check_difference(before, after, after, "float32")
    for wrong in (torch.nan, 1.01):
        with pytest.raises(ValueError, match="differs"):
            check_difference(before, after, {"vector/a": torch.full((3,), wrong)}, "float32")


def test_a_short_run_is_not_compiled_by_itself():
    device = torch.device("cpu")
    assert not Compilation("auto", 40_000, device).is_open(100)
    assert Compilation("auto", 1_000_000, device).is_open(100)
    assert not Compilation("off", 1_000_000, device).is_open(100)
    assert Compilation("on", 200, device).is_open(100)


def test_another_mode_is_refused():
    with pytest.raises(HyperparameterError, match="auto, on, off"):
        IQL.configure().training(compile="maybe")


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_the_written_out_adam_is_torchs(kind: type[torch.optim.Adam], weight_decay: float):
    torch.manual_seed(0)
    vector, lr = torch.randn(50), torch.tensor(3e-2, dtype=torch.float64)
    optimizer = kind([vector], lr=3e-2, weight_decay=weight_decay, fused=True)
    own, mean, square = vector.clone(), torch.zeros(50), torch.zeros(50)
    for count in range(1, 6):
        vector.grad = torch.randn(50)
        optimizer.step()
        adam_(
            own, vector.grad, mean, square, torch.tensor(float(count)), lr,
            0.9, 0.999, weight_decay, 1e-8, kind is torch.optim.AdamW,
        )  # fmt: skip
    torch.testing.assert_close(own, vector, rtol=1e-6, atol=1e-7)
