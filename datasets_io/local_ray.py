"""Start a local Ray instance for this process."""

import os
from typing import Any

from datasets_io.imports import own_folders, path_extender
from datasets_io.ray_internals import job_config, loopback_only


def runtime_environment(**variables: str) -> dict[str, Any]:
    """Return Ray's ``runtime_env``: workers find the modules that this process finds, but search them last.

    Args:
        variables: Environment variables of the workers.
    """
    return {"env_vars": variables, "worker_process_setup_hook": path_extender(own_folders())}


def start_ray(**options: Any) -> None:
    """Start Ray without a dashboard; a bare ``ray.init`` would join any cluster of this machine.

    Args:
        options: Arguments of ``ray.init``.
    """
    import ray

    options.setdefault("runtime_env", runtime_environment())
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray sends statistics to its makers
    with loopback_only():
        ray.init(
            address="local",
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            job_config=job_config(),
            **options,
        )
