"""Check before a run starts that the cluster has the capacity that the plan needs.

Ray waits without a limit for a process that no node has resources for. So the plan's processes are laid out
on the nodes first, and every node that may get one is checked for the code, the data and the simulator. Ray
chooses the final placement itself; `placement_of` returns it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from datasets_io import open_shards
from off2on.errors import UserError
from off2on.replay.augmentation.compose import layout_for
from off2on.replay.stream import READ_AHEAD
from off2on.training.cluster.placement import (
    Node,
    Placement,
    Role,
    cluster_nodes,
    format_placement,
    format_roles,
    place_processes,
    plural,
)
from off2on.training.plan import Plan, ResolvedPlan, portable_name

CHECK_TIMEOUT_S = 60
"""Longest duration of the check of a node; the first process on a node takes some seconds to start."""

GPU_BUNDLE = {"GPU": 1.0}
"""Ray's resources of a learner with a GPU, in a trial of a search."""

WAIT_OPTION = "--wait 10"
"""Option that waits for nodes that start later."""

RECOVERY_S = 600
"""Seconds to wait for a replacement of a lost node, because a machine takes minutes to start."""


def required_roles(plan: Plan, nodes: Sequence[Node]) -> list[Role]:
    """Return the processes that Ray places; the process of the run itself is not one of them."""
    gpus = gpus_per_learner(plan, nodes) or 0
    learners = Role("learner", plan.learners, 0 if gpus else 1, gpus)
    runners = Role("runner", plan.workers if plan.online and plan.new_data is None else 0, 1, 0)
    return [role for role in (learners, runners) if role.count]


def remote_processes(plan: Plan) -> int:
    """Return the number of processes that Ray starts for a plan; 0: the plan needs no Ray."""
    return sum(role.count for role in required_roles(plan, ()))


def gpus_per_learner(plan: Plan, nodes: Sequence[Node]) -> int | None:
    """Return the number of GPUs per learner on these nodes; None if the learner is in this process."""
    if plan.learners == 0:
        return None
    return int(sum(node.gpus for node in nodes) >= plan.learners)


def available_gpus_per_learner(plan: Plan, show_line: Callable[[str], None]) -> int | None:
    """Return the number of GPUs per learner of a run that starts now; None: decided by `Plan.config`.

    In a trial of a search the resources are reserved already. A cluster that lost a node may first need
    another one.
    """
    import ray
    from ray.util import get_current_placement_group

    # Without Ray there is no group, and the call would start a cluster.
    group = get_current_placement_group() if ray.is_initialized() else None
    if group is not None:
        return int(GPU_BUNDLE in group.bundle_specs) if plan.learners else None
    return None if plan.address is None else gpus_per_learner(plan, wait_for_capacity(plan, show_line))


def describe_readers() -> str:
    """Describe the capacity of the joined cluster for an ingest; each of its readers takes one CPU.

    Raises:
        UserError: The cluster has no CPU.
    """
    nodes = cluster_nodes()
    count = int(sum(node.cpus for node in nodes))
    if count == 0:
        raise UserError(
            f"the cluster has no CPU for reading data: {plural(len(nodes), 'node')}.",
            "Each part of the data is read by a process that needs one CPU.",
            "ray start --address HEAD:6379 --num-cpus 4, on another machine",
        )
    where = ", ".join(f"{node.name} ({node.cpus:g})" for node in nodes if node.cpus)
    return f"available  {plural(len(nodes), 'node')}: {plural(count, 'part')} at a time, on {where}"


def check_capacity(plan: Plan, resolved: ResolvedPlan, show_line: Callable[[str], None]) -> None:
    """Check that the joined cluster has the capacity for the plan, and its nodes the code and the data.

    Args:
        plan: The plan.
        resolved: The checked plan.
        show_line: Function that shows a line: available and needed resources, and an example placement.

    Raises:
        UserError: There are too few resources, or a node lacks the code, the data or the simulator.
    """
    nodes = wait_for_capacity(plan, show_line, 60.0 * plan.wait)
    while required_roles(plan, nodes) and not _are_nodes_ready(nodes, plan, resolved):
        nodes = wait_for_capacity(plan, show_line, 60.0 * plan.wait)
    for line in describe_capacity(plan, resolved, nodes):
        show_line(line)


