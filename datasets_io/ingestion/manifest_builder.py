"""Construction of the manifest of a new data set."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from datasets_io.errors import BadValues
from datasets_io.faults import Fault
from datasets_io.flatten import flat_space
from datasets_io.ingestion.part_report import PartReport
from datasets_io.shards.manifest import Generation, Manifest, content_hash, space_to_json
from datasets_io.source import Source
from datasets_io.storage.nested_spaces import nested_to_json


def build_manifest(
    source: Source,
    path: Any,
    name: str,
    report: PartReport,
    spaces: tuple[Any, Any],
    sha256: str,
    discount: float | None,
) -> Manifest:
    """Build the manifest from the combined report of the parts and the attributes of the source.

    Args:
        source: Source of the data.
        path: Path that was read.
        name: Name of the data set.
        report: Combined report of all parts.
        spaces: Observation and action space; None: derive it from the data.
        sha256: SHA-256 of the data that were read.
        discount: Discount of the stored column `ret`.

    Raises:
        BadValues: The spaces do not fit the data.
    """
    observation_space, nested = _observation_space(spaces[0], source.nested_observation_space, report)
    faults = [*report.faults, *([] if source.expects_one_step_episodes else _one_step(report))]
    generation = Generation(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source={
            "kind": type(source).__name__,
            "path": str(path) if isinstance(path, str | Path) else None,
            "sha256": sha256,
            "options": source.options(),
        },
        rows=report.rows,
        episodes=len(report.lengths),
        terminated=report.terminated,
        truncated=report.truncated,
        files=len(report.files),
        scene_files=len(report.scene_files),
        moments={column: moments.to_json() for column, moments in report.moments.items()},
        faults=faults,
    )
    return Manifest(
        name=name,
        description=source.description,
        licence=source.licence,
        source=generation.source,
        created=generation.created,
        observation_space=observation_space,
        action_space=_action_space(spaces[1], report),
        env_id=source.env,
        env_options=dict(source.env_options),
        rows=generation.rows,
        episodes=generation.episodes,
        terminated=generation.terminated,
        truncated=generation.truncated,
        columns=report.columns,
        statistics={column: moments.summary() for column, moments in report.moments.items()},
        returns=report.returns,
        lengths=report.lengths,
        files=report.files,
        scene_files=report.scene_files,
        content_hash=content_hash(report.files),
        discount=discount,
        faults=faults,
        generations=[generation],
        nested_observation_space=None if nested is None else nested_to_json(nested),
    )


def _observation_space(space: Any, nested: Any, report: PartReport) -> tuple[dict[str, Any], Any]:
    """Return the space of the stored rows as plain values, and the one that they were flattened from."""
    from gymnasium.spaces import Box

    shape, matrix = report.moments["obs"].mean.shape, tuple(report.obs_shape)
    if nested is None and matrix:
        nested = space if space is not None and space.shape == matrix else Box(-np.inf, np.inf, matrix)
        space = flat_space(nested) if space is nested else space
    if space is None or hasattr(space, "n"):  # a discrete observation is stored as one number
        return space_to_json(Box(-np.inf, np.inf, shape)), nested
    if space.shape != shape:
        raise BadValues(
            f"observations have shape {list(matrix or shape)}, those of the environment {list(space.shape)}.",
            "The environment or observation space of the source must be that of the data.",
        )
    return space_to_json(space), nested


def _one_step(report: PartReport) -> list[Fault]:
    """Return the fault of data of which most episodes have one step."""
    lengths = np.asarray(report.lengths)
    if len(lengths) < 10 or (lengths == 1).mean() <= 0.5:
        return []
    detail = (
        f"of {len(lengths):,} episodes have one step: are discounts, masks or step types given as ends? A 1"
        " marks the row that ends an episode"
    )
    return [Fault("one_step", "", detail, count=int((lengths == 1).sum()))]


def _action_space(space: Any, report: PartReport) -> dict[str, Any]:
    from gymnasium.spaces import Box, Discrete

    if space is not None:
        return space_to_json(space)
    actions = report.moments["actions"]
    if actions.mean.ndim == 0:
        return space_to_json(Discrete(int(actions.high) + 1))
    return space_to_json(Box(actions.low.astype(np.float32), actions.high.astype(np.float32)))
