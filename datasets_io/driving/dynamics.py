"""Model vehicle motion under actions, and find the actions that follow a recorded path.

A state is [..., 5] float64: x, y (m), heading (rad), vx, vy (m/s), all along the world's axes. The two
models are Waymax's (Gulino et al. 2023, arXiv:2310.08710) with one difference: the bicycle's speed has a
sign, so that a vehicle reverses instead of turning round.
"""

from typing import NamedTuple, Protocol

import numpy as np

from datasets_io.driving.geometry import wrap_angle
from datasets_io.episode import Array
from datasets_io.errors import UnknownName

STANDING = 0.6
"""m/s. Below it a recorded heading changes by noise alone: no curvature explains it."""


class ActionComponent(NamedTuple):
    """One component of an action, in [-limit, limit]."""

    name: str
    unit: str
    limit: float


class Controller(Protocol):
    """Model that converts actions to motion."""

    @property
    def axes(self) -> tuple[ActionComponent, ...]:
        """The numbers of an action."""

    def root(self, states: Array) -> Array:
        """The nearest states that the model can be in."""

    def forward(self, states: Array, actions: Array, dt: float) -> Array:
        """The states after `actions` [..., A], which lie in their box."""

    def inverse(self, states: Array, following: Array, dt: float) -> Array:
        """The actions [..., A], whatever their size, under which `states` become `following`."""

    def plan(self, recorded: Array, dt: float) -> Array:
        """What `follow` needs to know of recordings [V, T, 5] at each of their steps: [V, T, …]."""

    def follow(self, states: Array, planned: Array, dt: float) -> Array:
        """The actions [V, A], whatever their size, that keep to recordings.

        Args:
            states: [V, 5], where the vehicles are.
            planned: [V, …], their `plan` at this step.
            dt: Seconds per step.
        """


