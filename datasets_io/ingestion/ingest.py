"""Ingest of a source as shards: atomic, in parallel through Ray Data, and resumable after a crash.

Each finished part has a Parquet file and a small JSON report, which is written last; a later run with the
same data, code and options keeps these parts and writes the others. When all parts are finished, the manifest
is written and the data set is published in one step (see `workspace`).
"""

import csv
import io
import json
from collections.abc import Callable
from copy import copy
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from datasets_io import storage
from datasets_io.environments import spaces_of
from datasets_io.errors import UserError
from datasets_io.faults import Quarantined
from datasets_io.ingestion.inspection import IngestOptions
from datasets_io.ingestion.manifest_builder import build_manifest
from datasets_io.ingestion.parallel import run_parts
from datasets_io.ingestion.part_job import PartJob
from datasets_io.ingestion.part_report import combine
from datasets_io.ingestion.workspace import open_workspace
from datasets_io.shards.manifest import SCHEMA_VERSION, space_to_json
from datasets_io.shards.reading import Shards
from datasets_io.source import Source
from datasets_io.storage import Place
from datasets_io.storage.names import check_name

QUARANTINE = "quarantine.csv"
"""File next to the manifest that lists the records that were left out."""

PartProgress = Callable[[int, int, int], None]
"""Callback with the arguments (rows written so far, parts finished, number of parts)."""


def ingest(
    source: Source,
    path: Any,
    out: str | Place,
    *,
    name: str,
    rows_per_shard: int = 100_000,
    discount: float | None = None,
    nan: str = "refuse",
    clip_actions: bool = False,
    store_new_obs: bool = False,
    overwrite: bool = False,
    id_prefix: str = "",
    progress: PartProgress | None = None,
) -> Shards:
    """Write the episodes of a source as the data set OUT/NAME.

    Args:
        source: Source of the episodes.
        path: Argument of `source.parts`: a file, a folder, or None.
        out: Folder of data sets (see `data_root`), on this machine or in a bucket.
        name: Name of the data set and of its folder.
        rows_per_shard: Approximate number of rows per file.
        discount: Store a column `ret` with this discount, from 0 to 1; `Shards` derives it, other readers do
            not.
        nan: `refuse` the data, or `drop-episode`: leave out each episode with a NaN or an infinity.
        clip_actions: Clip actions to the box of the action space instead of only reporting those outside.
        store_new_obs: Store `new_obs` with every row; `Shards` derives it, other readers do not.
        overwrite: Replace an existing data set of this name.
        id_prefix: Prefix of the ids of episodes for which the source gives none.
        progress: Callback that reports the progress.

    Returns:
        The data set.

    Raises:
        UserError: The name is not valid, see `check_name`, or the discount is out of range.
        Exists: A data set of this name exists, or another process is writing it, or its folder holds files
            that no ingest wrote.
        NoSpace: The disk is full; finished parts are kept for the next attempt.
        Unreachable: A bucket does not answer, or denies access; finished parts are kept.
        UnknownName: Nothing is found at `path`.
        BadValues: The data were refused; nothing is written.
        Corrupt: A file is truncated or has another format than its name says.
        MissingColumn: A column is missing.
    """
    options = IngestOptions(nan, clip_actions, store_new_obs)
    check_discount(discount)
    final = storage.locate(out) / check_name(name)
    workspace = open_workspace(final, overwrite)

    source = copy(source)
    source.rows_per_shard = rows_per_shard
    source.__dict__["_faults"] = []
    sha256 = source.fingerprint(path)
    parts = source.parts(path)
    observation_space, action_space = _spaces(source)
    if action_space is not None:
        options = IngestOptions(nan, clip_actions, store_new_obs, space_to_json(action_space))
    plan = {
        "sha256": sha256,
        "code": source.code_hash,
        "options": source.options(),
        "rules": asdict(options),
        "parts": len(parts),
        "rows_per_shard": rows_per_shard,
        "discount": discount,
        "versions": [SCHEMA_VERSION, pa.__version__],
    }
    split = rows_per_shard if len(parts) == 1 else None
    with workspace.begin(json.dumps(plan, sort_keys=True, default=str)):
        job = PartJob(
            source, workspace.folder, workspace.reports, options, discount, split, workspace.prefix, id_prefix
        )
        reports = run_parts(job, parts, progress)
        report = combine(reports, source.faults)
        if (refusal := report.refusal(path)) is not None:
            raise refusal
        manifest = build_manifest(
            source, path, name, report, (observation_space, action_space), sha256, discount
        )
        extra_files = {QUARANTINE: _csv(report.quarantined)} if report.quarantined else {}
        workspace.commit(manifest.to_json(), extra_files)
    return Shards(final)


def check_discount(discount: float | None) -> None:
    """Check the discount of a stored column `ret`.

    Raises:
        UserError: It is not between 0 and 1.
    """
    if discount is not None and not 0 <= discount <= 1:  # NaN is refused, too
        raise UserError(
            f"discount {discount:g} is out of range.", "Expected a number from 0 to 1.", "--discount 0.99"
        )


def _csv(records: list[Quarantined]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([Quarantined._fields, *records])
    return text.getvalue()


def _spaces(source: Source) -> tuple[Any, Any]:
    """Return the declared spaces, else those of the environment, else None: to be derived from the data."""
    observation_space, action_space = source.observation_space, source.action_space
    if source.env and (observation_space is None or action_space is None):
        spaces = spaces_of(source.env, source.env_options, named=not source.env_from_file)
        if spaces.error:
            detail = f"{source.env} cannot be created here; spaces are derived from the data ({spaces.error})"
            source.note("env", "", detail)
        if observation_space is None:
            observation_space, source.nested_observation_space = spaces.observation, spaces.nested
        action_space = spaces.action if action_space is None else action_space
    return observation_space, action_space
