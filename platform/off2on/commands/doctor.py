"""``off2on doctor``: is all there that a run needs?"""

import click

from off2on.commands.output import print_json


@click.command(short_help="What this machine has, in a line to paste.")
@click.option("--json", "json_", is_flag=True)
@click.pass_context
def doctor(ctx: click.Context, json_: bool) -> None:
    """Versions, devices, memory, disk: one line to paste, and what is wrong."""
    from off2on.training.machine import examine, one_line

    about = examine()
    if json_:
        print_json(about)
    else:
        click.echo(one_line(about))
        for what, attempt in about["problems"]:
            click.echo(f"error: {what}\n  try: {attempt}", err=True)
    ctx.exit(2 if about["problems"] else 0)