class Bicycle:
    """Acceleration and curvature of the path.

    With s the speed along the heading ψ and d = s dt + ½ a dt²:
    x += d cos ψ, y += d sin ψ, ψ += κ d, s += a dt.
    """

    axes = (ActionComponent("acceleration", "m/s²", 6.0), ActionComponent("curvature", "1/m", 0.3))
    _SPEED, _PLACE, _HEADING, _SIDE = 4.0, 6.0, 4.0, 1.5  # 1/s, 1/s², 1/s, 1/s
    _STEADY = 3  # steps to either side, over which a recording is averaged

    def root(self, states: Array) -> Array:
        """Without the part of the velocity across the heading."""
        return _state(states[..., 0], states[..., 1], states[..., 2], _forward_speed(states))

    def forward(self, states: Array, actions: Array, dt: float) -> Array:
        """See the class."""
        acceleration, curvature = actions[..., 0], actions[..., 1]
        heading = states[..., 2]
        cos, sin = np.cos(heading), np.sin(heading)
        speed = states[..., 3] * cos + states[..., 4] * sin
        distance = speed * dt + 0.5 * acceleration * dt**2
        return _state(
            states[..., 0] + distance * cos,
            states[..., 1] + distance * sin,
            wrap_angle(heading + curvature * distance),
            speed + acceleration * dt,
        )

    def inverse(self, states: Array, following: Array, dt: float) -> Array:
        """From the next s' and ψ': a = (s' - s)/dt, κ = (ψ' - ψ)/d, or 0 if |s| or |s'| < `STANDING`."""
        speed = _forward_speed(states)
        acceleration = (_forward_speed(following) - speed) / dt
        turn = wrap_angle(following[..., 2] - states[..., 2])
        return np.stack([acceleration, _curvature(speed, acceleration, turn, dt)], -1)

    def plan(self, recorded: Array, dt: float) -> Array:
        """[V, T, 6]: x, y, course, speed, acceleration and turn per step, the last four averaged over 0.7 s.

        The course is where the velocity points: in a bend the middle of a car does not move where it looks.
        """
        heading = recorded[..., 2]
        speed = _average(_forward_speed(recorded), self._STEADY)
        velocity = _average(recorded[..., 3:5], self._STEADY) * np.sign(speed)[..., None]
        course = np.arctan2(velocity[..., 1], velocity[..., 0])
        trusted = (np.abs(speed) > 1.0) & (np.abs(wrap_angle(course - heading)) < 0.5)
        course = np.where(trusted, course, heading)
        turn = _average(wrap_angle(np.diff(course, axis=1, append=course[:, -1:])), self._STEADY)
        acceleration = np.gradient(speed, dt, axis=1)
        return np.stack([recorded[..., 0], recorded[..., 1], course, speed, acceleration, turn], -1)

    def follow(self, states: Array, planned: Array, dt: float) -> Array:
        """What the recording does, corrected in proportion to the errors that the model has made so far.

        With e the recorded place as seen along and across the course:
        a = a* + 4 (s* - s) + 6 e_along, and κ d = turn* + 4 dt (course* + 1.5 e_across / s - ψ).

        Recorded speeds are noisy. Taken at their word, step by step, they ask for accelerations that jump
        by 3 m/s² from one step to the next and, in one of ten steps, for more than the box allows; these
        jump by 0.3 m/s², and one in four hundred is clipped. Of 59 vehicles seen to the end of 7 windows of
        4 recordings the median is 0.02 m away on average, and 0.08 m the other way. The numbers above were
        chosen with these vehicles in view, so others may fare a little worse.
        """
        x, y, course, wanted, acceleration, turn = np.moveaxis(planned, -1, 0)
        cos, sin, heading = np.cos(course), np.sin(course), states[..., 2]
        speed = _forward_speed(states)
        dx, dy = x - states[..., 0], y - states[..., 1]
        along, across = dx * cos + dy * sin, dy * cos - dx * sin
        acceleration = acceleration + self._SPEED * (wanted - speed) + self._PLACE * along
        lean = clip(self._SIDE * across / np.maximum(np.abs(speed), 1.0), 0.5) * np.sign(speed)
        turn = turn + self._HEADING * dt * wrap_angle(course + lean - heading)
        possible = clip(acceleration, self.axes[0].limit)
        return np.stack([acceleration, _curvature(speed, possible, turn, dt)], -1)


class Delta:
    """Displacement in the vehicle's own frame (x ahead, y to the left) and turn, in one step."""

    axes = (
        ActionComponent("dx", "m", 6.0),
        ActionComponent("dy", "m", 6.0),
        ActionComponent("dyaw", "rad", float(np.pi)),
    )

    def root(self, states: Array) -> Array:
        """Any state will do."""
        return np.array(states, np.float64)

    def forward(self, states: Array, actions: Array, dt: float) -> Array:
        """Move, turns; the velocity is the displacement over dt."""
        cos, sin = np.cos(states[..., 2]), np.sin(states[..., 2])
        dx = actions[..., 0] * cos - actions[..., 1] * sin
        dy = actions[..., 0] * sin + actions[..., 1] * cos
        heading = wrap_angle(states[..., 2] + actions[..., 2])
        return np.stack([states[..., 0] + dx, states[..., 1] + dy, heading, dx / dt, dy / dt], -1)

    def inverse(self, states: Array, following: Array, dt: float) -> Array:
        """The displacement, seen from the vehicle."""
        cos, sin = np.cos(states[..., 2]), np.sin(states[..., 2])
        dx, dy = following[..., 0] - states[..., 0], following[..., 1] - states[..., 1]
        turn = wrap_angle(following[..., 2] - states[..., 2])
        return np.stack([dx * cos + dy * sin, dy * cos - dx * sin, turn], -1)

    def plan(self, recorded: Array, dt: float) -> Array:
        """[V, T, 5]: the states one step later."""
        return np.concatenate([recorded[:, 1:], recorded[:, -1:]], 1)

    def follow(self, states: Array, planned: Array, dt: float) -> Array:
        """The inverse: one step is enough to be where the recording is."""
        return self.inverse(states, planned, dt)


