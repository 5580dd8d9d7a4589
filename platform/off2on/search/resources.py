"""Before a search starts on a cluster: what a trial takes, that one has room, and how many have at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from off2on.search.spec import Search
from off2on.training.cluster.placement import Node, Role, format_roles, lay_out
from off2on.training.cluster.preflight import GPU_BUNDLE, WAIT_OPTION, describe_nodes, wait_for_nodes
from off2on.training.process import ray_started


def bundles(search: Search, jobs: int, nodes: Sequence[Node]) -> list[dict[str, float]]:
    """What a trial takes, in Ray's terms: its own first, then a bundle for each of its processes.

    Learners of their own have a GPU each where there are enough for all; where a trial learns in its own
    process, trials share the GPUs.

    Args:
        search: The search.
        jobs: Trials at a time.
        nodes: What there is.
    """
    learners, workers = search.processes("learners"), search.processes("workers")
    graphics, cores = sum(node.gpus for node in nodes), 1.0
    share = 0.0 if learners else min(1.0, graphics / jobs)
    if search.by == "pbt":
        # All of a population wait at once, so that it is its share of the cores that leaves room for no more.
        share_of_cores = sum(node.cpus for node in nodes) // jobs - learners - workers
        cores = max(1.0, min(share_of_cores, max((node.cpus for node in nodes), default=0.0)))
    on_gpus = 0 < jobs * learners <= graphics
    own = {"CPU": cores} | ({"GPU": share} if share else {})
    return [own, *([GPU_BUNDLE if on_gpus else {"CPU": 1.0}] * learners), *([{"CPU": 1.0}] * workers)]


@contextmanager
def joined(search: Search, jobs: int, say: Callable[[str], None], patience: float) -> Iterator[None]:
    """The cluster of a search, which has room for a trial; a Ray of its own is not started yet.

    Args:
        search: The search.
        jobs: Trials at a time, if there is room for so many.
        say: Is told what is there, what is needed and how many trials fit.
        patience: Seconds to wait for nodes that are not there.

    Raises:
        UserError: No cluster answers, or there is no room for a trial on it.
    """
    if search.address is None:
        yield
        return
    with ray_started(search.address, 0):
        _board(search, jobs, say, patience)
        yield


def _board(search: Search, jobs: int, say: Callable[[str], None], patience: float) -> None:
    nodes = wait_for_nodes(lambda nodes: _roles(search, jobs, 1, nodes), say, lambda _: WAIT_OPTION, patience)
    fitting = next(
        count
        for count in range(jobs, 0, -1)
        if lay_out(_roles(search, jobs, count, nodes), nodes) is not None
    )
    say(describe_nodes(search.address, nodes))
    say(f"needs      {format_roles(_roles(search, jobs, jobs, nodes))}")
    if fitting < jobs:
        say(f"fits       {fitting} of {jobs} trials at a time; more as soon as there are nodes for them")


def _roles(search: Search, jobs: int, trials: int, nodes: Sequence[Node]) -> list[Role]:
    """The processes of so many trials; what trials share of the GPUs is left out."""
    on_gpus = GPU_BUNDLE in bundles(search, jobs, nodes)
    roles = [
        Role("trial", trials, 1, 0),
        Role("learner", trials * search.processes("learners"), 1 - on_gpus, int(on_gpus)),
        Role("runner", trials * search.processes("workers"), 1, 0),
    ]
    return [role for role in roles if role.count]