def wait_for_capacity(
    plan: Plan, show_line: Callable[[str], None], patience: float = RECOVERY_S
) -> list[Node]:
    """Wait until the joined cluster has the capacity for the plan, and return its nodes.

    Args:
        plan: The plan.
        show_line: Function that shows a line.
        patience: Seconds to wait for missing nodes; resources in use are waited for at least `RECOVERY_S`.

    Raises:
        UserError: The resources are still missing after that time.
    """
    return wait_for_nodes(partial(required_roles, plan), show_line, partial(_fewer, plan), patience)


def wait_for_nodes(
    needed: Callable[[Sequence[Node]], list[Role]],
    show_line: Callable[[str], None],
    suggest: Callable[[Sequence[Node]], str],
    patience: float,
) -> list[Node]:
    """Wait until the joined cluster has the resources of some processes, and return its nodes.

    Args:
        needed: Function from the nodes to the processes.
        show_line: Function that shows a line.
        suggest: Function from the nodes to a suggestion, for the case that they have too few resources.
        patience: Seconds to wait for missing nodes; resources in use are waited for at least `RECOVERY_S`.

    Raises:
        UserError: The resources are still missing after that time.
    """
    from ray.autoscaler.sdk import request_resources

    begun, waits = time.monotonic(), False
    try:
        while True:
            nodes = cluster_nodes()
            roles = needed(nodes)
            if place_processes(roles, nodes, free=True) is not None:
                return nodes
            fits = place_processes(roles, nodes) is not None
            if time.monotonic() - begun >= (max(patience, RECOVERY_S) if fits else patience):
                has = "; ".join(f"{it.name} {it.cpus:g} CPUs, {it.gpus:g} GPUs" for it in nodes) or "no node"
                what, available = format_roles(roles), f"Available: {has}."
                if fits:
                    raise UserError(f"the resources for {what} are in use.", available, "ray status")
                hint = f"{available}\nWith --wait MINUTES it waits for nodes that start later."
                raise UserError(f"the cluster has no capacity for {what}.", hint, suggest(nodes))
            if not waits:
                waits = True
                reason = "resources in use" if fits else "more nodes"
                show_line(f"waiting for {reason}: {format_roles(roles)}")
                # An autoscaler, if there is one, starts nodes.
                request_resources(bundles=[role.resources for role in roles for _ in range(role.count)])
            time.sleep(1)
    finally:
        if waits:
            request_resources(bundles=[])


def describe_nodes(address: str | None, nodes: Sequence[Node]) -> str:
    """Return a line with the resources of the nodes, and on a cluster the free ones."""

    def total(name: str) -> float:
        return float(sum(getattr(node, name) for node in nodes))

    if [node.id for node in nodes] == [""]:
        where, cpus, gpus = nodes[0].name, f"{nodes[0].cpus:g} CPUs", f"{nodes[0].gpus:g} GPUs"
    else:
        where = f"a cluster at {address} of {plural(len(nodes), 'node')}"
        cpus, gpus = (
            f"{total(f'free_{kind}'):g} of {total(kind):g} {kind[:3].upper()}s" for kind in ("cpus", "gpus")
        )
        gpus += " free"
    memory, store = (f"{total(kind) / 2**30:.3g} GiB" for kind in ("memory", "store"))
    return f"available  {where}: {cpus}, {gpus}, {memory} of memory, {store} of object store"


