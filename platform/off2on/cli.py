"""The command line, ``off2on COMMAND …``: results on stdout, everything else on stderr.

Exit codes: 0 success · 1 some runs of several failed, or there is no result · 2 wrong usage, an error in code
of the user, or a diverged run · 3 data refused · 4 a learner stopped and could not be replaced · 70 a defect
of off2on, with a file for a report · 130 interrupted, checkpoint kept.
"""

import os
import platform
import shlex
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence

import click

from datasets_io.errors import printable
from datasets_io.imports import installed_version
from datasets_io.storage.redaction import redact
from off2on import __version__
from off2on.commands.algos import algos
from off2on.commands.compare import compare
from off2on.commands.corrected_line import with_options
from off2on.commands.data import data
from off2on.commands.doctor import doctor
from off2on.commands.evaluate import evaluate
from off2on.commands.export_policy import export_policy
from off2on.commands.ope import ope
from off2on.commands.plan import plan
from off2on.commands.report import report
from off2on.commands.serve import serve
from off2on.commands.strategies import strategies
from off2on.commands.train import train
from off2on.commands.tune import tune
from off2on.errors import (
    HyperparameterError,
    LearnerDied,
    RayNotStarted,
    RecipeError,
    UserCodeError,
    UserError,
)

DEFECT = 70
"""Exit code of a defect of off2on (EX_SOFTWARE of sysexits.h)."""

_REPORTED = ("ray", "torch", "gymnasium", "numpy", "pyarrow", "h5py", "minari", "mujoco")
"""Packages whose versions are in the file for a report."""


class InOrderOfUse(click.Group):
    """A group that lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)


@click.group(
    cls=InOrderOfUse,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="off2on data add toy-pendulum && off2on train iql toy-pendulum --updates 10k",
)
@click.version_option(__version__, message="off2on %(version)s")
def off2on() -> None:
    """Train policies on recorded data, then improve them in the environment."""


for command in (
    data,
    algos,
    strategies,
    plan,
    train,
    tune,
    evaluate,
    ope,
    compare,
    report,
    export_policy,
    serve,
    doctor,
):
    off2on.add_command(command)


def main() -> int:
    """Run a command; convert the errors that it raises to a message and an exit code.

    With ``OFF2ON_DEBUG=1`` defects of off2on are raised with their traceback.
    """
    # Python processes that libraries start with -c (glfw's does) search the current folder first otherwise.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    if not sys.warnoptions:
        # They are meant for developers of other libraries. -W or PYTHONWARNINGS shows them.
        warnings.simplefilter("ignore")
    arguments = sys.argv[1:]
    try:
        status = off2on.main(arguments, prog_name="off2on", standalone_mode=False)
    except click.Abort:
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        return _say(_usage(error), arguments)
    except UserError as error:
        return _say(error, arguments)
    except LearnerDied as error:
        click.echo(f"error: {error}\n  try: {_line(with_options(arguments, ['--resume']))}", err=True)
        return error.exit_code
    except Exception as error:
        if os.environ.get("OFF2ON_DEBUG", "0") not in ("", "0"):
            raise
        file = _write_report(error)
        words = redact(f"{type(error).__name__}: {error}".strip().partition("\n")[0])
        report = f"The traceback is in {file}: attach it to a report, if this is a defect of off2on."
        click.echo(printable(f"error: {words}\n       {report}"), err=True)
        return DEFECT
    return status if isinstance(status, int) else 0


def _write_report(error: Exception) -> str:
    """Write traceback, command and versions into a new file in the system's temporary folder."""
    about = [
        f"command   {_line(sys.argv[1:])}",
        f"off2on    {__version__}",
        f"python    {platform.python_version()} on {platform.platform()}",
        *(f"{name:<9} {installed_version(name) or 'not installed'}" for name in _REPORTED),
        "",
        *traceback.format_exception(error),
    ]
    descriptor, file = tempfile.mkstemp(".txt", "off2on-error-")
    with os.fdopen(descriptor, "w", errors="backslashreplace") as report:
        report.write("\n".join(redact(about)))
    return file


def _say(error: UserError, arguments: Sequence[str]) -> int:
    """Print what is wrong, what was expected, and a line to paste; return the exit code."""
    try_ = _corrected(error, arguments) or error.try_ or _help_page(error, arguments)
    if try_.startswith("-"):
        try_ = _line(with_options(arguments, shlex.split(try_), error.given))
    error.try_ = try_
    click.echo(f"error: {error}", err=True)
    return error.exit_code


def _usage(error: click.ClickException) -> UserError:
    """Convert an error of click."""
    if isinstance(error, click.NoSuchOption):
        name, known = error.option_name, error.possibilities or ()
        return UserError(f"there is no option '{name}'.", given=name, known=known)
    if isinstance(error, click.NoSuchCommand):
        name, group = error.command_name, error.ctx.command if error.ctx else None
        commands = group.list_commands(error.ctx) if isinstance(group, click.Group) and error.ctx else []
        return UserError(
            f"there is no command '{name}'.", f"All: {' '.join(commands)}", given=name, known=commands
        )
    message = error.format_message()
    return UserError(message[:1].lower() + message[1:])


def _corrected(error: UserError, arguments: Sequence[str]) -> str:
    """Return the given command line with the nearest name in place of the wrong one, or nothing."""
    fixed = [error.corrected(argument) for argument in arguments]
    return _line(fixed) if fixed != list(arguments) else ""


def _help_page(error: UserError, arguments: Sequence[str]) -> str:
    """Return the command to run again, that prints the names of the algorithm, or a help page."""
    command, *rest = [argument for argument in arguments if not argument.startswith("-")] or [""]
    if command == "train" and isinstance(error, HyperparameterError) and rest:
        from off2on.algorithms import CATALOGUE

        is_algorithm = rest[0] in CATALOGUE or ":" in rest[0]  # or it is the run of --from
        return _line(["algos", *rest[:1]] if is_algorithm else ["algos"])
    if isinstance(error, UserCodeError):
        return ""
    if isinstance(error, RayNotStarted):  # a run has its folder by then
        return _line(with_options(arguments, ["--resume"]) if command == "train" else arguments)
    if isinstance(error, RecipeError) and command in ("train", "plan", "algos"):
        return _line(["algos", "iql"])  # an example whose objectives and losses have matching names
    if command == "data" and rest and rest[0] in data.commands:
        return _line([command, rest[0], "-h"])
    return _line([command, "-h"] if command in off2on.commands else ["-h"])


def _line(arguments: Sequence[str]) -> str:
    return shlex.join(["off2on", *arguments])
