"""The functions of off2on for Python: train, load a run, evaluate a policy, open a data set.

They are attributes of the package: ``off2on.train("iql", "toy-pendulum", updates=10_000)``.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from datasets_io import Shards, open_shards
from datasets_io.environments import options_for
from datasets_io.storage.writable import check_writable, example_folder
from off2on.errors import SimulatorError, UnknownName, UserError
from off2on.policy import load_policy
from off2on.runs.checkpoints import check_checkpoint
from off2on.runs.folder import policy_file
from off2on.runs.metadata import RunMetadata
from off2on.runs.record import find_run
from off2on.runs.tables import read_episodes, read_metrics
from off2on.training import evaluate as evaluation
from off2on.training.callbacks import Callbacks
from off2on.training.command_line import with_settings_of_run
from off2on.training.plan import Plan
from off2on.training.train import train as train_plan

__all__ = ["Callbacks", "LoadedRun", "evaluate", "load_run", "open_dataset", "train"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LoadedRun:
    """A run that was trained.

    Attributes:
        folder: Its folder.
        metadata: Content of its run.yaml.
    """

    folder: Path
    metadata: RunMetadata = field(repr=False)

    @property
    def metrics(self) -> pd.DataFrame:
        """Return metrics.csv: a row for each evaluation, empty cells as NaN."""
        return _numbers(read_metrics(self.folder), texts=("side",))

    @property
    def episodes(self) -> pd.DataFrame:
        """Return episodes.csv: a row for each episode of an evaluation."""
        return _numbers(read_episodes(self.folder), texts=("side",))

    @property
    def figures(self) -> list[Path]:
        """Return the figures of the report."""
        return sorted((self.folder / "figures").glob("*"))

    def policy(self, checkpoint: str = "last", target_return: float | None = None) -> nn.Module:
        """Return the deterministic policy: raw observations [B, D] to actions in the environment's units.

        Args:
            checkpoint: ``last``, ``handover``, or a name in ``policies``, which ``keep_policies`` keeps.
            target_return: Return that a Decision Transformer is asked for; None: that of its run.
        """
        return load_policy(policy_file(self.folder, checkpoint), target_return)

    def q(self, obs: Array, actions: Array, checkpoint: str = "last") -> Array:
        """Return each critic's value [E, B] of actions at observations, both in raw units.

        The checkpoint is unpickled, which can run any code: use this only for runs that you trust.

        Args:
            obs: Observations [B, D].
            actions: Actions [B, A], chunks of actions [B, h, A], or choices [B], of any type of numbers.
            checkpoint: Name of a folder in ``checkpoints``.

        Raises:
            UnknownName: There is no such checkpoint, or the algorithm has no critic.
        """
        from off2on.rllib.module import policy_from_checkpoint

        kept = [path.name for path in sorted((self.folder / "checkpoints").glob("*"))]
        if checkpoint not in kept:
            raise UnknownName(
                f"{self.folder} has no checkpoint {checkpoint!r}.",
                f"There are: {' '.join(kept) or 'none'}",
                given=checkpoint,
                known=kept,
            )
        policy = policy_from_checkpoint(check_checkpoint(self.folder, checkpoint))
        kind = torch.int64 if policy.discrete else torch.float32
        with torch.no_grad():
            values = policy.q(torch.as_tensor(obs, dtype=torch.float32), torch.as_tensor(actions, dtype=kind))
        if values is None:
            raise UnknownName(f"{self.metadata.algorithm} has no critic.")
        return values.numpy()

    def evaluate(
        self,
        episodes: int = 20,
        *,
        checkpoint: str = "last",
        seed: int = 0,
        target_return: float | None = None,
    ) -> pd.DataFrame:
        """Evaluate the policy in the run's environment; see the functions `evaluate` and `policy`.

        Raises:
            SimulatorError: The run has no environment.
        """
        env = self.metadata.known_env()
        if env is None:
            raise SimulatorError(f"{self.folder} has no simulator.")
        options = options_for(env, self.metadata.env, self.metadata.env_options or {})
        return evaluate(self.policy(checkpoint, target_return), env, episodes, seed=seed, options=options)


def train(
    algorithm: str | type | None = None,
    data: str | Path | None = None,
    *,
    resume: bool = False,
    callbacks: Callbacks | None = None,
    **options: Any,
) -> LoadedRun:
    """Train a run, as ``off2on train`` does.

    Args:
        algorithm: A name of the catalogue, ``package.module:Class``, or a class.
        data: Name or folder of a data set.
        resume: Continue the run from its last checkpoint.
        callbacks: Functions that the run calls.
        **options: Options of ``off2on train``, such as ``updates``, ``online`` and ``strategy``;
            ``hyperparameters``, ``strategy_options`` and ``online_overrides`` are dictionaries. With
            ``source``, a run or its folder, what is not given is that of the source: algorithm, data,
            updates, seed, learners, environment and hyperparameters.

    Returns:
        The run.

    Raises:
        UserError: An option is unknown or cannot work; nothing was started.
    """
    known = [field.name for field in dataclasses.fields(Plan) if field.name not in ("algorithm", "data")]
    for name in options:
        if name not in known:
            raise UnknownName(
                f"there is no option {name!r}.",
                f"There are: {' '.join(known)}. Hyperparameters are given as hyperparameters={{...}}.",
                given=name,
                known=known,
            )
    if isinstance(algorithm, type):
        algorithm = f"{algorithm.__module__}:{algorithm.__qualname__}"
    given = {"algorithm": algorithm, "data": None if data is None else str(data), **options}
    given = {name: value for name, value in given.items() if value is not None}
    if "source" in given:
        given = _from_source(given)
    for name in ("algorithm", "data"):
        if name not in given:
            raise UserError(
                f"{name} is missing.",
                "Expected an algorithm and data, or a run to start from, as source.",
                'off2on.train("iql", "toy-pendulum", updates=10_000)',
            )
    plan = Plan(**given)
    check_writable(plan.place, f"out={plan.out!r}", f"out={example_folder('runs')!r}")
    return load_run(train_plan(plan, resume, callbacks))


def _from_source(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a plan with the settings of the run that is their `source`."""
    source = given["source"]
    place = str(source.folder if isinstance(source, LoadedRun) else source)
    values = dict(given.pop("hyperparameters", {}))
    origins = dict.fromkeys([*given, *values], "given") | dict(given.pop("origins", {}))
    requested, values, origins = with_settings_of_run(given | {"source": place}, values, origins)
    return {**requested, "hyperparameters": values, "origins": origins}


