"""``off2on plan``: estimate memory, transfers, machines and time of a run; a few seconds of measurement."""

from typing import Any

import click

from off2on.commands.arguments import command_line
from off2on.commands.options import run_options
from off2on.commands.output import ProgressLine, format_size, plural, print_json, print_line, print_table

UNUSED_FOLDER = "/dev/null"
"""Output folder of a plan that is not carried out, so that no existing run of its name is in the way."""

OPTIONS = (
    *("updates", "online", "strategy", "env", "learners", "workers", "envs", "threads", "memory"),
    *("asynchronous", "utd", "eval_every", "eval_episodes", "address"),
)


@click.command(short_help="Estimate memory, transfers, machines and time of a run.")
@click.argument("words", nargs=-1, metavar="ALGO DATA [NAME=VALUE …]")
@run_options(*OPTIONS)
@click.option("--json", "json_", is_flag=True, help="Print the estimate as JSON, in bytes and seconds.")
def plan(words: tuple[str, ...], json_: bool, address: str | None, **options: Any) -> None:
    """Estimate what `off2on train` with the same arguments needs.

    The time follows from a measurement on this machine, which takes a few seconds: some updates on random
    batches and some environment steps. It assumes that every process has a core or a GPU of its own, and
    leaves out the start of processes, reading of data, checkpoints and the network.
    """
    from off2on.training.command_line import make_plans

    with ProgressLine() as ticker:
        ticker.show(f"checking {' '.join(words[:2])} …")
        # Without --address too, the processes may need more machines than this one.
        given = options | {"address": address or "auto", "out": UNUSED_FOLDER}
        (run_plan, *_), resolved = make_plans(words, given, command_line())
        from off2on.training.cluster.estimate import estimate
        from off2on.training.cluster.placement import cluster_nodes, machines_needed, this_machine
        from off2on.training.cluster.preflight import required_roles
        from off2on.training.process import ray_started

        nodes = [this_machine()]
        if address is not None:
            with ray_started(run_plan.address, 0):
                nodes = cluster_nodes()
        ticker.show("measuring updates and environment steps …")
        figures = estimate(run_plan, resolved)
    result: dict[str, Any] = {}
    for figure in figures:
        result.setdefault(figure.group, {})[figure.name] = figure.value
    node = max(nodes, key=lambda node: (node.gpus, node.cpus, node.memory))
    roles, held = required_roles(run_plan, nodes), result["memory"]["learner"]
    fitting = int(node.memory // held)
    machines = machines_needed(roles, node, fitting)
    result["fits"] = {"learners_by_memory": fitting, "machines": machines}
    result["fits"]["processes"] = {role.name: role.count for role in roles}
    bound = "environment steps" if result["time"]["collecting"] > result["time"]["updating"] else "updates"
    result["bound"] = {"offline": "updates"} | ({"online": bound} if run_plan.online else {})
    if json_:
        print_json(result)
        return
    rows = []
    for group, name, value, meaning in figures:
        text = format_size(value or 0) if group in ("memory", "transfer") else format_time(value)
        rows.append((group, name.replace("_", " "), text, meaning))
    print_table(rows, right=(2,))
    processes = " and ".join(plural(role.count, role.name) for role in roles) or "one process"
    print_line("needs", f"{format_size(held)} of memory for the data and networks of each learner")
    size = f"{node.cpus:g} CPUs, {node.gpus:g} GPUs, {format_size(node.memory)} of memory"
    where = "cannot be placed on machines" if machines is None else f"on {plural(machines, 'machine')}"
    kind = "this one" if address is None else f"{node.name}, the largest node"
    print_line("fits", f"{processes} {where} like {kind} ({size}; {plural(fitting, 'learner')} by memory)")
    for phase, part in result["bound"].items():
        print_line("bound", f"{phase} phase: {part}")


def format_time(seconds: float | None) -> str:
    """Format a duration: ``512 µs``, ``9.4 ms``, ``3 min 5 s``; a dash for None."""
    from off2on.runs.numbers import duration

    if seconds is None:
        return "–"
    for unit, factor in (("µs", 1e6), ("ms", 1e3), ("s", 1.0)):
        if 0 < seconds * factor < 1000 and (unit != "s" or seconds < 10):
            return f"{seconds * factor:.3g} {unit}"
    return duration(seconds)
