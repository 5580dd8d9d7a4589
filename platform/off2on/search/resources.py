"""Resources of a search on a cluster: the bundles of a trial, and a check of the capacity."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from off2on.search.spec import Search
from off2on.training.cluster.placement import Node, Role, format_roles, place_processes
from off2on.training.cluster.preflight import GPU_BUNDLE, WAIT_OPTION, describe_nodes, wait_for_nodes
from off2on.training.process import ray_started


def trial_bundles(search: Search, jobs: int, nodes: Sequence[Node]) -> list[dict[str, float]]:
    """Return the resource bundles of a trial: its own first, then one for each of its processes.

    Learner processes get a GPU each if there are enough for all; if a trial learns in its own process,
    the trials share the GPUs.

    Args:
        search: The search.
        jobs: Trials at a time.
        nodes: The nodes of the cluster.
    """
    learners, workers = search.processes("learners"), search.processes("workers")
    graphics, cores = sum(node.gpus for node in nodes), 1.0
    share = 0.0 if learners else min(1.0, graphics / jobs)
    if search.by == "pbt":
        # All members wait at once: only the size of the bundle limits how many run at a time.
        share_of_cores = sum(node.cpus for node in nodes) // jobs - learners - workers
        cores = max(1.0, min(share_of_cores, max((node.cpus for node in nodes), default=0.0)))
    on_gpus = 0 < jobs * learners <= graphics
    own = {"CPU": cores} | ({"GPU": share} if share else {})
    return [own, *([GPU_BUNDLE if on_gpus else {"CPU": 1.0}] * learners), *([{"CPU": 1.0}] * workers)]


@contextmanager
def joined_cluster(
    search: Search, jobs: int, show_line: Callable[[str], None], patience: float
) -> Iterator[None]:
    """Join the cluster of a search, if it has an address, and check the capacity for a trial.

    Args:
        search: The search.
        jobs: Trials at a time, if the capacity is large enough.
        show_line: Receives lines about the nodes, the requirements and the number of trials that fit.
        patience: Seconds to wait for missing nodes.

    Raises:
        UserError: No cluster answers, or its capacity is too small for a trial.
    """
    if search.address is None:
        yield
        return
    with ray_started(search.address, 0):
        _check_capacity(search, jobs, show_line, patience)
        yield


def _check_capacity(search: Search, jobs: int, show_line: Callable[[str], None], patience: float) -> None:
    nodes = wait_for_nodes(
        lambda nodes: _roles(search, jobs, 1, nodes), show_line, lambda _: WAIT_OPTION, patience
    )
    fitting = next(
        count
        for count in range(jobs, 0, -1)
        if place_processes(_roles(search, jobs, count, nodes), nodes) is not None
    )
    show_line(describe_nodes(search.address, nodes))
    show_line(f"needs      {format_roles(_roles(search, jobs, jobs, nodes))}")
    if fitting < jobs:
        show_line(
            f"fits       {fitting} of {jobs} trials at a time; more as soon as there are nodes for them"
        )


def _roles(search: Search, jobs: int, trials: int, nodes: Sequence[Node]) -> list[Role]:
    """Return the processes of a number of trials, without the shares of GPUs."""
    on_gpus = GPU_BUNDLE in trial_bundles(search, jobs, nodes)
    roles = [
        Role("trial", trials, 1, 0),
        Role("learner", trials * search.processes("learners"), 1 - on_gpus, int(on_gpus)),
        Role("runner", trials * search.processes("workers"), 1, 0),
    ]
    return [role for role in roles if role.count]
