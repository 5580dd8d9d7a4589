"""Execute the Dockerfile without a container engine, as root: a stage is a layer over the machine's files."""

import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
BASE = "python"
LIMIT = 1500
"""Seconds for a step."""


class Instruction(NamedTuple):
    """A line of a Dockerfile."""

    word: str
    rest: str


def instructions() -> list[Instruction]:
    """Of the Dockerfile, without comments, each on one line."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "docker" / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in lines if line.strip()]


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
