"""Precompute the data of a scene that every step needs."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from datasets_io.driving.geometry import RoadEdges, subdivide, thin
from datasets_io.driving.scene import Scene
from datasets_io.episode import Array

KINDS = ("vehicle", "pedestrian", "cyclist", "other")
Codes = Mapping[str, tuple[int, ...]]
"""Categories of an observation: name → codes of the scene."""

LANES = {"freeway": (1,), "surface_street": (2,), "bike_lane": (3,)}
"""Categories of lane centres in an observation, with their codes."""
ROADS = {
    "broken_line": (6, 9, 10),
    "solid_line": (5, 7, 8, 11, 12, 13),
    "edge": (14, 15, 16),
    "stop_sign": (17,),
    "crosswalk": (18,),
    "bump_or_driveway": (19, 20),
}
LIGHTS = {"unknown": (0,), "stop": (1, 4, 7), "caution": (2, 5, 8), "go": (3, 6)}
SPACING = 4.0
"""Distance in m between the points of a lane or a line in an observation."""

# Columns of `World.traffic`.
POSITION, DIRECTION, VELOCITY, STATIC, SEEN = slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 12), 12
BOX = [0, 1, 2, 3, 6, 7]
"""Columns of `World.traffic` that form a box for `geometry.overlap`."""


class MapPoints:
    """Points of the map with a nearest-neighbour search.

    Args:
        scene: Scene of the points.
        names: Categories: name → codes of `Scene.road_kind`.
        lowest: Smallest code of the points.
        highest: Largest code of the points.
    """

    def __init__(self, scene: Scene, names: Codes, lowest: int, highest: int) -> None:
        mine = (scene.road_kind >= lowest) & (scene.road_kind <= highest)
        kept = np.flatnonzero(mine)
        kept = kept[thin(scene.road_xy[kept], scene.road_id[kept], SPACING)]
        xy, source = subdivide(scene.road_xy[kept], scene.road_id[kept], 1.5 * SPACING)
        source = kept[source]
        self._tree = cKDTree(xy, balanced_tree=False, compact_nodes=False)
        # The row after the last represents a missing point.
        self.vectors = np.zeros((len(xy) + 1, 2, 2))
        self.vectors[:-1] = np.stack([xy, scene.road_dir[source]], 1)
        self.tags = np.zeros((len(xy) + 1, len(names) + 1))
        self.tags[:-1] = one_hot(scene.road_kind[source], names)

    def nearest(self, xy: Array, count: int) -> Array:
        """Return rows [B, count] of `vectors` and `tags`, sorted by distance from `xy` [B, 2]."""
        index: Array = self._tree.query(xy, k=count)[1]
        return index.reshape(len(xy), count)


class World:
    """Data of a scene that do not depend on the driven vehicle.

    Args:
        scene: The recording.

    Attributes:
        traffic: [T, N, 13] float32: x, y (m), cosine and sine of the heading, vx, vy (m/s), length,
            width (m), the kind one-hot (`KINDS`), 1 where seen; all 0 elsewhere.
        reach: [T, N] float32, distance in m from the centre of each box to a corner.
        lights: [T, L, 7] float64: x, y (m), the state one-hot (`LIGHTS`), 1 where seen; all 0
            elsewhere.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        heading = scene.heading.T[..., None]
        kinds = one_hot(scene.kinds, {name: (code + 1,) for code, name in enumerate(KINDS)})[:, :-1]
        columns = [
            scene.xy.swapaxes(0, 1),
            np.cos(heading),
            np.sin(heading),
            scene.velocity.swapaxes(0, 1),
            scene.size.swapaxes(0, 1)[..., :2],
            np.broadcast_to(kinds, (scene.steps, *kinds.shape)),
            np.ones_like(heading),
        ]
        self.traffic = np.concatenate(columns, -1, dtype=np.float32) * scene.valid.T[..., None]
        self.reach = 0.5 * np.hypot(self.traffic[..., 6], self.traffic[..., 7])
        tags = one_hot(scene.light_state, LIGHTS)
        self.lights = (
            np.concatenate([scene.light_xy, tags], -1, dtype=np.float64) * scene.light_valid[..., None]
        )

    @cached_property
    def lanes(self) -> MapPoints:
        """Centres of lanes."""
        return MapPoints(self.scene, LANES, 0, 3)

    @cached_property
    def roads(self) -> MapPoints:
        """All other points of the map."""
        return MapPoints(self.scene, ROADS, 5, 20)

    @cached_property
    def edges(self) -> RoadEdges:
        """Edges of the road."""
        mine = np.isin(self.scene.road_kind, ROADS["edge"])
        return RoadEdges(self.scene.road_xy[mine], self.scene.road_id[mine])

    def states(self, vehicle: int | Array) -> Array:
        """Return the recorded states [..., T, 5] of one or several objects, as in `dynamics`."""
        scene = self.scene
        parts = [scene.xy[vehicle], scene.heading[vehicle][..., None], scene.velocity[vehicle]]
        return np.concatenate(parts, -1, dtype=np.float64)


def one_hot(codes: Array, names: Codes) -> Array:
    """Encode codes as [..., len(names) + 1]: one column per name, and a last column of ones for `seen`."""
    table = np.zeros((21, len(names) + 1))
    table[:, -1] = 1
    for column, members in enumerate(names.values()):
        table[list(members), column] = 1
    return table[codes]
