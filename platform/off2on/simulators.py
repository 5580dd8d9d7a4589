"""Register the simulators of this package with Gymnasium: `off2on.simulators:off2on/WaymoReplay-v0`.

`off2on/ogbench-cube-single-task1-v0`, …, are single tasks of OGBench whose episodes a seed determines.

Importing this module makes them known. Gymnasium 1.0 and later do not look for other packages' entry
points, but import what stands before the colon of an id.
"""

import gymnasium as gym

from datasets_io.sources.ogbench_tasks import KINDS, TASKS, environment_id, task_id

WAYMO_REPLAY = "off2on/WaymoReplay-v0"


def register() -> None:
    """Register the environments with Gymnasium, unless they are registered."""
    if WAYMO_REPLAY not in gym.registry:
        gym.register(WAYMO_REPLAY, entry_point="datasets_io.driving.simulator:WaymoReplay")
    for environment, kind in KINDS.items():
        for task in TASKS:
            name = environment_id(environment, task)
            if name not in gym.registry:
                gym.register(
                    name,
                    entry_point="datasets_io.sources.ogbench_simulation:OGBenchTask",
                    max_episode_steps=kind.horizon,
                    kwargs={"task": task_id(environment, task)},
                )


register()
