"""Start a local Ray instance for this process."""

import os
from typing import Any

from datasets_io.ray_internals import loopback_only


def start_ray(**options: Any) -> None:
    """Start Ray without a dashboard; a bare ``ray.init`` would join any cluster of this machine.

    Args:
        options: Arguments of ``ray.init``.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray sends statistics to its makers
    with loopback_only():
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            **options,
        )
