"""Which node has room for which process: a plan's processes laid out on the nodes of a cluster."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: what it has, and what of it nobody uses."""

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
    """Processes of one kind, and what each of them takes."""

    name: str
    count: int
    cpus: int
    gpus: int

    def __str__(self) -> str:
        ((kind, amount),) = self.takes.items()
        return f"{several(self.count, self.name)} of {amount} {kind}{' each' if self.count > 1 else ''}"

    @property
    def takes(self) -> dict[str, int]:
        """What one of them takes, in Ray's terms: a learner with a GPU takes no CPU."""
        return {"GPU": self.gpus} if self.gpus else {"CPU": self.cpus}


Layout = dict[str, list[str]]
"""Of each role, the nodes that its processes are on."""


def lay_out(roles: Sequence[Role], nodes: Sequence[Node], free: bool = False) -> Layout | None:
    """One place for every process, or None if there are too few.

    Args:
        roles: The processes; those of one role go on as few nodes as they can.
        nodes: The nodes.
        free: Take only what nobody uses.
    """
    left = [[node.free_cpus, node.free_gpus] if free else [node.cpus, node.gpus] for node in nodes]
    layout: Layout = {}
    for role in roles:
        found = layout.setdefault(role.name, [])
        for node, room in sorted(zip(nodes, left, strict=True), key=lambda pair: (-pair[1][1], -pair[1][0])):
            while len(found) < role.count and room[0] >= role.cpus and room[1] >= role.gpus:
                room[0] -= role.cpus
                room[1] -= role.gpus
                found.append(node.name)
        if len(found) < role.count:
            return None
    return layout


def placed(layout: Layout) -> str:
    """Who is where, in words."""
    return "; ".join(
        f"{role}s on {', '.join(f'{name} ({count})' for name, count in Counter(names).items())}"
        for role, names in layout.items()
        if names
    )


def all_of(roles: Sequence[Role]) -> str:
    """Roles in words."""
    return ", ".join(map(str, roles))


def several(count: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
