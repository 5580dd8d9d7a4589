"""Register the simulators of this package with Gymnasium: `off2on.simulators:off2on/WaymoReplay-v0`.

Importing this module makes them known. Gymnasium 1.0 and later do not look for other packages' entry
points, but import what stands before the colon of an id.
"""

import gymnasium as gym

WAYMO_REPLAY = "off2on/WaymoReplay-v0"


def register() -> None:
    """Register the environments with Gymnasium, unless they are registered."""
    if WAYMO_REPLAY not in gym.registry:
        gym.register(WAYMO_REPLAY, entry_point="datasets_io.driving.simulator:WaymoReplay")


register()
