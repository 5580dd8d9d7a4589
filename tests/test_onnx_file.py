"""Policies in ONNX: ONNX Runtime computes the actions of policy.pt."""

import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from command import off2on, succeeds
from made_runs import make_run

from off2on.cli import main
from off2on.errors import UserError
from off2on.policy import load_policy
from off2on.policy_files.onnx_file import write_onnx


@pytest.fixture
def exported(build_learner: Any, representative: Any, tmp_path: Path) -> Path:
    """Write the policy of a new learner."""
    learner = build_learner(
        representative, "toy-cartpole" if representative.actions == "discrete" else "wide"
    )
    file = tmp_path / "policy.pt"
    file.write_bytes(learner.module["default_policy"].policy.export())
    return file


@pytest.mark.slow
def test_the_actions_are_those_of_the_policy(exported: Path, tmp_path: Path):
    target = tmp_path / "policy.onnx"
    write_onnx(exported, target, {"algorithm": "iql"})
    policy, session = load_policy(exported), onnxruntime.InferenceSession(target)
    ((given,), (made,)) = session.get_inputs(), session.get_outputs()
    assert (given.name, made.name, given.shape[0]) == ("obs", "actions", "rows")
    for rows in (1, 2, 7):
        obs = torch.randn(rows, given.shape[1])
        (actions,) = session.run(None, {"obs": obs.numpy()})
        expected = policy(obs).detach().numpy()
        assert actions.dtype == expected.dtype
        np.testing.assert_allclose(actions, expected, rtol=1e-4, atol=1e-5)
    assert [(one.key, one.value) for one in onnx.load(target).metadata_props] == [("algorithm", "iql")]


def test_a_file_that_is_no_policy_writes_nothing(tmp_path: Path):
    (tmp_path / "policy.pt").write_bytes(b"no")
    with pytest.raises(UserError, match="is not a policy file"):
        write_onnx(tmp_path / "policy.pt", tmp_path / "policy.onnx", {})
    assert not (tmp_path / "policy.onnx").exists()


def test_a_missing_package_is_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match="onnxscript is not installed") as error:
        write_onnx(tmp_path / "policy.pt", tmp_path / "policy.onnx", {})
    assert "pip install 'off2on[onnx]'" in str(error.value)


def test_the_line_that_replaces_a_file_has_all_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run = make_run(tmp_path / "my run")
    for name in ("checkpoints/handover/policy.pt", "a b.onnx"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).touch()
    words = ["export", str(run), str(run / "a b.onnx"), "--checkpoint", "handover"]
    monkeypatch.setattr(sys, "argv", ["off2on", *words])
    assert main() == 2
    assert f"try: {shlex.join(['off2on', *words, '--overwrite'])}\n" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_writes_beside_the_policy_and_replaces_nothing_unasked(data_root: Path, tmp_path: Path):
    words = ["train", "iql", "toy-pendulum", "--updates", "1", "--eval-episodes", "1", "hidden=8,8"]
    succeeds(tmp_path, *words, OFF2ON_DATA=data_root)
    run = tmp_path / "runs/toy-pendulum/iql-s0"
    succeeds(tmp_path, "export", run)
    properties = {one.key: one.value for one in onnx.load(run / "policy.onnx").metadata_props}
    assert properties["algorithm"] == "iql"
    assert properties["environment"] == "Pendulum-v1"
    assert properties["data"] == "toy-pendulum"
    before = (run / "policy.onnx").stat().st_mtime_ns
    refused = off2on(tmp_path, "export", run)
    assert refused.returncode == 2
    assert f"off2on export {run} --overwrite" in refused.stderr
    assert (run / "policy.onnx").stat().st_mtime_ns == before
    succeeds(tmp_path, "export", run, "--overwrite")
    assert (run / "policy.onnx").stat().st_mtime_ns > before
