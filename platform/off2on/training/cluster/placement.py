"""Place the processes of a plan on the nodes of a cluster."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from datasets_io.ray_internals import free_resources
from off2on.replay.memory_budget import total_memory
from off2on.training.process import LOCAL_STORE_BYTES


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        id: Ray's id; empty for this machine without a cluster.
        name: Name in messages.
        cpus: Number of CPUs.
        gpus: Number of GPUs.
        memory: Bytes of memory.
        store: Bytes of Ray's object store.
        free_cpus: Number of CPUs not in use.
        free_gpus: Number of GPUs not in use.
    """

    id: str
    name: str
    cpus: float
    gpus: float
    memory: float
    store: float
    free_cpus: float
    free_gpus: float


@dataclass(frozen=True)
class Role:
    """Processes of one kind, and the resources of each."""

    name: str
    count: int
    cpus: int
    gpus: int

    def __str__(self) -> str:
        ((kind, amount),) = self.resources.items()
        return f"{plural(self.count, self.name)} of {amount} {kind}{' each' if self.count > 1 else ''}"

    @property
    def resources(self) -> dict[str, int]:
        """Resources of one process, as Ray names them: a learner with a GPU needs no CPU."""
        return {"GPU": self.gpus} if self.gpus else {"CPU": self.cpus}


def cluster_nodes() -> list[Node]:
    """Return the live nodes of the joined cluster, sorted by name."""
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


def this_machine() -> Node:
    """Return this machine as a node; more processes than cores share the cores."""
    import torch

    cores, gpus = float(os.cpu_count() or 1), float(torch.cuda.device_count())
    return Node("", "this machine", cores, gpus, float(total_memory()), float(LOCAL_STORE_BYTES), cores, gpus)


Placement = dict[str, list[str]]
"""Role to the names of the nodes of its processes."""


def place_processes(roles: Sequence[Role], nodes: Sequence[Node], free: bool = False) -> Placement | None:
    """Return a node for every process, or None if the nodes have too few resources.

    Args:
        roles: The processes; those of one role go on as few nodes as possible.
        nodes: The nodes.
        free: Use only resources that are not in use.
    """
    left = [[node.free_cpus, node.free_gpus] if free else [node.cpus, node.gpus] for node in nodes]
    placement: Placement = {}
    for role in roles:
        found = placement.setdefault(role.name, [])
        for node, has in sorted(zip(nodes, left, strict=True), key=lambda pair: (-pair[1][1], -pair[1][0])):
            while len(found) < role.count and has[0] >= role.cpus and has[1] >= role.gpus:
                has[0] -= role.cpus
                has[1] -= role.gpus
                found.append(node.name)
        if len(found) < role.count:
            return None
    return placement


def machines_needed(roles: Sequence[Role], node: Node, learners_by_memory: int) -> int | None:
    """Return the smallest number of machines like `node` that holds all processes.

    Args:
        roles: The processes.
        node: The machine to count.
        learners_by_memory: Number of learners whose data fit the memory of one machine.

    Returns:
        The number; None if one of the processes does not fit any such machine.
    """
    if learners_by_memory == 0:
        return None
    learners = max([role.count for role in roles if role.name == "learner"], default=1)
    smallest = -(-learners // learners_by_memory)
    largest = max(smallest, sum(role.count for role in roles))
    return next(
        (n for n in range(smallest, largest + 1) if place_processes(roles, [node] * n) is not None), None
    )


def format_placement(placement: Placement) -> str:
    """Format a placement: ``learners on a (3); runners on a (2)``."""
    return "; ".join(
        f"{role}s on {', '.join(f'{name} ({count})' for name, count in Counter(names).items())}"
        for role, names in placement.items()
        if names
    )


def format_roles(roles: Sequence[Role]) -> str:
    """Format roles: ``2 learners of 1 GPU each, 1 runner of 1 CPU``."""
    return ", ".join(map(str, roles))


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: ``1 node``, ``2 nodes``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