CONTROLLERS: dict[str, Controller] = {"bicycle": Bicycle(), "delta": Delta()}


def find_controller(name: str) -> Controller:
    """Return the controller of a name.

    Raises:
        UnknownName: There is none of that name.
    """
    if name not in CONTROLLERS:
        known = " ".join(CONTROLLERS)
        raise UnknownName(
            f"no controller is called {name!r}.", f"There are: {known}", given=name, known=CONTROLLERS
        )
    return CONTROLLERS[name]


def clip(values: Array, limit: Array | float) -> Array:
    """Values in [-limit, limit]. On small arrays np.clip takes four times as long."""
    return np.minimum(np.maximum(values, -limit), limit)


def limits(controller: Controller) -> Array:
    """[A] float32: an action lies between their negative and them."""
    return np.array([axis.limit for axis in controller.axes], np.float32)


class Tracked(NamedTuple):
    """A recording as a controller drives it.

    Attributes:
        actions: [V, T-1, A] float32, inside their box.
        states: [V, T, 5] float64: what `actions` lead to from the first state, which is the recording's.
        clipped: [V, T-1] bool: the recording asked for more than the box allows.
    """

    actions: Array
    states: Array
    clipped: Array


def track(controller: Controller, recorded: Array, dt: float) -> Tracked:
    """Find actions that reproduce recordings, in closed loop.

    Each action is computed from the state that the actions before it have led to, as stored, rather than from
    the recorded state: what clipping, rounding and the model leave of an error is corrected afterwards.

    Args:
        controller: Of the vehicles.
        recorded: [V, T, 5] states of V vehicles.
        dt: Seconds per step.
    """
    limit = limits(controller)
    state = controller.root(recorded[:, 0])
    states, actions, clipped = [state], [], []
    decisions = recorded.shape[1] - 1
    planned = controller.plan(recorded, dt) if decisions else recorded
    for step in range(decisions):
        wanted = controller.follow(state, planned[:, step], dt)
        action = clip(wanted, limit).astype(np.float32)
        state = controller.forward(state, action.astype(np.float64), dt)
        states.append(state)
        actions.append(action)
        clipped.append((np.abs(wanted) > limit).any(-1))
    empty = np.zeros((len(recorded), 0, len(limit)), np.float32)
    return Tracked(
        np.stack(actions, 1) if actions else empty,
        np.stack(states, 1),
        np.stack(clipped, 1) if clipped else empty[..., 0].astype(bool),
    )


def _forward_speed(states: Array) -> Array:
    """m/s along the heading; negative in reverse."""
    speed: Array = states[..., 3] * np.cos(states[..., 2]) + states[..., 4] * np.sin(states[..., 2])
    return speed


def _average(values: Array, reach: int) -> Array:
    """The mean [V, T, …] over so many steps to either side, or as many as there are."""
    steps = np.arange(values.shape[1])
    low, high = np.maximum(steps - reach, 0), np.minimum(steps + reach + 1, len(steps))
    total = np.concatenate([np.zeros_like(values[:, :1]), np.cumsum(values, axis=1)], 1)
    mean: Array = (total[:, high] - total[:, low]) / (high - low).reshape(-1, *[1] * (values.ndim - 2))
    return mean


def _curvature(speed: Array, acceleration: Array, turn: Array, dt: float) -> Array:
    """1/m over one step, with which the heading changes by `turn`."""
    after, distance = speed + acceleration * dt, speed * dt + 0.5 * acceleration * dt**2
    # A vehicle whose speed changes its sign has stopped between: no curvature explains its turn either.
    moving = (np.minimum(np.abs(speed), np.abs(after)) >= STANDING) & (distance != 0)
    return np.divide(turn, distance, out=np.zeros_like(turn), where=moving)


def _state(x: Array, y: Array, heading: Array, speed: Array) -> Array:
    return np.stack([x, y, heading, speed * np.cos(heading), speed * np.sin(heading)], -1)
