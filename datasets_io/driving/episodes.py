"""Scenes → episodes of driving, as the simulator would play them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from datasets_io.driving.dynamics import Controller, Tracked, clip, find_controller, limits, track
from datasets_io.driving.geometry import wrap_angle
from datasets_io.driving.observation import View, observe
from datasets_io.driving.reward import Weights, combine, log_divergence, terms
from datasets_io.driving.scene import Scene
from datasets_io.driving.situation import Car, last_seen, situate, vehicles_of
from datasets_io.driving.world import World
from datasets_io.episode import Array, Episode


@dataclass(frozen=True)
class Task:
    """Settings of the driving task.

    Args:
        controller: `bicycle` or `delta`: what an action is.
        view: How much is seen.
        weights: Of the reward's terms.
        end_on_collision: The first overlap ends the episode (terminated). Waymax goes on.
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
    """One episode per vehicle: what its driver saw, did and earned.

    After the warm-up (11 steps of a window of 91) every step is a decision (80, at 10 Hz). Actions are
    those with which the controller reproduces the recording (`track`), and the observations are of the
    states that they lead to, so that the simulator, given these actions, repeats the episode exactly.
    Everyone else does what was recorded. An episode ends where the recording of the vehicle does: that is a
    time limit (truncated), and nothing that a driver could bring about.

    Args:
        scene: The recording.
        vehicles: `ego`, `moving` or `all`: see `vehicles_of`.
        controller: `bicycle` or `delta`.
        nearest: Objects that are seen.
        end_on_collision: The first overlap with another's box ends an episode (terminated).

    Yields:
        Episodes named SCENE/OBJECT with the scene attached. Extras, [T] float32 each: `reward_progress`,
        `reward_collision`, `reward_offroad` (see `reward.terms`), `log_divergence` (m, from the recording),
        and `action_clipped` (1 where the recording asked for more than the action's box allows).

    Raises:
        BadValues: The recording ends with its warm-up, or `vehicles` is another word.
        UnknownName: There is no such controller.
    """
    task = Task(find_controller(controller), View(nearest=nearest), end_on_collision=end_on_collision)
    world = World(scene)
    chosen = vehicles_of(world, vehicles)
    # After a vehicle's last step its last state stands for those that were not recorded.
    steps = np.minimum(np.arange(scene.current, scene.steps), last_seen(world)[chosen, None])
    recorded = np.take_along_axis(world.states(np.array(chosen, np.int64)), steps[..., None], 1)
    tracked = track(task.controller, recorded, scene.dt)
    attached = (scene.id, scene.arrays())
    for row, index in enumerate(chosen):
        yield _episode(task, Car(world, index), Tracked(*(part[row] for part in tracked)), attached)


def opening(task: Task, car: Car) -> tuple[Array, Array, Array]:
    """State [1, 5], yaw rate [1] and last action [1, A] with which decisions begin, from the warm-up."""
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
    _, yaw_rate, action = opening(task, car)
    yaw_rates = np.concatenate([yaw_rate, wrap_angle(np.diff(states[:, 2])) / car.world.scene.dt])
    steps = np.arange(car.first, car.last + 1)
    traffic = car.world.traffic
    now = situate(car, steps, states, yaw_rates, np.concatenate([action, actions]), traffic)
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
