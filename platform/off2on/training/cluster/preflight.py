"""Before a run starts on a cluster: what is there, what the plan needs, who goes where; else it is refused.

Ray waits for ever for a process for which there is no room. So the plan's processes are laid out on the nodes
first, and every node they may go to is asked for the code, the data and the simulator. Where Ray puts
them in the end is its own choice; `placement_of` says which it was.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from datasets_io import open_shards
from datasets_io.ray_internals import free_resources
from off2on.errors import UserError
from off2on.replay.memory_budget import total_memory
from off2on.replay.offline_rows import layout_of
from off2on.replay.stream import READ_AHEAD
from off2on.training.cluster.placement import Layout, Node, Role, all_of, lay_out, placed, several
from off2on.training.plan import Plan, ResolvedPlan, everywhere
from off2on.training.process import OWN_STORE

ANSWER_S = 60
"""Seconds for a node to say what it sees; the first process on a node takes some to come up."""

LEARNERS_GPU = {"GPU": 1.0}
"""What a trial of a search sets aside for a learner that has a GPU."""

WAITING = "--wait MINUTES for nodes that are still to come"

AGAIN_S = 600
"""Seconds for a cluster that lost a node to have room again: machines come in minutes."""


def cluster() -> list[Node]:
    """The living nodes of the cluster that was joined."""
    import ray

    free = free_resources()
    found = []
    for node in ray.nodes():
        if node["Alive"]:
            has, left = node["Resources"], free.get(node["NodeID"], {})
            name = f"{node['NodeName']}/{node['NodeID'][:6]}"
            found.append(
                Node(
                    node["NodeID"],
                    name,
                    cpus=has.get("CPU", 0.0),
                    gpus=has.get("GPU", 0.0),
                    memory=has.get("memory", 0.0),
                    store=has.get("object_store_memory", 0.0),
                    free_cpus=left.get("CPU", 0.0),
                    free_gpus=left.get("GPU", 0.0),
                )
            )
    return sorted(found, key=lambda node: node.name)


def machine() -> Node:
    """This machine, as the only node of a Ray of its own: processes beyond its cores share them."""
    import torch

    cores, gpus = float(os.cpu_count() or 1), float(torch.cuda.device_count())
    return Node("", "this machine", cores, gpus, float(total_memory()), float(OWN_STORE), cores, gpus)


def needs(plan: Plan, nodes: Sequence[Node]) -> list[Role]:
    """The processes for which Ray has to find a place; the run itself, where it was begun, is none."""
    gpus = graphics(plan, nodes) or 0
    learners = Role("learner", plan.learners, 0 if gpus else 1, gpus)
    runners = Role("runner", plan.workers if plan.online and plan.new_data is None else 0, 1, 0)
    return [role for role in (learners, runners) if role.count]


def graphics(plan: Plan, nodes: Sequence[Node]) -> int | None:
    """GPUs for each learner on these nodes; None where the learner is in this process, whose GPU it takes."""
    if plan.learners == 0:
        return None
    return int(sum(node.gpus for node in nodes) >= plan.learners)


def graphics_here(plan: Plan, say: Callable[[str], None]) -> int | None:
    """GPUs for each learner of a run that begins now; None: what this machine has (see `Plan.config`).

    A trial of a search has its room already. A cluster that has lost a node may have to make another first.
    """
    from ray.util import get_current_placement_group

    group = get_current_placement_group()
    if group is not None:
        return int(LEARNERS_GPU in group.bundle_specs) if plan.learners else None
    return None if plan.address is None else graphics(plan, room(plan, say))


def readers() -> str:
    """What the joined cluster has for an ingest, whose readers take a CPU each, wherever one is free.

    Raises:
        UserError: There is no CPU at all.
    """
    nodes = cluster()
    count = int(sum(node.cpus for node in nodes))
    if count == 0:
        raise UserError(
            f"the cluster has no CPU to read data with: {several(len(nodes), 'node')}.",
            "Every part of the data is read by a process that takes one.",
            "ray start --address HEAD:6379 --num-cpus 4, on another machine",
        )
    where = ", ".join(f"{node.name} ({node.cpus:g})" for node in nodes if node.cpus)
    return f"there is   {several(len(nodes), 'node')}: {several(count, 'part')} at a time, on {where}"


def check_capacity(plan: Plan, resolved: ResolvedPlan, say: Callable[[str], None]) -> None:
    """Check that the joined cluster has room for the plan and that its nodes see what they need.

    Args:
        plan: The plan.
        resolved: What was found for it.
        say: Is told what is there, what is needed and who goes where.

    Raises:
        UserError: There is no room, or a node lacks the code, the data or the simulator.
    """
    nodes = room(plan, say, 60.0 * plan.wait)
    while needs(plan, nodes) and not _all_see(nodes, plan, resolved):
        nodes = room(plan, say, 60.0 * plan.wait)
    for line in told(plan, resolved, nodes):
        say(line)


def room(plan: Plan, say: Callable[[str], None], patience: float = AGAIN_S) -> list[Node]:
    """The nodes of the joined cluster, once there is room for the plan on them.

    Args:
        plan: The plan.
        say: Is told what is waited for.
        patience: Seconds to wait for nodes that are not there; what others use is waited for longer.

    Raises:
        UserError: There is none.
    """
    return room_for(partial(needs, plan), say, partial(_fewer, plan), patience)


def room_for(
    needed: Callable[[Sequence[Node]], list[Role]],
    say: Callable[[str], None],
    attempt: Callable[[Sequence[Node]], str],
    patience: float,
) -> list[Node]:
    """The nodes of the joined cluster, once there is room on them.

    Args:
        needed: The processes, given the nodes.
        say: Is told what is waited for.
        attempt: What to try instead, given the nodes, where there are too few.
        patience: Seconds to wait for nodes that are not there; what others use is waited for longer.

    Raises:
        UserError: There is none.
    """
    from ray.autoscaler.sdk import request_resources

    begun, waits = time.monotonic(), False
    try:
        while True:
            nodes = cluster()
            roles = needed(nodes)
            if lay_out(roles, nodes, free=True) is not None:
                return nodes
            fits = lay_out(roles, nodes) is not None
            if time.monotonic() - begun >= (max(patience, AGAIN_S) if fits else patience):
                has = "; ".join(f"{it.name} {it.cpus:g} CPUs, {it.gpus:g} GPUs" for it in nodes) or "no node"
                there = f"There is: {has}."
                if fits:
                    raise UserError(f"others use what is needed: {all_of(roles)}.", there, "ray status")
                raise UserError(f"the cluster has no room for {all_of(roles)}.", there, attempt(nodes))
            if not waits:
                waits = True
                say(f"waiting for room for {all_of(roles)}{'' if fits else ': there are too few nodes'}")
                # An autoscaler, if there is one, makes them.
                request_resources(bundles=[role.takes for role in roles for _ in range(role.count)])
            time.sleep(1)
    finally:
        if waits:
            request_resources(bundles=[])


def there_is(address: str | None, nodes: Sequence[Node]) -> str:
    """What the nodes have, and on a cluster what of it is free: a line."""

    def of(name: str) -> float:
        return float(sum(getattr(node, name) for node in nodes))

    if [node.id for node in nodes] == [""]:
        where, cores, graphic = nodes[0].name, f"{nodes[0].cpus:g} CPUs", f"{nodes[0].gpus:g} GPUs"
    else:
        where = f"a cluster at {address} of {several(len(nodes), 'node')}"
        cores, graphic = (
            f"{of(f'free_{kind}'):g} of {of(kind):g} {kind[:3].upper()}s" for kind in ("cpus", "gpus")
        )
        graphic += " free"
    memory, store = (f"{of(kind) / 2**30:.3g} GiB" for kind in ("memory", "store"))
    return f"there is   {where}: {cores}, {graphic}, {memory} of memory, {store} of object store"


def told(plan: Plan, resolved: ResolvedPlan, nodes: Sequence[Node]) -> list[str]:
    """What is there, what is needed, who goes where: a line each, the third only if there is room."""
    lines, roles = [there_is(plan.address, nodes)], needs(plan, nodes)
    own = "evaluation and checkpoints" if plan.learners else "the learner, evaluation and checkpoints"
    lines += [f"needs      {', '.join([*map(str, roles), _held(plan, resolved)])}; in this process {own}"]
    layout = lay_out(roles, nodes)
    if roles and layout is not None:
        lines += [f"fits       for example {placed(layout)}"]
    return lines


def placement_of(algo: Any) -> Layout:
    """Where Ray put the learners and the runners of a running algorithm, as far as they are not here."""
    layout: Layout = {}
    if algo.learner_group.is_remote:
        layout["learner"] = algo.ask(_node)
    if algo.runners is not None and algo.config.num_env_runners:
        layout["runner"] = algo.env_runner_group.foreach_env_runner(_node, local_env_runner=False)
    return layout


def _node(_: Any) -> str:
    import ray

    here = ray.get_runtime_context().get_node_id()
    return next(f"{node['NodeName']}/{here[:6]}" for node in ray.nodes() if node["NodeID"] == here)


def _fewer(plan: Plan, nodes: Sequence[Node]) -> str:
    """The most processes for which there is room."""
    fewer = next(
        f"--learners {learners} --workers {workers}"
        for learners in range(plan.learners, -1, -1)
        for workers in range(plan.workers, -1, -1)
        if lay_out(needs(replace(plan, learners=learners, workers=workers), nodes), nodes) is not None
    )
    return f"{fewer}, or {WAITING}"


def _held(plan: Plan, resolved: ResolvedPlan) -> str:
    """What a learner holds of the data, and how it comes there."""
    layout = layout_of(
        resolved.shards, resolved.settings.recipe.columns, resolved.settings.recipe.relabelled_columns
    )
    share = 4 * layout.width * resolved.shards.rows // max(1, plan.learners)
    if share <= plan.memory:
        return f"{share / 2**20:.3g} MiB of data in each learner, which reads its share itself"
    window = f"a window of {plan.memory / 2**20:.4g} MiB on {share / 2**20:.4g} MiB"
    return f"{window} in each learner, whose {READ_AHEAD} threads read its share"


def _all_see(nodes: Sequence[Node], plan: Plan, resolved: ResolvedPlan) -> bool:
    """That the nodes have the code, the data and the simulator; False if one has gone away meanwhile."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    env = resolved.env if plan.online and plan.new_data is None and plan.workers else None
    sees = ray.remote(num_cpus=0, max_retries=0)(_sees)
    data = [everywhere(shards) for shards in (resolved.shards, resolved.new) if shards is not None]

    def asked(node: Node) -> Any:
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        return sees.options(scheduling_strategy=there).remote(data, env, resolved.env_options)

    answers = [(node, asked(node)) for node in nodes if node.cpus or node.gpus]
    ready, _ = ray.wait([answer for _, answer in answers], num_returns=len(answers), timeout=ANSWER_S)
    for node, answer in answers:
        try:
            lacks = ray.get(answer) if answer in ready else f"it did not answer in {ANSWER_S} s."
        except ray.exceptions.RayError as error:
            lacks = str(error).strip().splitlines()[-1]
        if lacks and node.id not in {other.id for other in cluster()}:
            return False
        if lacks:
            raise UserError(
                f"the node {node.name} cannot take part: {lacks}",
                "Every node needs this package, and the data under this path: shared storage or a bucket.",
                f"off2on data check {data[0]}, on that node",
            )
    return True


def _sees(data: Sequence[str], env: str | None, options: dict[str, Any]) -> str:
    """What this node lacks of the data sets and the simulator; nothing if it has all."""
    from datasets_io import environments

    try:
        for path in data:
            open_shards(path)
        if env is not None:
            environments.make(env, options).close()
    except Exception as error:
        return str(error).strip().splitlines()[0]
    return ""