def describe_capacity(plan: Plan, resolved: ResolvedPlan, nodes: Sequence[Node]) -> list[str]:
    """Return lines with the available and the needed resources, and with a placement if there is one."""
    lines, roles = [describe_nodes(plan.address, nodes)], required_roles(plan, nodes)
    own = "evaluation and checkpoints" if plan.learners else "the learner, evaluation and checkpoints"
    lines += [
        f"needs      {', '.join([*map(str, roles), _describe_data(plan, resolved)])}; in this process {own}"
    ]
    placement = place_processes(roles, nodes)
    if roles and placement is not None:
        lines += [f"fits       for example {format_placement(placement)}"]
    return lines


def placement_of(algo: Any) -> Placement:
    """Return the nodes of the learners and runners of a running algorithm that are not in this process."""
    placement: Placement = {}
    if algo.learner_group.is_remote:
        placement["learner"] = algo.call_learners(_node)
    if algo.runners is not None and algo.config.num_env_runners:
        placement["runner"] = algo.env_runner_group.foreach_env_runner(_node, local_env_runner=False)
    return placement


def _node(_: Any) -> str:
    import ray

    node_id = ray.get_runtime_context().get_node_id()
    return next(f"{node['NodeName']}/{node_id[:6]}" for node in ray.nodes() if node["NodeID"] == node_id)


def _fewer(plan: Plan, nodes: Sequence[Node]) -> str:
    """Return options with the largest numbers of processes that the nodes have resources for."""
    return next(
        f"--learners {learners} --workers {workers}"
        for learners in range(plan.learners, -1, -1)
        for workers in range(plan.workers, -1, -1)
        if place_processes(required_roles(replace(plan, learners=learners, workers=workers), nodes), nodes)
        is not None
    )


def _describe_data(plan: Plan, resolved: ResolvedPlan) -> str:
    """Describe the offline rows of a learner: their bytes, and the window if the data are streamed."""
    layout = layout_for(resolved.shards, resolved.settings.recipe, resolved.settings.hp)
    share = 4 * layout.width * resolved.shards.rows // max(1, plan.learners)
    if share <= plan.memory:
        return f"{share / 2**20:.3g} MiB of data in each learner"
    window = f"a window of {plan.memory / 2**20:.4g} MiB on {share / 2**20:.4g} MiB"
    return f"{window} in each learner, read by {READ_AHEAD} threads"


def _are_nodes_ready(nodes: Sequence[Node], plan: Plan, resolved: ResolvedPlan) -> bool:
    """Check that the nodes have the code, the data and the simulator.

    Returns:
        False if a node left the cluster during the check.

    Raises:
        UserError: A node lacks something.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    env = resolved.env if plan.online and plan.new_data is None and plan.workers else None
    check = ray.remote(num_cpus=0, max_retries=0)(_missing_on_node)
    data = [portable_name(shards) for shards in (resolved.shards, resolved.new) if shards is not None]

    def start_check(node: Node) -> Any:
        strategy = NodeAffinitySchedulingStrategy(node.id, soft=False)
        return check.options(scheduling_strategy=strategy).remote(data, env, resolved.env_options)

    answers = [(node, start_check(node)) for node in nodes if node.cpus or node.gpus]
    ready, _ = ray.wait([answer for _, answer in answers], num_returns=len(answers), timeout=CHECK_TIMEOUT_S)
    for node, answer in answers:
        try:
            missing = ray.get(answer) if answer in ready else f"the check took more than {CHECK_TIMEOUT_S} s."
        except ray.exceptions.RayError as error:
            missing = str(error).strip().splitlines()[-1]
        if missing and node.id not in {other.id for other in cluster_nodes()}:
            return False
        if missing:
            raise UserError(
                f"node {node.name} cannot be used: {missing}",
                "Every node needs this package, and the data at the same path: shared storage or a bucket.",
                f"off2on data check {data[0]}, on that node",
            )
    return True


def _missing_on_node(data: Sequence[str], env: str | None, options: dict[str, Any]) -> str:
    """Return the reason why this node cannot open the data or the simulator; an empty text if it can."""
    from datasets_io import environments

    try:
        for path in data:
            open_shards(path)
        if env is not None:
            environments.make(env, options, named=True).close()
    except Exception as error:
        return str(error).strip().splitlines()[0]
    return ""
