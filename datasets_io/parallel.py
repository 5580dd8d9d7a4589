"""Parts of an ingest in parallel, through Ray Data; one part alone needs no Ray."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from datasets_io import errors
from datasets_io.errors import UserError

if TYPE_CHECKING:
    from datasets_io.ingest import Job
    from datasets_io.reports import PartReport


def run_parts(
    job: "Job", parts: list[Any], progress: Callable[[int, int, int], None] | None
) -> list["PartReport"]:
    """Writes every part that is not there yet.

    Args:
        job: Writes one part.
        parts: What `Source.parts` gave.
        progress: Called with (rows, parts finished, parts in all).

    Returns:
        The reports, in the order of `parts`.

    Raises:
        UserError: As a part raised it, in whatever process.
    """
    reports = [job.finished(index) for index in range(len(parts))]
    todo = [index for index, report in enumerate(reports) if report is None]
    if len(todo) == 1:
        before = sum(report.rows for report in reports if report)

        def rows_written(rows: int) -> None:
            if progress is not None:
                progress(before + rows, len(parts) - 1, len(parts))

        reports[todo[0]] = job.write(todo[0], parts[todo[0]], rows_written)
    elif todo:
        _through_ray(job, parts, todo, reports, progress)
    whole = [report for report in reports if report is not None]
    if progress is not None:
        progress(sum(report.rows for report in whole), len(whole), len(parts))
    return whole


def _through_ray(
    job: "Job",
    parts: list[Any],
    todo: list[int],
    reports: list["PartReport | None"],
    progress: Callable[[int, int, int], None] | None,
) -> None:
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    import ray
    import ray.data
    from ray import cloudpickle

    ours = not ray.is_initialized()
    if ours:
        # A bare ray.init() would join any cluster that happens to run on this machine.
        address = None if os.environ.get("RAY_ADDRESS") else "local"
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # Bytes, not objects: a worker must extend its path before it can import a user's source.
        payload = ray.put((sys.path, cloudpickle.dumps((job, parts))))

        def task(row: dict[str, Any]) -> dict[str, Any]:
            path, pickled = ray.get(payload)
            sys.path.extend(entry for entry in path if entry not in sys.path)
            its_job, its_parts = cloudpickle.loads(pickled)
            index = int(row["index"])
            try:
                its_job.write(index, its_parts[index])
            except UserError as error:  # as data: Ray would wrap it in a traceback of its own
                return {"index": index, "error": type(error).__name__, "args": [str(x) for x in error.args]}
            return {"index": index, "error": "", "args": [""]}

        rows = [{"index": index} for index in todo]
        finished = ray.data.from_items(rows, override_num_blocks=len(rows)).map(task)
        for row in finished.iter_rows():
            if row["error"]:
                raise getattr(errors, row["error"])(*row["args"])
            reports[row["index"]] = job.finished(row["index"])
            if progress is not None:
                there = [report for report in reports if report is not None]
                progress(sum(report.rows for report in there), len(there), len(parts))
    finally:
        if ours:
            ray.shutdown()
