"""Simulate one vehicle in recorded traffic: the environment `off2on/WaymoReplay-v0`."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np

from datasets_io.driving import Scene
from datasets_io.driving.dynamics import clip, find_controller, limits
from datasets_io.driving.episodes import Task, initial_state
from datasets_io.driving.geometry import wrap_angle
from datasets_io.driving.idm import Followers
from datasets_io.driving.observation import View, columns, observe
from datasets_io.driving.reward import Weights, combine, metrics, terms
from datasets_io.driving.situation import VEHICLE_CHOICES, Car, Situation, measure_situation, vehicles_of
from datasets_io.driving.world import DIRECTION, POSITION, VELOCITY, World
from datasets_io.episode import Array
from datasets_io.errors import BadValues, UnknownName
from datasets_io.shards.scenes import open_scenes

OTHERS = ("log", "idm")
_CACHED = 64


class WaymoReplay(gym.Env[Array, Array]):  # type: ignore[misc]
    """One vehicle under control; all others replay the recording or follow the intelligent driver model.

    Observations, rewards and lengths are those of `datasets_io.driving.episodes`: the stored actions of an
    episode reproduce its observations and rewards exactly (others = "log"). A step is 0.1 s. An episode
    is truncated where the recording of the vehicle ends (after 80 steps of a window of 91).

    `info` of a step: the reward terms (`reward_progress`, …) and five of the metrics of Waymax;
    see `datasets_io.driving.reward`. `info` of a reset: `scene` and `vehicle`, the ids.
    `reset(options={"scene": id, "vehicle": id})` selects both; otherwise they are drawn at random.

    Args:
        scenes: Folder with the scenes of a data set, or the scenes themselves.
        controller: `bicycle` or `delta`, see `datasets_io.driving.dynamics`.
        others: `log` or `idm`.
        nearest: Number of objects in an observation.
        vehicles: Vehicles that can be driven: `ego`, `moving` or `all`.
        end_on_collision: End the episode (terminated) at the first overlap.
        weights: Weights of the reward terms by name; the others are those of
            `datasets_io.driving.reward.Weights`.
        render_mode: None or `rgb_array`.

    Raises:
        UnknownName: The folder holds no scenes, or the controller does not exist.
        BadValues: An option has an invalid value.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (as in Gymnasium)

    def __init__(
        self,
        scenes: str | Sequence[Scene],
        controller: str = "bicycle",
        others: str = "log",
        nearest: int = 8,
        vehicles: str = "ego",
        end_on_collision: bool = False,
        weights: dict[str, float] | None = None,
        render_mode: str | None = None,
    ) -> None:
        for name, value, known in (("others", others, OTHERS), ("vehicles", vehicles, VEHICLE_CHOICES)):
            if value not in known:
                raise BadValues(f"{name} is {value!r}.", f"Expected one of: {' '.join(known)}")
        self.task = Task(
            find_controller(controller), View(nearest=nearest), _weights(weights), end_on_collision
        )
        self.others, self.vehicles, self.render_mode = others, vehicles, render_mode
        self._store = _SceneStore(scenes)
        limit = limits(self.task.controller)
        self.action_space = gym.spaces.Box(-limit, limit, dtype=np.float32)
        width = len(columns(self.task.controller, self.task.view))
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (width,), np.float32)
        self._limit = limit
        self.car: Car

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode at the end of a scene's warm-up.

        Args:
            seed: Seed of the draw.
            options: Ids `scene` and `vehicle`; those not given are drawn.

        Raises:
            UnknownName: The scene does not exist, or the vehicle cannot be driven.
            BadValues: There is no vehicle to drive.
        """
        super().reset(seed=seed)
        self.car = self._choose(options or {})
        world = self.car.world
        self.traffic = world.traffic
        self._followers: Followers | None = None
        if self.others == "idm":
            self.traffic = world.traffic.copy()
            self._followers = Followers(world, self.car.index)
        state, yaw_rate, action = initial_state(self.task, self.car)
        self.now = self._measure(0.0, self.car.first, state, yaw_rate, action)
        scene = world.scene
        return self._observe(), {"scene": scene.id, "vehicle": int(scene.ids[self.car.index])}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Simulate 0.1 s; an action outside the action box is clipped."""
        before, step = self.now, int(self.now.steps[0])
        dt = self.car.world.scene.dt
        if self._followers is not None:
            self._write_own_pose()
            self._followers.step(self.traffic, step)
        taken = clip(np.asarray(action, np.float32), self._limit)[None]
        state = self.task.controller.forward(before.states, taken.astype(np.float64), dt)
        yaw_rate = wrap_angle(state[:, 2] - before.states[:, 2]) / dt
        self.now = self._measure(float(before.along[0]), step + 1, state, yaw_rate, taken)
        parts = terms(before.along, self.now)
        reward = float(combine(parts, self.task.weights)[0])
        info = {**parts, **metrics(self.car, before.states, self.now, dt)}
        terminated = self.task.end_on_collision and bool(self.now.overlap[0])
        truncated = not terminated and step + 1 >= self.car.last
        return self._observe(), reward, terminated, truncated, {name: float(v[0]) for name, v in info.items()}

    def render(self) -> Array | None:
        """Draw the scene from above, [H, W, 3] uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        from datasets_io.driving.picture import draw

        return draw(self.car, self.now, self.traffic[int(self.now.steps[0])])

    def _measure(self, before: float, step: int, state: Array, yaw_rate: Array, action: Array) -> Situation:
        return measure_situation(self.car, before, np.array([step]), state, yaw_rate, action, self.traffic)

    def _observe(self) -> Array:
        seen: Array = observe(self.car, self.task.view, self.now, self.traffic)[0]
        return seen

    def _write_own_pose(self) -> None:
        """Replace the recorded pose of the driven vehicle in the traffic by its current pose."""
        x, y, heading, vx, vy = self.now.states[0]
        row = self.traffic[int(self.now.steps[0]), self.car.index]
        row[POSITION], row[DIRECTION], row[VELOCITY] = (x, y), (np.cos(heading), np.sin(heading)), (vx, vy)

    def _choose(self, options: dict[str, Any]) -> Car:
        wanted = options.get("scene")
        names = [wanted] if wanted is not None else self._store.names
        start = int(self.np_random.integers(len(names)))
        for turn in range(len(names)):
            world = self._store.world(names[(start + turn) % len(names)])
            drivable = vehicles_of(world, self.vehicles)
            if drivable:
                return Car(world, self._pick(world, drivable, options.get("vehicle")))
        which = "no scene has a" if wanted is None else f"scene {wanted} has no"
        raise BadValues(f"{which} vehicle to drive with vehicles={self.vehicles!r}.", "", "vehicles=all")

    def _pick(self, world: World, drivable: list[int], wanted: int | None) -> int:
        if wanted is None:
            return drivable[int(self.np_random.integers(len(drivable)))]
        known = {int(world.scene.ids[index]): index for index in drivable}
        if wanted not in known:
            raise UnknownName(
                f"scene {world.scene.id} has no vehicle {wanted} that can be driven.",
                f"With vehicles={self.vehicles!r} there are: {' '.join(map(str, known))}",
            )
        return known[wanted]


class _SceneStore:
    """Scenes by name, with a cache of those used last."""

    def __init__(self, scenes: str | Sequence[Scene]) -> None:
        self.world = lru_cache(_CACHED)(self._open)
        self._given: dict[str, Scene] | None = None
        if isinstance(scenes, str):
            self._stored = open_scenes(scenes)
            self.names = self._stored.ids
        else:
            self._given = {scene.id: scene for scene in scenes}
            self.names = list(self._given)

    def _open(self, name: str) -> World:
        if self._given is None:
            return World(Scene.from_arrays(name, self._stored.read(name)))
        if name not in self._given:
            raise UnknownName(f"there is no scene {name!r}.", given=name, known=self._given)
        return World(self._given[name])


def _weights(given: dict[str, float] | None) -> Weights:
    known = vars(Weights())
    for name in given or {}:
        if name not in known:
            raise BadValues(f"the reward has no term {name!r}.", f"Known: {' '.join(known)}")
    return Weights(**(given or {}))
