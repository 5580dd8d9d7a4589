"""Name the environments of OGBench whose data are generated, and their single tasks."""

from typing import NamedTuple

from datasets_io.registry import OGBENCH


class Kind(NamedTuple):
    """An environment of OGBench.

    Attributes:
        type: Type of its data, in their names.
        default_task: Task of names without a task.
        horizon: Time limit in steps.
    """

    type: str
    default_task: int
    horizon: int


KINDS = {
    "cube-single": Kind("play", 2, 200),
    "cube-double": Kind("play", 2, 500),
    "scene": Kind("play", 2, 750),
    "puzzle-3x3": Kind("play", 4, 500),
    "pointmaze-medium": Kind("navigate", 1, 1000),
    "pointmaze-large": Kind("navigate", 1, 1000),
}
TASKS = range(1, 6)


def environment_id(environment: str, task: int) -> str:
    """Return the id of a task in Gymnasium, which `off2on.simulators` registers."""
    return f"{OGBENCH}{environment}-task{task}-v0"


def task_id(environment: str, task: int) -> str:
    """Return the id of a task in ogbench."""
    return f"{environment}-singletask-task{task}-v0"


def generated_names() -> dict[str, tuple[str, int]]:
    """Return environment and task (0: the default) of each data set that can be generated, by its name."""
    return {
        f"ogbench-{environment}-{kind.type}{f'-task{task}' if task else ''}": (environment, task)
        for environment, kind in KINDS.items()
        for task in (0, *TASKS)
    }
