"""What ``off2on train --dry-run`` tells instead of training."""

from typing import TYPE_CHECKING

import click

from off2on.commands.algos import plain
from off2on.commands.screen import table
from off2on.training.command_line import ASKED_OF_STRATEGY, OTHERWISE_ONLINE

if TYPE_CHECKING:
    from off2on.training.plan import Plan, ResolvedPlan


def tell(checked: "ResolvedPlan", plans: list["Plan"]) -> None:
    """The first plan on stdout, option, value, origin; then what there is for it, and what it needs."""
    plan = plans[0]
    rows = [("option", "value", "origin"), *plan.describe()]
    origins = plan.set_by(checked)
    rows += [(name, plain(value), origins[name]) for name, value in checked.hp.as_dict().items()]
    for option, value in checked.strategy.as_dict().items():
        name = ASKED_OF_STRATEGY + option
        rows.append((name, plain(value), plan.origins.get(name, "default")))
    rows += [
        (name, plain(value), origin)
        for name, value, default, origin in plan.describe_online_settings(checked)
        if value != default or name.removeprefix(OTHERWISE_ONLINE) not in checked.hp.rules()
    ]
    table((name, value or "–", origin) for name, value, origin in rows)
    folders = ", ".join(str(each.place) for each in plans)
    _tell_room(checked, plan)
    click.echo(f"all is well; nothing was started. It would write {folders}", err=True)


def _tell_room(checked: "ResolvedPlan", plan: "Plan") -> None:
    """What there is to run it on, what it needs and who goes where; a cluster is joined to see."""
    from off2on.training.cluster.preflight import check_capacity, machine, told
    from off2on.training.process import ray_started

    if plan.address is None:
        for text in told(plan, checked, [machine()]):
            click.echo(text)
    else:
        with ray_started(plan.address, 0):
            check_capacity(plan, checked, click.echo)
