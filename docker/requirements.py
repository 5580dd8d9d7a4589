"""Print the dependencies of a project: ``requirements.py pyproject.toml EXTRA,EXTRA``.

pip can install dependencies only together with the project, whose code changes with every commit.
The output has one requirement per line: those of the build, of the package, and of the extras.
"""

import sys
import tomllib
from pathlib import Path


def main(file: str, extras: str) -> None:
    """Print the requirements of a pyproject file and some of its extras, separated by commas."""
    document = tomllib.loads(Path(file).read_text())
    project = document["project"]
    requirements = [*document["build-system"]["requires"], *project["dependencies"]]
    for extra in filter(None, extras.split(",")):
        requirements += project["optional-dependencies"][extra]
    sys.stdout.write("\n".join(requirements) + "\n")


main(*sys.argv[1:])
