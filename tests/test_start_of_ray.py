"""A Ray that does not start is told as that; a damaged policy is told before Ray is started."""

import os
import re
import shutil
import socket
import tempfile
from pathlib import Path

import forked
import pytest
import ray
from command import PATIENCE, environment, off2on, short_run

from datasets_io.local_ray import _TOO_SLOW

RUN = "runs/toy-pendulum/td3_bc-s0"
NODE = Path(ray.__file__).with_name("_private").joinpath("node.py").read_text()
START_LIMIT = "RAY_gcs_server_port_wait_time_s"
"""The variable for the seconds that Ray waits for the first of its processes."""
SEARCH = """\
algorithm: td3_bc
data: toy-pendulum
updates: 40
trials: 2
search:
  actor_lr: {one_of: [1e-4, 1e-3]}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A folder with a short run and a search."""
    place = tmp_path_factory.mktemp("lab")
    short_run(place, OFF2ON_DATA=data_root)
    (place / "search.yaml").write_text(SEARCH)
    return place


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_a_damaged_policy_is_named_before_ray_is_started(lab: Path, data_root: Path):
    pytest.importorskip("ray.serve", reason="ray[serve] is not installed")
    shutil.copytree(lab / RUN, lab / "damaged", symlinks=True)
    os.truncate(lab / "damaged/policy.pt", 2000)
    done = off2on(lab, "serve", "damaged", "--port", str(free_port()), OFF2ON_DATA=data_root)
    assert done.returncode == 3, done.stderr
    starting, error, _, try_ = done.stderr.splitlines()
    assert starting.startswith("starting   damaged (last) on 127.0.0.1:")
    assert error.startswith("error: damaged/policy.pt is not a policy file: ")
    assert try_.endswith(" --checkpoint handover"), "the run has another policy"
    shutil.rmtree(lab / "damaged/checkpoints")
    done = off2on(lab, "serve", "damaged", "--port", str(free_port()), OFF2ON_DATA=data_root)
    assert done.returncode == 3, done.stderr
    assert "--checkpoint" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(START_LIMIT not in NODE, reason="this Ray has no variable for the time of its start")
@pytest.mark.parametrize(
    ("words", "try_"),
    [
        (f"serve {RUN} --port {{port}}", "off2on {words}"),
        ("train td3_bc toy-pendulum --updates 40 --learners 1 --seed 7", "off2on {words} --resume"),
        ("tune search.yaml", "off2on {words}"),
    ],
)
def test_a_ray_that_does_not_start_in_time_is_told_as_that(
    lab: Path, data_root: Path, tmp_path: Path, words: str, try_: str
):
    words = words.format(port=free_port())
    place = Path(tempfile.mkdtemp(dir="/tmp"))  # the paths of Ray's sockets must be short
    variables = {"OFF2ON_DATA": str(data_root), "RAY_TMPDIR": str(place), "TMPDIR": str(tmp_path)}
    variables[START_LIMIT] = "0"
    done = forked.run(lab, *words.split(), env=environment() | variables, timeout=PATIENCE)
    assert done.returncode == 2, done.stderr
    assert re.search(r"error: Ray did not start within \d+ s; this machine may be too busy\.\n", done.stderr)
    assert "/session_" not in done.stderr
    assert done.stderr.endswith(f"\n  try: {try_.format(words=words)}\n"), done.stderr
    assert not list(tmp_path.glob("off2on-error-*")), "it is no defect of off2on"
    place.rmdir()  # nothing of Ray is left


@pytest.mark.parametrize("said", ["The current node timed out during startup.", "may not have started"])
def test_what_ray_says_of_a_node_that_is_too_slow_is_recognised(said: str):
    assert said in NODE
    assert _TOO_SLOW.search(said)
