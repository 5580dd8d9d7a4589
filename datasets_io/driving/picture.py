"""Draw one moment of a drive from above."""

import numpy as np
from PIL import Image, ImageDraw

from datasets_io.driving.geometry import corners
from datasets_io.driving.situation import Car, Situation
from datasets_io.driving.world import ROADS, SEEN
from datasets_io.episode import Array

WIDTH, HEIGHT = 960, 640
METRES = 84.0
"""Width of the picture in metres of the world."""
_FINE = 2  # drawing scale; the picture is then reduced, for smooth edges

_GROUND, _LANE, _EDGE, _CROSSING = "#f4f3ef", "#dddad2", "#6f7680", "#cfd6dd"
_LINES = {"white": "#b3b8be", "yellow": "#d9b44a"}
_YELLOW = (9, 10, 11, 12, 13)
_OTHERS = ("#7f93a8", "#c7875a", "#8a6fae", "#a3a3a3")  # vehicle, pedestrian, cyclist, other
_OWN, _ROUTE, _CRASH = "#1f6fd6", "#8fb8ee", "#c8322b"
_SIGNALS = ("#9a9a9a", "#d63a2f", "#e0a526", "#35a35a")  # unknown, stop, caution, go


def draw(car: Car, now: Situation, traffic: Array) -> Array:
    """Draw roads, boxes, the route and its end; the driven vehicle is blue, red on collision or off the road.

    Args:
        car: Driven vehicle, at the centre of the picture; north is up.
        now: Situation of the vehicle at one step.
        traffic: [N, 13] all other objects, a row of `World.traffic`.

    Returns:
        [HEIGHT, WIDTH, 3] uint8.
    """
    canvas = _Canvas(now.states[0, :2])
    _roads(canvas, car)
    if car.route.length:
        rest = car.route.points[int(now.along[0]) + 1 :]
        canvas.line(np.concatenate([now.states[:, :2], rest]), _ROUTE, 0.7)
        canvas.dot(car.route.points[-1], _ROUTE, 1.1)
    _lights(canvas, car, int(now.steps[0]))
    for index in np.flatnonzero(traffic[:, SEEN] > 0):
        if index != car.index:
            row = traffic[index].astype(np.float64)
            canvas.box(row[:2], row[2], row[3], (row[6], row[7]), _OTHERS[int(row[8:12].argmax())])
    colour = _CRASH if now.overlap[0] or now.edge[0] > 0 else _OWN
    canvas.box(now.states[0, :2], now.cos[0], now.sin[0], (car.length, car.width), colour)
    return canvas.pixels()


def _roads(canvas: "_Canvas", car: Car) -> None:
    scene = car.world.scene
    begins = np.flatnonzero(np.diff(scene.road_id, prepend=scene.road_id[:1] - 1))
    features = (
        zip(scene.road_kind[begins], np.split(scene.road_xy, begins[1:]), strict=True) if len(begins) else ()
    )
    shown = [(int(kind), xy) for kind, xy in features if canvas.sees(xy)]
    for kind, xy in shown:
        if kind in ROADS["crosswalk"]:
            canvas.area(xy, _CROSSING)
    for kind, xy in shown:
        if 0 <= kind <= 3:
            canvas.line(xy, _LANE, 0.35)
    for kind, xy in shown:
        if kind in ROADS["solid_line"]:
            canvas.line(xy, _LINES["yellow" if kind in _YELLOW else "white"], 0.15)
        elif kind in ROADS["broken_line"]:
            for start in range(0, len(xy), 12):  # a dash of three metres in six
                canvas.line(xy[start : start + 7], _LINES["yellow" if kind in _YELLOW else "white"], 0.15)
        elif kind in ROADS["edge"]:
            canvas.line(xy, _EDGE, 0.3)
        elif kind in ROADS["stop_sign"]:
            canvas.dot(xy[0], _SIGNALS[1], 0.6)


def _lights(canvas: "_Canvas", car: Car, step: int) -> None:
    for light in car.world.lights[step]:
        if light[-1] > 0:
            canvas.dot(light[:2], _SIGNALS[int(light[2:-1].argmax())], 0.6)


class _Canvas:
    """Image with drawing functions in metres."""

    def __init__(self, centre: Array) -> None:
        self._size = np.array([WIDTH, HEIGHT]) * _FINE
        self._scale = float(self._size[0] / METRES)
        self._centre = centre
        self._image = Image.new("RGB", (int(self._size[0]), int(self._size[1])), _GROUND)
        self._draw = ImageDraw.Draw(self._image)

    def _pixels(self, xy: Array) -> list[tuple[float, float]]:
        placed = (np.asarray(xy, np.float64) - self._centre) * [self._scale, -self._scale] + 0.5 * self._size
        return [(x, y) for x, y in placed.tolist()]

    def sees(self, xy: Array) -> bool:
        """Return True if the bounding box of the points overlaps the picture."""
        reach = 0.5 * self._size / self._scale
        low, high = xy.min(0) - self._centre, xy.max(0) - self._centre
        return bool(((low < reach) & (high > -reach)).all())

    def line(self, xy: Array, colour: str, metres: float) -> None:
        """Draw a polyline with a width in metres."""
        if len(xy) > 1:
            self._draw.line(self._pixels(xy), colour, max(1, round(metres * self._scale)), joint="curve")

    def area(self, xy: Array, colour: str) -> None:
        """Draw a filled polygon."""
        if len(xy) > 2:
            self._draw.polygon(self._pixels(xy), colour)

    def dot(self, xy: Array, colour: str, metres: float) -> None:
        """Draw a disc with a radius in metres."""
        ((x, y),) = self._pixels(np.asarray(xy)[None])
        radius = metres * self._scale
        self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)

    def box(self, xy: Array, cos: float, sin: float, size: tuple[float, float], colour: str) -> None:
        """Draw a vehicle, with a bar at its front."""
        turn = (np.array([cos]), np.array([sin]))
        place = np.asarray(xy, np.float64)[None]
        self._draw.polygon(
            self._pixels(corners(place, *turn, *size)[0]), colour, outline="#ffffff", width=_FINE
        )
        ahead = place + 0.28 * size[0] * np.array([[cos, sin]])
        self._draw.polygon(self._pixels(corners(ahead, *turn, 0.12 * size[0], 0.72 * size[1])[0]), "#ffffff")

    def pixels(self) -> Array:
        """Return the picture, reduced to its final size."""
        small = self._image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        return np.asarray(small)
