"""What a project depends on, without the project: ``requirements.py pyproject.toml EXTRA,EXTRA``.

pip can install dependencies only together with the project, whose code changes with every commit.
Prints one requirement a line: to build it, to run it, and for the extras.
"""

import sys
import tomllib
from pathlib import Path


def main(file: str, extras: str) -> None:
    """Print them."""
    stated = tomllib.loads(Path(file).read_text())
    project = stated["project"]
    wanted = [*stated["build-system"]["requires"], *project["dependencies"]]
    for extra in filter(None, extras.split(",")):
        wanted += project["optional-dependencies"][extra]
    sys.stdout.write("\n".join(wanted) + "\n")


main(*sys.argv[1:])
