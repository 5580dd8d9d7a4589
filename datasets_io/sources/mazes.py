"""Generate maze data: a scripted ball in Gymnasium-Robotics' PointMaze, as D4RL recorded its maze2d.

There is no such collector for AntMaze: it would need a policy that walks. Its data are read (Minari,
OGBench), and its environments run online like any other.
"""

import importlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from datasets_io import environments
from datasets_io.episode import Array, Episode
from datasets_io.errors import BadValues, UnknownName, UserError
from datasets_io.source import Source

_STIFFNESS, _DAMPING = 10.0, 1.0  # D4RL's gains: force per metre, force per metre and second
_ARRIVED = 0.45  # m, at which PointMaze calls a goal reached
_SCATTER = 0.25  # m, by which it moves goals off the middle of their cell


class Maze(NamedTuple):
    """A maze of Gymnasium-Robotics: the middle of its id, its map, and row and column of the goal in D4RL."""

    name: str
    map: str
    goal: tuple[int, int]


MAZES = {
    "umaze": Maze("UMaze", "U_MAZE", (1, 1)),
    "medium": Maze("Medium", "MEDIUM_MAZE", (6, 6)),
    "large": Maze("Large", "LARGE_MAZE", (7, 9)),
}


class PointMaze(Source):
    """A ball pushed through a maze from goal to goal by a noisy controller.

    The controller goes from cell to cell along a shortest path (breadth-first search) with a
    proportional-derivative law and Gaussian noise on the force; see D4RL, arXiv:2004.07219, section 5. An
    episode is as long as the environment's time limit; reaching a goal does not end it, so that every
    episode is truncated and none terminated. Observations, rewards and goals are the environment's own.

    Args:
        maze: `umaze`, `medium` or `large`.
        episodes: How many, of 300, 600 or 800 steps.
        seed: Of the environment and of the controller's noise; the same seed gives the same data.
        noise: Standard deviation of what is added to each force, which is then clipped to [-1, 1].
        dense: Reward exp(-distance to the goal), instead of 1 within 0.45 m of it and 0 elsewhere.
        goals: The observation is position, velocity and goal (6 numbers, m and m/s), and a goal that is
            reached is followed by another. False: position and velocity alone; the goal stays in one cell,
            as in D4RL's maze2d, up to 0.25 m off its middle; the controller travels to places of its own.
    """

    licence = "MIT"

    def __init__(
        self,
        maze: str = "umaze",
        episodes: int = 100,
        seed: int = 0,
        noise: float = 0.5,
        dense: bool = False,
        goals: bool = True,
    ) -> None:
        if maze not in MAZES:
            raise UnknownName(
                f"there is no maze {maze!r}.", f"There are: {' '.join(MAZES)}", given=maze, known=MAZES
            )
        if episodes < 1 or noise < 0:
            raise BadValues(f"{episodes} episodes with noise {noise}.", "At least 1, with noise from 0.")
        self.maze, self.count, self.seed, self.noise = maze, episodes, seed, noise
        self.dense, self.goals = dense, goals
        self.env = f"gymnasium_robotics:PointMaze_{MAZES[maze].name}{'Dense' if dense else ''}-v3"
        observe = ["observation", "desired_goal"] if goals else ["observation"]
        self.env_options = {"continuing_task": True, "reset_target": goals, environments.OBSERVE: observe}
        if not goals:
            self.env_options["maze_map"] = _map_with_goal(MAZES[maze])

    def parts(self, path: Any) -> list[range]:
        """Return ranges of episodes of about `rows_per_shard` rows; the cuts do not change the data."""
        _robotics()
        import gymnasium as gym

        steps = gym.spec(str(self.env).partition(":")[2]).max_episode_steps
        each = max(1, self.rows_per_shard // steps)
        return [range(first, min(first + each, self.count)) for first in range(0, self.count, each)]

    def episodes(self, part: Any) -> Iterator[Episode]:
        """Simulate and yield the episodes in order."""
        env = environments.make(str(self.env), self.env_options)
        inner = env.unwrapped
        planner = Planner(np.array(inner.maze.maze_map, object) != 1)
        for number in part:
            rng = np.random.default_rng([self.seed, number])
            obs, _ = env.reset(seed=int(rng.integers(2**31)))
            seen, actions, rewards = [obs], [], []
            target, truncated = planner.place(rng), False
            while not truncated:
                if self.goals:
                    target = inner.goal
                elif np.hypot(*(target - obs[:2])) <= _ARRIVED:
                    target = planner.place(rng)
                force = _STIFFNESS * (planner.waypoint(obs[:2], target) - obs[:2]) - _DAMPING * obs[2:4]
                action = (force + self.noise * rng.normal(size=2)).clip(-1, 1).astype(np.float32)
                obs, reward, _, truncated, _ = env.step(action)
                seen.append(obs)
                actions.append(action)
                rewards.append(reward)
            yield Episode(np.stack(seen), np.stack(actions), np.array(rewards), terminated=False)
        env.close()


class Planner:
    """Shortest paths between all cells of a maze of square cells of 1 m, centred at the origin.

    Args:
        free: [rows, columns] bool, cells without a wall; those at the border are walls.
    """

    def __init__(self, free: Array) -> None:
        self.shape = free.shape
        rows, columns = np.indices(free.shape)
        # x to the right, y up, as the environment lays its map.
        self.centres = np.stack([columns - (free.shape[1] - 1) / 2, (free.shape[0] - 1) / 2 - rows], axis=-1)
        self.places = self.centres[free]
        self.centres = self.centres.reshape(-1, 2)
        self.next = _next_cells(free)

    def place(self, rng: np.random.Generator) -> Array:
        """Draw a random target [2], as the environment draws its goals."""
        place: Array = rng.choice(self.places) + rng.uniform(-_SCATTER, _SCATTER, 2)
        return place

    def waypoint(self, position: Array, target: Array) -> Array:
        """Return the next waypoint [2]: the target itself in its own cell, else the next cell's middle."""
        here, there = self._cell(position), self._cell(target)
        waypoint: Array = target if here == there else self.centres[self.next[there, here]]
        return waypoint

    def _cell(self, position: Array) -> int:
        rows, columns = self.shape
        return int(rows / 2 - position[1]) * int(columns) + int(position[0] + columns / 2)


def _next_cells(free: Array) -> Array:
    """Return the next cell on the shortest path [to, from], by breadth-first search from all cells.

    Cells are counted along the rows. Where there is no path it is any neighbour.
    """
    cells, (rows, columns) = free.size, free.shape
    distance = np.where(np.eye(cells, dtype=bool), 0, np.inf).reshape(cells, rows, columns)
    while True:
        # Above, below, left, right. The border is wall, so nothing comes round from the other side.
        around = np.stack([np.roll(distance, shift, axis) for axis in (1, 2) for shift in (1, -1)])
        further = np.where(free, np.minimum(distance, around.min(axis=0) + 1), np.inf)
        if np.array_equal(further, distance):
            offsets = np.array([-columns, columns, -1, 1])
            nearest_one: Array = np.arange(cells) + offsets[around.argmin(axis=0).reshape(cells, cells)]
            return nearest_one
        distance = further


def _map_with_goal(maze: Maze) -> list[list[Any]]:
    _robotics()
    maps = importlib.import_module("gymnasium_robotics.envs.maze.maps")
    cells = [list(row) for row in getattr(maps, maze.map)]
    cells[maze.goal[0]][maze.goal[1]] = "g"
    return cells


def _robotics() -> None:
    """Register the environments.

    Raises:
        UserError: The package is missing.
    """
    try:
        importlib.import_module("gymnasium_robotics")
    except ImportError as error:
        raise UserError(
            f"mazes need gymnasium-robotics: {error}.", "", "pip install 'off2on[robotics]'"
        ) from None