def load_run(run: str | Path) -> LoadedRun:
    """Load a run.

    Args:
        run: Its folder, or a name with only one match in ./runs.

    Raises:
        UnknownName: There is no such run.
        UserError: There are several, or it is damaged.
    """
    return LoadedRun(*find_run(str(run)))


def evaluate(
    policy: nn.Module | Callable[[Array], Array],
    env: str,
    episodes: int = 20,
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Run a policy for whole episodes.

    Args:
        policy: Module of `load_policy`, or a function from observations [B, D] to actions, in raw units.
        env: Gymnasium id.
        episodes: Number of episodes.
        seed: Seed of the first episode; each further one adds 1.
        options: Arguments for making the environment.

    Returns:
        A row for each episode, with `return`, `length`, `seed`, and `success` (None if the environment does
        not report it).
    """
    act = evaluation.numpy_policy(policy) if isinstance(policy, nn.Module) else policy
    played = evaluation.evaluate(act, env, episodes=episodes, seed=seed, options=options)
    return pd.DataFrame({
        "return": [one.ret for one in played],
        "length": [one.length for one in played],
        "seed": [one.seed for one in played],
        "success": [one.success for one in played],
    })  # fmt: skip


def open_dataset(name: str | Path) -> Shards:
    """Open a data set by its name or folder.

    Raises:
        UnknownName: There is no such data set.
    """
    return open_shards(name)


def _numbers(rows: list[dict[str, str]], texts: tuple[str, ...]) -> pd.DataFrame:
    """Return rows as a frame, in which all columns but `texts` are numbers."""
    frame = pd.DataFrame(rows)
    for name in frame.columns.difference([*texts]):
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    return frame
