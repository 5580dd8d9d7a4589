"""Define `Scene`: a few seconds of recorded traffic as arrays, independent of the file format."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from datasets_io.episode import Array

_SCALARS: dict[str, type] = {"current": int, "dt": float, "ego": int}


@dataclass(frozen=True, eq=False)
class Scene:
    """Recording of N objects over T steps, with M road points and L traffic lights.

    Positions are relative to the position of the recording car at step `current`, subtracted in float64: with
    world coordinates of several kilometres float32 resolves a millimetre at best. The axes are those of the
    world.

    Args:
        id: Unique among the recordings.
        centre: [3] float64, m: world position that was subtracted.
        current: Index of the last warm-up step; decisions begin here.
        dt: Seconds per step.
        ids: [N] int32, ids of the objects in the recording.
        kinds: [N] int8: 0 unset, 1 vehicle, 2 pedestrian, 3 cyclist, 4 other.
        xy: [N, T, 2] float32, m: centres of the boxes.
        z: [N, T] float32, m.
        heading: [N, T] float32, rad in (-π, π].
        velocity: [N, T, 2] float32, m/s, along the world's axes.
        size: [N, T, 3] float32, m: length, width, height.
        valid: [N, T] bool: True where the object was seen. The other arrays are 0 elsewhere.
        ego: Index of the recording car.
        predict: [P] int32, indices of the objects to predict in the prediction task.
        road_xy: [M, 2] float32, m. The points of a feature are consecutive and in order.
        road_dir: [M, 2] float32, unit vectors along the feature; 0 where it is a single point.
        road_kind: [M] int8. Centres of lanes: 0 unknown, 1 freeway, 2 surface street, 3 bike lane. Lines: 5
            unknown, 6 broken white, 7 solid white, 8 double white, 9 broken yellow, 10 double broken yellow,
            11 solid yellow, 12 double solid yellow, 13 passing double yellow. Edges of the road: 14 unknown,
            15 boundary, 16 median. Others: 17 stop sign, 18 crosswalk, 19 speed bump, 20 driveway.
        road_id: [M] int64, ids of the features of the points.
        light_xy: [T, L, 2] float32, m: stop points.
        light_state: [T, L] int8: 0 unknown; arrow 1 stop, 2 caution, 3 go; 4 stop, 5 caution, 6 go; flashing
            7 stop, 8 caution.
        light_lane: [T, L] int64, ids of the features controlled by the lights.
        light_valid: [T, L] bool. The other light arrays are 0 where false.
    """

    id: str
    centre: Array
    current: int
    dt: float
    ids: Array
    kinds: Array
    xy: Array
    z: Array
    heading: Array
    velocity: Array
    size: Array
    valid: Array
    ego: int
    predict: Array
    road_xy: Array
    road_dir: Array
    road_kind: Array
    road_id: Array
    light_xy: Array
    light_state: Array
    light_lane: Array
    light_valid: Array

    @property
    def steps(self) -> int:
        """Number of recorded steps, T."""
        return int(self.valid.shape[1])

    def arrays(self) -> dict[str, Array]:
        """Return all fields but the id, as plain arrays; numbers have shape []."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)[1:]}

    @classmethod
    def from_arrays(cls, scene_id: str, arrays: Mapping[str, Array]) -> Self:
        """Create a scene from the result of `arrays`; further arrays are ignored."""
        given: dict[str, Any] = {field.name: arrays[field.name] for field in fields(cls)[1:]}
        for name, kind in _SCALARS.items():
            given[name] = kind(np.asarray(given[name]).item())
        return cls(scene_id, **given)
