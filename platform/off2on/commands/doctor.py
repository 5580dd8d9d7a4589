"""``off2on doctor``: describe this machine and its problems."""

import click

from off2on.commands.output import print_json


@click.command(short_help="Describe this machine in one line to paste into an issue.")
@click.option("--json", "json_", is_flag=True)
@click.pass_context
def doctor(ctx: click.Context, json_: bool) -> None:
    """Print versions, devices, memory and disk in one line, and the problems found."""
    from off2on.training.machine import examine, summary_line

    about = examine()
    if json_:
        print_json(about)
    else:
        click.echo(summary_line(about))
        for what, try_ in about["problems"]:
            click.echo(f"error: {what}\n  try: {try_}", err=True)
    ctx.exit(2 if about["problems"] else 0)
