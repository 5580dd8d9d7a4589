"""A Ray of our own, which listens and speaks to this machine alone."""

import os
from typing import Any

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""What Ray 2.60 knows this wish by: it fears the dialogues of those systems' firewalls. Told an address
of this machine only, it takes the one that others can reach, and its servers listen on all interfaces."""


def start_ray(**options: Any) -> None:
    """Starts Ray, without a dashboard; a bare ``ray.init`` would join any cluster on this machine.

    Args:
        options: Of ``ray.init``.
    """
    import ray
    from ray._private import ray_constants

    # Else its makers are sent statistics.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    before, told = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(LOOPBACK)
    ray_constants.ENABLE_RAY_CLUSTER = False  # as read when Ray was imported
    os.environ[LOOPBACK] = "0"  # for its processes, which have it from the first on
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            **options,
        )
    finally:  # a cluster that this process joins later is one of several machines
        ray_constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(LOOPBACK)
        if told is not None:
            os.environ[LOOPBACK] = told
