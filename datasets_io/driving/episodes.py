"""Convert scenes to episodes of driving that the simulator reproduces exactly."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from datasets_io.driving.dynamics import Controller, Tracked, clip, find_controller, limits, track
from datasets_io.driving.geometry import wrap_angle
from datasets_io.driving.observation import View, observe
from datasets_io.driving.reward import Weights, combine, log_divergence, terms
from datasets_io.driving.scene import Scene
from datasets_io.driving.situation import Car, last_seen, measure_situation, vehicles_of
from datasets_io.driving.world import World
from datasets_io.episode import Array, Episode


@dataclass(frozen=True)
class Task:
    """Settings of the driving task.

    Args:
        controller: `bicycle` or `delta`; defines the actions.
        view: Contents of an observation.
        weights: Weights of the reward terms.
        end_on_collision: End the episode (terminated) at the first overlap. Waymax continues.
    """

    controller: Controller
    view: View = field(default_factory=View)
    weights: Weights = field(default_factory=Weights)
    end_on_collision: bool = False


def episodes(
    scene: Scene,
    *,
    vehicles: str = "ego",
    controller: str = "bicycle",
    nearest: int = 8,
    end_on_collision: bool = False,
) -> Iterator[Episode]:
    """Yield one episode per vehicle.

    After the warm-up (11 steps of a window of 91) every step is a decision (80, at 10 Hz). Actions are
    those with which the controller reproduces the recording (`track`), and observations are computed from the
    states reached with them, so that the simulator, given these actions, repeats the episode exactly. All
    other objects move as recorded. An episode ends where the recording of the vehicle ends; this is a time
    limit (truncated), as it does not depend on the actions.

    Args:
        scene: The recording.
        vehicles: `ego`, `moving` or `all`, see `vehicles_of`.
        controller: `bicycle` or `delta`.
        nearest: Number of objects in an observation.
        end_on_collision: End an episode (terminated) at the first overlap with the box of another object.

    Yields:
        Episodes named SCENE/OBJECT with the scene attached. Extras, [T] float32 each: `reward_progress`,
        `reward_collision`, `reward_offroad` (see `reward.terms`), `log_divergence` (m, from the recording),
        and `action_clipped` (1 where the action was clipped to its box).

    Raises:
        BadValues: The recording or its car ends with the warm-up, or `vehicles` is not a known choice.
        UnknownName: The controller does not exist.
    """
    task = Task(find_controller(controller), View(nearest=nearest), end_on_collision=end_on_collision)
    world = World(scene)
    chosen = vehicles_of(world, vehicles)
    # After the last recorded step of a vehicle its last state is repeated.
    steps = np.minimum(np.arange(scene.current, scene.steps), last_seen(world)[chosen, None])
    recorded = np.take_along_axis(world.states(np.array(chosen, np.int64)), steps[..., None], 1)
    tracked = track(task.controller, recorded, scene.dt)
    attached = (scene.id, scene.arrays())
    for row, index in enumerate(chosen):
        yield _episode(task, Car(world, index), Tracked(*(part[row] for part in tracked)), attached)


def initial_state(task: Task, car: Car) -> tuple[Array, Array, Array]:
    """Return state [1, 5], yaw rate [1] and last action [1, A] at the end of the warm-up."""
    scene, first = car.world.scene, car.first
    begun = first - int(np.argmin(np.append(scene.valid[car.index, first::-1], False))) + 1
    warm_up = car.world.states(car.index)[None, begun : first + 1]
    now, limit = task.controller.root(warm_up[:, -1]), limits(task.controller)
    if begun == first:
        return now, np.zeros(1), np.zeros((1, len(limit)), np.float32)
    before = task.controller.root(warm_up[:, -2])
    action = task.controller.follow(before, task.controller.plan(warm_up, scene.dt)[:, -2], scene.dt)
    return now, wrap_angle(now[:, 2] - before[:, 2]) / scene.dt, clip(action, limit).astype(np.float32)


def _episode(task: Task, car: Car, tracked: Tracked, attached: tuple[str, dict[str, Array]]) -> Episode:
    decisions = car.last - car.first
    states, actions = tracked.states[: decisions + 1], tracked.actions[:decisions]
    _, yaw_rate, action = initial_state(task, car)
    yaw_rates = np.concatenate([yaw_rate, wrap_angle(np.diff(states[:, 2])) / car.world.scene.dt])
    steps = np.arange(car.first, car.last + 1)
    traffic = car.world.traffic
    now = measure_situation(car, 0.0, steps, states, yaw_rates, np.concatenate([action, actions]), traffic)
    obs = observe(car, task.view, now, traffic)
    collided = task.end_on_collision and now.overlap[1:].any()
    end = int(np.argmax(now.overlap[1:])) + 1 if collided else decisions
    extras = terms(now[:-1].along, now[1:]) | {
        "log_divergence": log_divergence(car, now[1:]).astype(np.float32),
        "action_clipped": tracked.clipped[:decisions].astype(np.float32),
    }
    return Episode(
        obs[: end + 1],
        actions[:end],
        combine(extras, task.weights)[:end],
        terminated=bool(collided),
        id=car.id,
        extras={name: values[:end] for name, values in extras.items()},
        scene=attached,
    )
