"""Follow the protocols of OGBench's play and navigation data: one trajectory from a seed and a number.

The order of the draws within a trajectory is that of the authors' scripts (ogbench, data_gen_scripts); the
seeds are not: every trajectory has its own, so that it does not depend on the ones before it.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from datasets_io.episode import Array
from datasets_io.sources.ogbench_simulation import make_inner, seeded_draws

STEPS = 1000
"""Transitions of a trajectory, which has one state more."""
PLAN_NOISE, PLAN_SMOOTHING = 0.1, 0.5
STEER_NOISE = 0.5
"""Standard deviation of the noise on each action in a maze, whose actions lie in [-1, 1]."""
_STACKING = {"cube-single": (0.0, 0.0), "cube-double": (0.0, 0.25)}
"""Range of the probability that a cube is put onto another one."""

States = dict[str, Array]
Simulate = Callable[[int, int], States]


def simulator(environment: str) -> Simulate:
    """Return a function from a seed and the number of a trajectory to its states and actions.

    Args:
        environment: `cube-single`, `pointmaze-medium`, …

    Returns:
        The function. Its result has `observations` [1001, D], `qpos` [1001, Q], `actions` [1000, A], all
        float32, and `button_states` [1001, B] of environments with buttons.
    """
    run = _navigate if environment.startswith("pointmaze") else _play
    options = {} if run is _navigate else {"mode": "data_collection"}
    env = make_inner(f"{environment}-v0", terminate_at_goal=False, **options)

    def simulate(seed: int, number: int) -> States:
        attempt = 0
        while True:
            # 2^32 values of each: of NumPy's global generator, and of the environment's own.
            own, global_ = map(int, np.random.SeedSequence([seed, number, attempt]).generate_state(2))
            env.action_space.seed(own)
            with seeded_draws(global_):
                states = run(env, environment, own)
            if environment != "scene" or _is_cube_visible(states["qpos"]):
                return states
            attempt += 1

    return simulate


def _play(env: Any, environment: str, seed: int) -> States:
    """Let the scripted policies of an arm's environment pursue random targets."""
    policies = _policies(env, environment)
    obs, info = env.reset(seed=seed)
    stacking = 0.5
    if environment.startswith("cube"):
        low, high = _STACKING[environment]
        stacking = np.random.uniform(low, high) if high else low  # noqa: NPY002
    policy = policies[info["privileged/target_task"]]
    policy.reset(obs, info)
    record = _Record()
    for _ in range(STEPS):
        np.random.rand()  # noqa: NPY002  the scripts draw here whether to act at random, with probability 0
        action = np.clip(policy.select_action(obs, info), -1, 1)
        record.add(obs, info, action)
        obs, _, _, _, info = env.step(action)
        if policy.done:
            target_obs, target_info = env.set_new_target(p_stack=stacking)
            policy = policies[target_info["privileged/target_task"]]
            policy.reset(target_obs, target_info)
    record.add(obs, info)
    return record.states()


def _policies(env: Any, environment: str) -> Mapping[str, Any]:
    """Return the scripted policy of each kind of target."""
    kinds = {"cube": ("cube",), "scene": ("cube", "button", "drawer", "window"), "puzzle": ("button",)}
    policies = {}
    for kind in kinds[environment.partition("-")[0]]:
        module = importlib.import_module(f"ogbench.manipspace.oracles.plan.{kind}_plan")
        more = {"gripper_always_closed": True} if environment.startswith("puzzle") else {}
        policies[kind] = getattr(module, f"{kind.capitalize()}PlanOracle")(
            env=env, noise=PLAN_NOISE, noise_smoothing=PLAN_SMOOTHING, **more
        )
    return policies


def _is_cube_visible(qpos: Array) -> bool:
    """Return True if the cube never left the table of `scene`, except into the drawer."""
    y, z = qpos[:, 15], qpos[:, 16]
    outside = (y <= -0.3) & ((z < 0.06) | (z > 0.08))
    return not ((y >= 0.29) | outside).any()


def _navigate(env: Any, environment: str, seed: int) -> States:
    """Steer a point through a maze along shortest paths, from goal to goal."""
    del environment
    cells = [(int(i), int(j)) for i, j in np.argwhere(env.maze_map == 0)]
    corners = [cell for cell in cells if not _is_hallway(env.maze_map, *cell)]

    def draw(places: list[tuple[int, int]]) -> tuple[int, int]:
        return places[np.random.randint(len(places))]  # noqa: NPY002

    start, goal = draw(cells), draw(corners)
    obs, info = env.reset(seed=seed, options={"task_info": {"init_ij": start, "goal_ij": goal}})
    info = {"qpos": obs}
    record = _Record()
    for _ in range(STEPS):
        way = env.get_oracle_subgoal(env.get_xy(), env.cur_goal_xy)[0] - env.get_xy()
        way = way / (np.linalg.norm(way) + 1e-6)
        action = np.clip(way + np.random.normal(0, STEER_NOISE, 2), -1, 1)  # noqa: NPY002
        record.add(obs, info, action)
        obs, _, _, _, info = env.step(action)
        if info["success"]:
            env.set_goal(goal_xy=env.add_noise(env.ij_to_xy(draw(corners))))
    record.add(obs, info)
    return record.states()


def _is_hallway(maze: Array, i: int, j: int) -> bool:
    """Return True for a free cell with walls on two opposite sides and none on the others."""
    walls = (maze[i - 1, j], maze[i + 1, j], maze[i, j - 1], maze[i, j + 1])
    return walls in ((0, 0, 1, 1), (1, 1, 0, 0))


class _Record:
    """Rows of a trajectory, in the types of OGBench's files."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Array]] = {"observations": [], "qpos": [], "actions": []}

    def add(self, obs: Array, info: Mapping[str, Any], action: Array | None = None) -> None:
        """Add a state, and the action in it."""
        self._rows["observations"].append(obs)
        self._rows["qpos"].append(info["qpos"])
        if "button_states" in info:
            self._rows.setdefault("button_states", []).append(info["button_states"])
        if action is not None:
            self._rows["actions"].append(action)

    def states(self) -> States:
        """Return the rows as arrays."""
        return {
            name: np.array(rows, np.int64 if name == "button_states" else np.float32)
            for name, rows in self._rows.items()
        }
