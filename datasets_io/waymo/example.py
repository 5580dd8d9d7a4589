"""Decode a motion record in the tf.Example format to a scene.

Arrays have fixed sizes, in float32: 128 objects, 16 lights, 20,000 or (from version 1.2 on) 30,000 road
points. Unused slots are marked as not valid.
"""

from collections.abc import Callable

import numpy as np

from datasets_io.driving.scene import Scene
from datasets_io.episode import Array
from datasets_io.errors import Corrupt
from datasets_io.storage.tf_example import EXAMPLE, Features
from datasets_io.waymo.building import CURRENT, Lights, Objects, Road, along, build


def decode_example(data: bytes) -> Scene:
    """Decode one record.

    Args:
        data: A serialised `Example`.

    Raises:
        Corrupt: The data are not a tf.Example, not in the motion format, or inconsistent.
    """
    features = Features(data)
    if "state/id" not in features:
        other = (
            "" if data[:1] == EXAMPLE else "For a Scenario use decode_scenario, or decode for both formats."
        )
        raise Corrupt("it is not a motion record in the tf.Example format.", other)
    try:
        objects, road, lights = _objects(features), _road(features), _lights(features)
    except (ValueError, IndexError) as error:  # raised by NumPy on wrong shapes
        raise Corrupt(f"its features do not fit together: {error}.") from None
    return build(features.text("scenario/id"), CURRENT, objects, road, lights)


def _times(features: Features) -> tuple[str, ...]:
    """Return the time ranges of a record; a record of a test split has no future."""
    return ("past", "current", "future") if "state/future/valid" in features else ("past", "current")


def _objects(features: Features) -> Objects:
    count = features.floats("state/id").size
    times = _times(features)

    def whole(read: Callable[[str], Array], name: str) -> Array:
        return np.concatenate([read(f"state/{time}/{name}").reshape(count, -1) for time in times], 1)

    valid = whole(features.integers, "valid") == 1
    there = np.flatnonzero(valid.any(1))

    def seen(name: str) -> Array:
        return whole(features.floats, name)[there]

    ego = np.flatnonzero(features.integers("state/is_sdc")[there] == 1)
    if len(ego) != 1:
        raise Corrupt(f"it has {len(ego)} recording cars.")
    return Objects(
        ids=features.floats("state/id")[there],
        kinds=features.floats("state/type")[there],
        position=[seen("x"), seen("y"), seen("z")],
        size=[seen("length"), seen("width"), seen("height")],
        heading=seen("bbox_yaw"),
        velocity=[seen("velocity_x"), seen("velocity_y")],
        valid=valid[there],
        ego=int(ego[0]),
        predict=np.flatnonzero(features.integers("state/tracks_to_predict")[there] == 1),
    )


def _road(features: Features) -> Road:
    valid, ids, kinds = (features.integers(f"roadgraph_samples/{name}") for name in ("valid", "id", "type"))
    rows = np.flatnonzero(valid == 1)
    rows = rows[np.argsort(ids[rows], kind="stable")]  # the points of a feature together
    ids = ids[rows]
    counts = np.diff(np.flatnonzero(np.diff(ids)) + 1, prepend=0, append=len(ids))

    def at(name: str) -> Array:
        return features.floats(f"roadgraph_samples/{name}").reshape(-1, 3).T[:2, rows]

    return Road(list(at("xyz")), along(at("dir").T.astype(np.float64), counts), kinds[rows], ids)


def _lights(features: Features) -> Lights:
    times = [f"traffic_light_state/{time}" for time in _times(features)]
    steps = [features.integers(f"{time}/timestamp_micros").size for time in times]

    def whole(read: Callable[[str], Array], name: str) -> Array:
        parts = zip(times, steps, strict=True)
        return np.concatenate([read(f"{time}/{name}").reshape(count, -1) for time, count in parts])

    position = [whole(features.floats, "x"), whole(features.floats, "y")]
    states, lanes, valid = (whole(features.integers, name) for name in ("state", "id", "valid"))
    return Lights(position, states, lanes, valid == 1)
