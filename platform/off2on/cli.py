"""The command line: ``off2on VERB …``. Results on stdout, all else on stderr.

Exit codes: 0 done · 2 the user must change something · 3 data refused · 4 a learner died ·
130 interrupted, checkpoint kept · 1 a fault of ours, with its traceback.
"""

import os
import re
import shlex
import sys
import warnings
from collections.abc import Sequence

import click

from off2on import __version__
from off2on.commands.algos import algos
from off2on.commands.compare import compare
from off2on.commands.data import data
from off2on.commands.doctor import doctor
from off2on.commands.evaluate import evaluate
from off2on.commands.ope import ope
from off2on.commands.plan import plan
from off2on.commands.report import report
from off2on.commands.serve import serve
from off2on.commands.strategies import strategies
from off2on.commands.train import train
from off2on.commands.tune import tune
from off2on.errors import HyperparameterError, LearnerDied, RecipeError, UserError, nearest


class Verbs(click.Group):
    """Lists its verbs in the order of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """As they were added."""
        return list(self.commands)


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\noff2on data add toy-pendulum\noff2on train iql toy-pendulum --updates 10k --online 5k",
)
@click.version_option(__version__, message="off2on %(version)s")
def off2on() -> None:
    """Learn policies from recorded data, then keep improving them in the world."""


for verb in (data, algos, strategies, plan, train, tune, evaluate, ope, compare, report, serve, doctor):
    off2on.add_command(verb)


def main() -> int:
    """The entry point: runs a verb, and turns what it raises into a message and an exit code."""
    here = os.getcwd()
    if here not in sys.path:
        # An installed command does not look there by itself; Ray gives it to its workers.
        sys.path.insert(0, here)
    if not sys.warnoptions:
        # Other libraries' notes to their own developers. -W or PYTHONWARNINGS brings them back.
        warnings.simplefilter("ignore")
    arguments = sys.argv[1:]
    try:
        status = off2on.main(arguments, prog_name="off2on", standalone_mode=False)
    except click.Abort:
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        return _say(_usage(error, arguments), arguments)
    except UserError as error:
        return _say(error, arguments)
    except LearnerDied as error:
        click.echo(f"error: {error}\n  try: {_line(_with(arguments, '--resume'))}", err=True)
        return error.exit_code
    return status if isinstance(status, int) else 0


def _say(error: UserError, arguments: Sequence[str]) -> int:
    """Prints what is wrong, what was expected, and a line to paste."""
    attempt = _corrected(error, arguments) or error.attempt or _where_to_look(error, arguments)
    if attempt.startswith("-") and " · " not in attempt and ", or " not in attempt:
        attempt = _line([*arguments, *shlex.split(attempt)])
    click.echo(f"error: {UserError(error.what, error.expected, attempt)}", err=True)
    return error.exit_code


def _usage(error: click.ClickException, arguments: Sequence[str]) -> UserError:
    """Click's complaint in our three parts."""
    message = error.format_message()
    expected = ""
    if isinstance(error, click.NoSuchOption):
        message, near = f"there is no option '{error.option_name}'.", error.possibilities or ()
        expected = nearest(error.option_name, near).strip()
    elif (found := re.fullmatch(r"No such command '(.+)'\.(.*)", message)) is not None:
        context = getattr(error, "ctx", None)
        known = context.command.list_commands(context) if context else []
        message = f"there is no verb '{found[1]}'."
        expected = f"{nearest(found[1], known)}All: {' '.join(known)}"
    return UserError(message[:1].lower() + message[1:], expected)


def _corrected(error: UserError, arguments: Sequence[str]) -> str:
    """The command line as it was typed, with the nearest name in place of the wrong one."""
    near = re.match(r"nearest: (\S+?)[.,;]? ", f"{error.expected} ")
    wrong = re.search(r"'([^']+)'", error.what)
    if not near or not wrong:
        return ""
    name = re.compile(rf"(?<![\w-]){re.escape(wrong[1].partition('=')[0])}(?![\w-])")
    fixed = [name.sub(near[1], argument) for argument in arguments]
    return _line(fixed) if fixed != list(arguments) else ""


def _where_to_look(error: UserError, arguments: Sequence[str]) -> str:
    """The page that says what is right: of the algorithm, or of the verb."""
    verb, *rest = [argument for argument in arguments if not argument.startswith("-")] or [""]
    if verb == "train" and isinstance(error, HyperparameterError) and rest:
        from off2on.algorithms import CATALOGUE

        is_algorithm = rest[0] in CATALOGUE or ":" in rest[0]  # or it is the run of --from
        return _line(["algos", *rest[:1]] if is_algorithm else ["algos"])
    if isinstance(error, RecipeError):
        return _line(["algos", "iql"])  # one whose names agree, and its file
    if verb == "data" and rest and rest[0] in data.commands:
        return _line([verb, rest[0], "-h"])
    return _line([verb, "-h"] if verb in off2on.commands else ["-h"])


def _with(arguments: Sequence[str], option: str) -> list[str]:
    return list(arguments) if option in arguments else [*arguments, option]


def _line(arguments: Sequence[str]) -> str:
    return shlex.join(["off2on", *arguments])
