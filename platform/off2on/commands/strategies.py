"""``off2on strategies``: fine-tuning strategies and online settings; with NAME, the page of a strategy."""

import inspect
import os
import sys
from typing import Any

import click

from off2on.commands.algos import hyperparameter, plain
from off2on.commands.output import print_json, print_table, print_wrapped_table

HEAD = ("default", "range", "search", "meaning")


@click.command(short_help="List fine-tuning strategies and online settings.")
@click.argument("name", required=False)
@click.option("--json", "json_", is_flag=True)
def strategies(name: str | None, json_: bool) -> None:
    """List the fine-tuning strategies and the settings of the online phase.

    With NAME, describe that strategy. NAME is one of the list, or package.module:Class.
    """
    if name is not None:
        page = _page(name)
        print_json(page) if json_ else _show(page)
        return
    from off2on.online.settings import OnlineSettings
    from off2on.strategies import CATALOGUE
    from off2on.training.guard import GuardOptions

    online, guard = _settings(OnlineSettings), _settings(GuardOptions)
    if json_:
        rows = [{"name": key, "summary": summary} for key, (_, summary) in CATALOGUE.items()]
        print_json({"strategies": rows, "online_settings": online, "guard": guard})
        return
    print_table([("--strategy", "batches of"), *((key, summary) for key, (_, summary) in CATALOGUE.items())])
    click.echo()
    for prefix, settings in (("online.", online), ("guard.", guard)):
        print_wrapped_table(
            [(f"{prefix}NAME=", *HEAD), *((key, *hyperparameter(of)) for key, of in settings.items())]
        )
    click.echo("\nHyperparameters can have another value in the online phase: online.actor_lr=1e-4.")
    click.echo("Describe one strategy: off2on strategies NAME")


def _page(name: str) -> dict[str, Any]:
    """Return the description of a strategy as plain values."""
    from off2on.strategies import find_strategy

    kind = find_strategy(name)
    module = sys.modules[kind.__module__]
    online = "20k" if kind.online_settings.get("warm_up") else "5k"  # more than the steps without updates
    return {
        "name": name,
        "file": os.path.relpath(inspect.getsourcefile(kind) or ""),
        "description": inspect.getdoc(module) or inspect.getdoc(kind) or "",
        "options": _settings(kind.Options),
        "online_settings": dict(kind.online_settings),
        "try": f"off2on train cql toy-pendulum --updates 10k --online {online} --strategy {name}",
    }


def _settings(kind: Any) -> dict[str, dict[str, Any]]:
    """Return default, range, search range and meaning of every setting, by name."""
    defaults = kind().as_dict()
    return {
        key: {"default": defaults[key], "range": rule.range(), "search": rule.search, "meaning": rule.meaning}
        for key, rule in kind.rules().items()
    }


def _show(page: dict[str, Any]) -> None:
    """Print the page of a strategy."""
    click.echo(page["description"])
    if page["options"]:
        click.echo()
        rows = [(key, *hyperparameter(setting)) for key, setting in page["options"].items()]
        print_wrapped_table([("strategy.NAME=", *HEAD), *rows])
    if page["online_settings"]:
        settings = " ".join(f"online.{key}={plain(value)}" for key, value in page["online_settings"].items())
        click.echo(f"\ndefaults with this strategy: {settings}")
    click.echo(f"\nfile  {page['file']}")
    click.echo(f"try   {page['try']}")
