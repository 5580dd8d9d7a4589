"""Secrets stay out of what is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from datasets_io.storage import locate
from datasets_io.storage.redaction import redact
from off2on.errors import UserError

PLANTED = (
    "hunter2-of-the-cluster",
    "wJalrXUtnFEMI/K7MDENG",
    "0123456789abcdef0123456789abcdef01234567",
    "opensesame",
)
SECRETS = {"AWS_SECRET_ACCESS_KEY": PLANTED[1], "WANDB_API_KEY": PLANTED[2], "LAB_DB_PASSWORD": PLANTED[0]}

TRAINER = """
import os, sys
secret = sys.argv[1]
sys.argv = ["off2on", "train", "bc", "toy-pendulum", "--token", secret, f"https://me:{secret}@lab.org"]
from off2on.commands.arguments import command_line
from off2on.training.plan import Plan
from off2on.training.train import train
import off2on.training.session

def fault(self, side, inner=off2on.training.session.Session._evaluate):
    os.write(2, ("a library says " + os.environ["LAB_DB_PASSWORD"] + "\\n").encode())
    print("somebody says", os.environ["WANDB_API_KEY"])
    if self.algo.updates == 20:
        raise RuntimeError("no answer from s3://AKIA:" + os.environ["AWS_SECRET_ACCESS_KEY"] + "@bucket/x")
    return inner(self, side)

off2on.training.session.Session._evaluate = fault
plan = Plan("bc", "toy-pendulum", hyperparameters={"hidden": "16,16", "batch_size": "16"}, updates=20,
            eval_every=10, eval_episodes=1, threads=1, command=command_line(), track=("mlflow",))
train(plan)
"""


@pytest.fixture(scope="module")
def run_with_secrets(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a run failed, in an environment that holds secrets and with some in its command."""
    lab = tmp_path_factory.mktemp("lab")
    environment = os.environ | SECRETS | {"OFF2ON_DATA": str(data_root)}
    environment |= {"MLFLOW_TRACKING_URI": (lab / "mlruns").as_uri()}
    (lab / "trainer.py").write_text(TRAINER)
    answer = subprocess.run(
        [sys.executable, "trainer.py", PLANTED[3]], cwd=lab, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "no answer from s3" in answer.stderr, answer.stderr
    return lab


@pytest.mark.slow
def test_no_secret_is_written(run_with_secrets: Path):
    run = run_with_secrets / "runs/toy-pendulum/bc-s0"
    log = (run / "log.txt").read_text()
    for words in (
        "somebody says (hidden)",
        "a library says (hidden)",
        "no answer from s3://(hidden)@bucket/x",
    ):
        assert words in log
    about = yaml.safe_load((run / "run.yaml").read_text())
    assert about["command"] == "off2on train bc toy-pendulum --token (hidden) https://(hidden)@lab.org"
    written = [path for path in run_with_secrets.rglob("*") if path.is_file() and path.name != "trainer.py"]
    assert any("tfevents" in path.name for path in written)
    assert any("mlruns" in path.parts for path in written)
    for path in written:
        content = path.read_bytes()
        assert not [secret for secret in PLANTED if secret.encode() in content], path


@pytest.mark.parametrize("secret", PLANTED[:3])
@pytest.mark.parametrize("around", ["{}", "a {} b", "x={}&", "'{}'", "é{}é"])
def test_values_of_secret_variables_are_hidden(secret: str, around: str, monkeypatch: pytest.MonkeyPatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert secret not in redact({"a": [around.format(secret)]})["a"][0]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("--password x y", "--password (hidden) y"),
        ("api_key=x hidden=16,16", "api_key=(hidden) hidden=16,16"),
        ("AWS_SECRET_ACCESS_KEY='a b' off2on", "AWS_SECRET_ACCESS_KEY=(hidden) off2on"),
        ("s3://key:a/b+c@bucket/x", "s3://(hidden)@bucket/x"),
        ("https://h/x?a=1&X-Amz-Signature=f00&b=2", "https://h/x?a=1&X-Amz-Signature=(hidden)&b=2"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer (hidden)"),
        ("AKIAIOSFODNN7EXAMPLE", "(hidden)"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(said: str, written: str):
    assert redact(said) == written


@pytest.mark.parametrize(
    "said",
    [
        "off2on train iql hopper-medium-v2 actor_lr=3e-4 hidden=256,256 --utd 0.5 online.utd=2 @file.yaml",
        "s3://bucket/runs/hopper@1+",
        "its token in ~/.ray/auth_token",
        "127.0.0.1:6379 git@github.com:lab/runs.git",
        "entropy -3.2, q 120.5; ~/.netrc",
    ],
)
def test_what_is_no_secret_stays(said: str):
    assert redact(said) == said


def test_an_address_with_a_key_is_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"s3://\(hidden\)@bucket/data contains a user") as refused:
        locate(f"s3://key:{PLANTED[1]}@bucket/data")
    assert PLANTED[1] not in str(refused.value)
